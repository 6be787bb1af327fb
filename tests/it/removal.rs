//! The end of a tenant.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_core::{Error, ErrorKind, TenantState};
use mt_tests::Installation;
use sea_orm::{TransactionSession as _, TransactionTrait as _};

use crate::support::{
    Flaky, Process, add, column, eventually, file_of, kind_in, names, notes, refusal, state, tenant,
};

type Done = Result<(), Error>;

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tenant_leaves_a_receipt_and_comes_back_empty() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    add(&tenants.get_adapters(&acme).await.unwrap(), "old").await.unwrap();
    tenants.deprovision(&acme).await.unwrap();

    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
    assert!(tenants.list().await.unwrap().is_empty());
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotFound);
    assert_eq!(tenants.deprovision(&acme).await.unwrap_err().kind(), ErrorKind::TenantNotFound);
    assert_eq!(names(&installation.tenants_path()), Vec::<std::path::PathBuf>::new());

    let record = tenants.provision(&acme).await.unwrap();
    assert_eq!(record.placement.generation.get(), 2);
    let data = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(data.stamp().generation.get(), 2);
    assert!(notes(&data).await.unwrap().is_empty());
    assert!(file_of(&installation, "acme", 2).exists());
    assert!(!file_of(&installation, "acme", 1).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_removal_keeps_the_database_and_is_repeated() {
    let installation = Installation::new().unwrap();
    let hook = Flaky::failing(1);
    let hooking = hook.clone();
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.on_deprovision(move |_| {
                let outcome = hooking.call();
                async move { outcome }
            })
        })
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    add(&tenants.get_adapters(&acme).await.unwrap(), "kept").await.unwrap();

    assert_eq!(tenants.deprovision(&acme).await.unwrap_err().kind(), ErrorKind::HookFailed);
    let record = tenants.catalog().get(&acme).await.unwrap();
    assert_eq!(record.state, TenantState::Failed);
    assert!(record.last_error.unwrap().contains("the mail server is down"));
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    let file = file_of(&installation, "acme", 1);
    assert_eq!(column(&file, "SELECT text FROM notes"), ["kept"]);

    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(hook.calls(), 2);
    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_died_half_way_is_finished_by_the_next() {
    let installation = Installation::new().unwrap();
    let reached = Arc::new(AtomicBool::new(false));
    let here = Arc::clone(&reached);
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.on_deprovision(move |_| {
                here.store(true, Ordering::SeqCst);
                std::future::pending::<Done>()
            })
        })
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let dying = tokio::spawn({
        let (tenants, acme) = (tenants.clone(), acme.clone());
        async move { tenants.deprovision(&acme).await }
    });
    eventually("the hook", || async { reached.load(Ordering::SeqCst) }).await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    assert_eq!(state(&tenants, &acme).await, TenantState::Deprovisioning);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    let next = Process::of(&installation).open().await;
    next.deprovision(&acme).await.unwrap();
    assert_eq!(state(&next, &acme).await, TenantState::Deleted);
    assert!(!file_of(&installation, "acme", 1).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_stops_a_removal_and_the_tenant_is_served_on() {
    let installation = Installation::new().unwrap();
    let hook = Flaky::default();
    let hooking = hook.clone();
    let tenants = Process::of(&installation)
        .drain(Duration::from_millis(100))
        .hooks(move |isolation| {
            isolation.on_deprovision(move |_| {
                let outcome = hooking.call();
                async move { outcome }
            })
        })
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    add(&data, "acknowledged").await.unwrap();
    let transaction = data.begin().await.unwrap();
    add(&transaction, "not committed").await.unwrap();

    let error = tenants.deprovision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(hook.calls(), 0, "nothing had begun");
    let record = tenants.catalog().get(&acme).await.unwrap();
    assert_eq!(record.state, TenantState::Active);
    assert!(record.last_error.is_some());
    assert!(transaction.commit().await.is_err(), "it was told that it is over");

    let fresh = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(notes(&fresh).await.unwrap(), ["acknowledged"]);
    add(&fresh, "more").await.unwrap();
    drop((data, fresh));
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(hook.calls(), 1);
}

/// The hook copies the database; whatever a writer was told is written must be in that copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_is_acknowledged_after_the_removal_hook_began() {
    const WRITERS: usize = 8;
    let installation = Installation::new().unwrap();
    let copy = installation.path().join("last.sqlite");
    let target = copy.clone();
    let hook = move |context: mt_control::HookContext| {
        let target = target.clone();
        async move {
            let mut sink = tokio::fs::File::create(&target).await.unwrap();
            context.factory.backup(&context.tenant, &mut sink).await.map(drop)
        }
    };
    let tenants = Process::of(&installation)
        .hooks(move |isolation| isolation.on_deprovision(hook))
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (tenants, acme) = (tenants.clone(), acme.clone());
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                for number in 0.. {
                    let text = format!("{writer}:{number}");
                    let Ok(data) = tenants.get_adapters(&acme).await else { return };
                    let written = if number % 3 == 0 {
                        let transaction = data.begin().await;
                        match transaction {
                            Ok(transaction) => match add(&transaction, &text).await {
                                Ok(()) => transaction.commit().await,
                                refused => refused,
                            },
                            Err(error) => Err(error),
                        }
                    } else {
                        add(&data, &text).await
                    };
                    match written {
                        Ok(()) => acknowledged.lock().unwrap().push(text),
                        Err(error) => {
                            assert_eq!(
                                kind_in(&error),
                                Some(ErrorKind::TenantNotActive),
                                "{error}"
                            );
                        }
                    }
                }
            })
        })
        .collect();
    eventually("writes", || async { acknowledged.lock().unwrap().len() > 100 }).await;
    tenants.deprovision(&acme).await.unwrap();
    join_all(writers).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();

    let kept = column(&copy, "SELECT text FROM notes ORDER BY text");
    let mut acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    acknowledged.sort();
    assert!(acknowledged.len() > 100);
    let lost: Vec<_> =
        acknowledged.iter().filter(|text| kept.binary_search(text).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and not in the copy: {lost:?}");
    assert!(!file_of(&installation, "acme", 1).exists());
}

/// Takes a backup of the tenant, as the specification's own hook does.
async fn backing_up(context: mt_control::HookContext) -> Done {
    let mut copy = Vec::new();
    context.factory.backup(&context.tenant, &mut copy).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_goes_on_when_the_database_is_gone_already() {
    let installation = Installation::new().unwrap();
    let hooks = |isolation: mt_control::DatabaseIsolation| isolation.on_deprovision(backing_up);
    let tenants = Process::of(&installation).hooks(hooks).open().await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    // As a process that died after removing the file and before noting it would leave it.
    std::fs::remove_file(file_of(&installation, "acme", 1)).unwrap();
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_never_got_a_database_is_removed() {
    let installation = Installation::new().unwrap();
    std::fs::create_dir_all(installation.tenants_path()).unwrap();
    let file = file_of(&installation, "acme", 1);
    std::fs::write(&file, "no database, and somebody's. ".repeat(100)).unwrap();
    let hooks = |isolation: mt_control::DatabaseIsolation| isolation.on_deprovision(backing_up);
    let tenants = Process::of(&installation).hooks(hooks).open().await;
    let acme = tenant("acme");
    assert_eq!(tenants.provision(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(tenants.deprovision(&acme).await.is_err(), "what stands there is not ours to remove");
    std::fs::rename(&file, installation.path().join("moved away")).unwrap();
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
}
