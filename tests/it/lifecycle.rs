//! A tenant's way through its states.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_control::{AccessControl, MultiTenancy};
use mt_core::{CacheSettings, Error, ErrorKind, TenantState};
use mt_tests::Installation;
use sea_orm::TransactionTrait as _;

use crate::support::{
    Flaky, Process, add, column, eventually, file_of, kind_in, names, notes, outside, refusal,
    state, tenant,
};

type Done = Result<(), Error>;

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_sees_a_tenant_that_is_made_and_not_served() {
    let installation = Installation::new().unwrap();
    let service: Arc<OnceLock<MultiTenancy>> = Arc::default();
    let seen: Arc<Mutex<Vec<(TenantState, ErrorKind)>>> = Arc::default();
    let (asked, noted) = (Arc::clone(&service), Arc::clone(&seen));
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.on_provision(move |context| {
                let (asked, noted) = (asked.get().unwrap().clone(), Arc::clone(&noted));
                async move {
                    let at = state(&asked, &context.tenant).await;
                    let kind = refusal(&asked, &context.tenant).await;
                    noted.lock().unwrap().push((at, kind));
                    Done::Ok(())
                }
            })
        })
        .open()
        .await;
    service.set(tenants.clone()).unwrap();
    let acme = tenant("acme");
    assert_eq!(tenants.provision(&acme).await.unwrap().state, TenantState::Active);
    let expected = (TenantState::Provisioning, ErrorKind::TenantNotActive);
    assert_eq!(*seen.lock().unwrap(), [expected]);
    assert!(tenants.get_adapters(&acme).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_before_the_last_step_is_done() {
    let installation = Installation::new().unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let other = Process::of(&installation)
        .settings(|builder| builder.with_state_ttl(Duration::from_millis(20)))
        .open()
        .await;
    let (done, watched) = (Arc::clone(&is_done), other.clone());
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.seed(|data| async move { add(&data, "seeded").await }).on_provision(
                move |context| {
                    let (done, watched) = (Arc::clone(&done), watched.clone());
                    async move {
                        for _ in 0..50 {
                            let kind = refusal(&watched, &context.tenant).await;
                            assert_eq!(kind, ErrorKind::TenantNotActive);
                        }
                        done.store(true, Ordering::SeqCst);
                        Done::Ok(())
                    }
                },
            )
        })
        .open()
        .await;
    let acme = tenant("acme");
    let asks = |service: MultiTenancy| {
        let (acme, is_done) = (acme.clone(), Arc::clone(&is_done));
        tokio::spawn(async move {
            loop {
                match service.get_adapters(&acme).await {
                    Ok(data) => {
                        assert!(is_done.load(Ordering::SeqCst), "served too early");
                        return notes(&data).await.unwrap();
                    }
                    Err(error) => assert!(
                        [ErrorKind::TenantNotFound, ErrorKind::TenantNotActive]
                            .contains(&error.kind()),
                        "{error:?}"
                    ),
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let asking = [asks(tenants.clone()), asks(other)];
    tenants.provision(&acme).await.unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), ["seeded"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_seed_is_noted_and_never_served_and_repeated() {
    let installation = Installation::new().unwrap();
    let seed = Flaky::failing(2);
    let seeding = seed.clone();
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.seed(move |_| {
                let outcome = seeding.call();
                async move { outcome }
            })
        })
        .open()
        .await;
    let other = Process::of(&installation).open().await;
    let acme = tenant("acme");
    for calls in 1..=2 {
        let error = tenants.provision(&acme).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::HookFailed, Some(&acme)));
        assert_eq!(seed.calls(), calls);
        let record = tenants.catalog().get(&acme).await.unwrap();
        assert_eq!(record.state, TenantState::Failed);
        assert!(record.last_error.unwrap().contains("the mail server is down"));
        assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
        assert_eq!(refusal(&other, &acme).await, ErrorKind::TenantNotActive);
    }
    let record = tenants.provision(&acme).await.unwrap();
    assert_eq!((record.state, record.last_error), (TenantState::Active, None));
    assert_eq!(seed.calls(), 3);
    assert!(tenants.get_adapters(&acme).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_hook_is_noted_and_never_served_and_repeated_with_its_seed() {
    let installation = Installation::new().unwrap();
    let (seed, hook) = (Flaky::default(), Flaky::failing(1));
    let (seeding, hooking) = (seed.clone(), hook.clone());
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation
                .seed(move |_| {
                    let outcome = seeding.call();
                    async move { outcome }
                })
                .on_provision(move |_| {
                    let outcome = hooking.call();
                    async move { outcome }
                })
        })
        .open()
        .await;
    let acme = tenant("acme");
    assert_eq!(tenants.provision(&acme).await.unwrap_err().kind(), ErrorKind::HookFailed);
    let record = tenants.catalog().get(&acme).await.unwrap();
    assert_eq!(record.state, TenantState::Failed);
    assert!(record.last_error.unwrap().contains("on_provision failed"));
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    assert!(file_of(&installation, "acme", 1).exists(), "the database stays for the next try");
    tenants.provision(&acme).await.unwrap();
    assert_eq!((seed.calls(), hook.calls()), (2, 2));
    assert!(tenants.get_adapters(&acme).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioning_that_died_half_way_is_finished_by_the_next() {
    let installation = Installation::new().unwrap();
    let reached = Arc::new(AtomicBool::new(false));
    let here = Arc::clone(&reached);
    let tenants = Process::of(&installation)
        .hooks(move |isolation| {
            isolation.seed(|data| async move { add(&data, "seeded").await }).on_provision(
                move |_| {
                    here.store(true, Ordering::SeqCst);
                    std::future::pending::<Done>()
                },
            )
        })
        .open()
        .await;
    let acme = tenant("acme");
    let dying = tokio::spawn({
        let (tenants, acme) = (tenants.clone(), acme.clone());
        async move { tenants.provision(&acme).await }
    });
    eventually("the hook", || async { reached.load(Ordering::SeqCst) }).await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    assert_eq!(state(&tenants, &acme).await, TenantState::Provisioning);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);

    let next = Process::of(&installation).open().await;
    assert_eq!(next.provision(&acme).await.unwrap().state, TenantState::Active);
    assert_eq!(notes(&next.get_adapters(&acme).await.unwrap()).await.unwrap(), ["seeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_may_provision_again_and_use_the_database() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation)
        .hooks(|isolation| {
            isolation.seed(|data| async move { add(&data, "seeded").await }).on_provision(
                |context| async move {
                    context.factory.provision(&context.tenant).await?;
                    let data = context.factory.get_adapters(&context.tenant).await?;
                    add(&data, "from the hook").await.map_err(|e| {
                        Error::from_db_err(e, ErrorKind::Statement, "the hook cannot write")
                    })
                },
            )
        })
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(notes(&data).await.unwrap(), ["seeded", "from the hook"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_there_is_not_made_again() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    add(&data, "kept").await.unwrap();
    let other = Process::of(&installation).open().await;
    for again in [&tenants, &other] {
        let error = again.provision(&acme).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantExists);
    }
    tenants.suspend(&acme).await.unwrap();
    assert_eq!(tenants.provision(&acme).await.unwrap_err().kind(), ErrorKind::TenantExists);
    assert_eq!(state(&tenants, &acme).await, TenantState::Suspended);
    tenants.activate(&acme).await.unwrap();
    assert_eq!(notes(&tenants.get_adapters(&acme).await.unwrap()).await.unwrap(), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_provision_one_tenant_at_once_make_one() {
    let installation = Installation::new().unwrap();
    let (one, two) =
        (Process::of(&installation).open().await, Process::of(&installation).open().await);
    let acme = tenant("acme");
    let calls =
        (0..16).map(|n| if n % 2 == 0 { one.provision(&acme) } else { two.provision(&acme) });
    let outcomes = join_all(calls).await;
    for outcome in &outcomes {
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::TenantExists, "{error:?}");
        }
    }
    assert!(outcomes.iter().any(Result::is_ok));
    let record = one.catalog().get(&acme).await.unwrap();
    assert_eq!((record.state, record.placement.generation.get()), (TenantState::Active, 1));
    assert!(one.get_adapters(&acme).await.is_ok() && two.get_adapters(&acme).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_differs_by_case_only_creates_nothing() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    tenants.provision(&tenant("acme")).await.unwrap();
    // SQLite's own files beside it come and go with the connections.
    let kept = || {
        let mut files = names(&installation.tenants_path());
        files.retain(|file| !file.to_str().is_some_and(|name| name.contains(".sqlite-")));
        files
    };
    let before = kept();
    assert_eq!(before.len(), 2, "the database and its lock: {before:?}");
    for id in ["Acme", "ACME", "acmE"] {
        let error = tenants.provision(&tenant(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantExists, "{id}");
        assert_eq!(refusal(&tenants, &tenant(id)).await, ErrorKind::TenantNotFound, "{id}");
    }
    assert_eq!(kept(), before);
    assert_eq!(tenants.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_tenant_is_made_at_the_start_and_never_ended() {
    let installation = Installation::new().unwrap();
    let main = tenant("main");
    let access = AccessControl { main_tenant_id: main.clone() };
    let open = || {
        let access = access.clone();
        Process::of(&installation).settings(|builder| builder.with_access_control(access)).open()
    };
    let tenants = open().await;
    assert_eq!(tenants.main_tenant_id(), Some(&main));
    add(&tenants.get_adapters(&main).await.unwrap(), "kept").await.unwrap();
    for ended in [tenants.suspend(&main).await, tenants.deprovision(&main).await] {
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!(state(&tenants, &main).await, TenantState::Active);
    // Opened a second time, it is there.
    let again = open().await;
    assert_eq!(notes(&again.get_adapters(&main).await.unwrap()).await.unwrap(), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_tenant_is_not_closed_to_make_room() {
    let installation = Installation::new().unwrap();
    let main = tenant("main");
    let access = AccessControl { main_tenant_id: main.clone() };
    let tenants = Process::of(&installation)
        .settings(|builder| {
            builder.with_access_control(access).with_cache(CacheSettings::default().with_max(2))
        })
        .open()
        .await;
    let others = ["a", "b", "c"].map(tenant);
    for other in &others {
        tenants.provision(other).await.unwrap();
    }
    let opened_at = tenants.get_adapters(&main).await.unwrap().opened_at();
    let first = tenants.get_adapters(&others[0]).await.unwrap().opened_at();
    for other in &others {
        tenants.get_adapters(other).await.unwrap();
    }
    assert_eq!(tenants.get_adapters(&main).await.unwrap().opened_at(), opened_at);
    assert_ne!(tenants.get_adapters(&others[0]).await.unwrap().opened_at(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_revokes_and_activating_brings_back_the_data() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    let clone = data.clone();
    add(&data, "before").await.unwrap();
    for _ in 0..2 {
        tenants.suspend(&acme).await.unwrap();
    }
    assert_eq!(state(&tenants, &acme).await, TenantState::Suspended);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    for handle in [&data, &clone] {
        assert!(handle.is_revoked());
        let error = add(handle, "after").await.unwrap_err();
        assert_eq!(kind_in(&error), Some(ErrorKind::TenantNotActive));
        assert!(notes(&handle.read()).await.is_err());
        assert!(handle.begin().await.is_err());
    }
    for _ in 0..2 {
        tenants.activate(&acme).await.unwrap();
    }
    assert!(add(&data, "after").await.is_err(), "a revoked handle stays revoked");
    let fresh = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(notes(&fresh).await.unwrap(), ["before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_in_the_right_state_is_told_apart() {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation)
        .hooks(|isolation| isolation.seed(|_| async { Err::<(), _>("never") }))
        .open()
        .await;
    let (nobody, failed) = (tenant("nobody"), tenant("failed"));
    for outcome in [
        tenants.suspend(&nobody).await,
        tenants.activate(&nobody).await,
        tenants.deprovision(&nobody).await,
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TenantNotFound);
    }
    assert_eq!(refusal(&tenants, &nobody).await, ErrorKind::TenantNotFound);
    tenants.provision(&failed).await.unwrap_err();
    for outcome in [tenants.suspend(&failed).await, tenants.activate(&failed).await] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TenantNotActive);
    }
    assert_eq!(state(&tenants, &failed).await, TenantState::Failed);
    tenants.deprovision(&failed).await.unwrap();
    assert!(!file_of(&installation, "failed", 1).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_somebody_else_in_its_place_is_kept_and_the_tenant_fails() {
    let installation = Installation::new().unwrap();
    std::fs::create_dir_all(installation.tenants_path()).unwrap();
    let file = file_of(&installation, "acme", 1);
    let stranger = rusqlite::Connection::open(&file).unwrap();
    stranger.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES ('y')").unwrap();
    drop(stranger);
    let tenants = Process::of(&installation).open().await;
    let acme = tenant("acme");
    assert_eq!(tenants.provision(&acme).await.unwrap_err().kind(), ErrorKind::NameTaken);
    assert_eq!(state(&tenants, &acme).await, TenantState::Failed);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    assert!(tenants.deprovision(&acme).await.is_err(), "it is not this tenant's to remove");
    assert_eq!(column(&file, "SELECT x FROM theirs"), ["y"]);
    let count: i64 = outside(&file)
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1);
}
