//! The whole life of tenants whose databases are in a D1 account.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mt_control::{DatabaseIsolation, MigrateAll, RestoreAs};
use mt_core::{DatabaseFactory as _, Error, ErrorKind, TenantState};
use mt_devservers::d1::{Fault, Kind, Rule};
use sea_orm::ConnectionTrait as _;

use crate::{
    d1_support::{Account, database, migrate, ran},
    support::{Flaky, NOTES, Sql, refusal, runner, sql, state, tenant},
    turso_support::{listed, note, notes},
};

const AUTHORS: Sql = sql("m2_authors", "ALTER TABLE notes ADD COLUMN author text");

async fn with_hooks(
    account: &Account,
    hooks: impl FnOnce(DatabaseIsolation) -> DatabaseIsolation,
) -> mt_control::MultiTenancy {
    account.open_with(runner([NOTES]), |factory| factory, hooks).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_made_migrated_copied_suspended_and_removed() {
    let account = Account::start().await;
    let acme = tenant("acme");
    let tenants = account.open(runner([NOTES])).await;
    let record = tenants.provision(&acme).await.unwrap();
    assert_eq!((record.state, record.provider.as_str()), (TenantState::Active, "d1"));
    assert_eq!(record.schema_version.as_deref(), Some("m1_notes"));
    assert!(record.placement.attributes.contains_key("uuid"), "{:?}", record.placement);
    note(&tenants.get_adapters(&acme).await.unwrap(), "before").await;

    let copy = account.path().join("acme.tar");
    let manifest = tenants.backup(&acme, &copy).await.unwrap();
    assert_eq!(manifest.tenant, acme);
    note(&tenants.get_adapters(&acme).await.unwrap(), "after").await;
    assert_eq!(notes(&tenants, &acme).await, ["before", "after"]);
    let restored = tenants.restore(&acme, &copy, RestoreAs::Same).await.unwrap();
    assert_eq!((restored.state, restored.placement.generation.get()), (TenantState::Active, 2));
    assert_ne!(restored.placement.attributes["uuid"], record.placement.attributes["uuid"]);
    assert_eq!(notes(&tenants, &acme).await, ["before"]);

    let other = tenant("other");
    tenants.restore(&acme, &copy, RestoreAs::New(other.clone())).await.unwrap();
    assert_eq!(notes(&tenants, &other).await, ["before"]);
    note(&tenants.get_adapters(&other).await.unwrap(), "of the other").await;
    assert_eq!(notes(&tenants, &acme).await, ["before"]);

    for tenant in [&acme, &other] {
        tenants.deprovision(tenant).await.unwrap();
        assert_eq!(refusal(&tenants, tenant).await, ErrorKind::TenantNotFound);
    }
    assert_eq!(listed(&account.stranger()).await, [""; 0]);
    // The next life of an id has nothing of the one before.
    tenants.provision(&acme).await.unwrap();
    assert_eq!(notes(&tenants, &acme).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_is_migrated_and_then_there_is_nothing_to_do() {
    let account = Account::start().await;
    let all = ["acme", "globex", "initech"].map(tenant);
    let tenants = account.open(runner([NOTES])).await;
    for tenant in &all {
        tenants.provision(tenant).await.unwrap();
    }
    tenants.shutdown().await.unwrap();

    let tenants = account.open(runner([NOTES, AUTHORS])).await;
    let report = migrate(&tenants).await;
    let expected = ["m2_authors".to_owned()];
    assert_eq!(ran(&report), all.each_ref().map(|id| (id, expected.as_slice())));
    for tenant in &all {
        let data = tenants.get_adapters(tenant).await.unwrap();
        assert_eq!(data.schema_version(), Some("m2_authors"));
        data.execute_unprepared("INSERT INTO notes (text, author) VALUES ('a', 'b')")
            .await
            .unwrap();
    }

    let (requests, report) = account.requests(migrate(&tenants)).await;
    assert_eq!((report.up_to_date().count(), requests), (all.len(), 0), "the catalog knows");
    let verify = MigrateAll::default().with_verify(true);
    let (requests, report) = account.requests(tenants.migrate_all(verify)).await;
    let found = (report.unwrap().up_to_date().count(), requests);
    assert_eq!(found, (all.len(), all.len() as u64), "one look at each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_closed_by_the_control_plane_alone() {
    let account = Account::start().await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let tenants = account.open(runner([NOTES])).await;
    for tenant in [&acme, &globex] {
        tenants.provision(tenant).await.unwrap();
    }
    let open = tenants.get_adapters(&acme).await.unwrap();
    note(&open, "kept").await;
    let (requests, suspended) = account.requests(tenants.suspend(&acme)).await;
    suspended.unwrap();
    assert_eq!(requests, 0, "there is nothing at the engine to turn");
    tenants.suspend(&acme).await.unwrap();
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    let (requests, refused) = account.requests(open.execute_unprepared("SELECT 1")).await;
    refused.unwrap_err();
    assert_eq!(requests, 0, "what was given out is revoked");
    // Not by the engine, and that is said.
    let context = tenants.catalog().context(&runner([NOTES]));
    let factory = account.factory().with_context(context).build().unwrap();
    let refused = factory.suspend(&acme).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);

    let status = tenants.status(&acme).await.unwrap();
    assert_eq!(status.record.state, TenantState::Suspended);
    assert_eq!(tenants.list().await.unwrap().len(), 2);
    tenants.shutdown().await.unwrap();

    // Its schema keeps up all the same.
    let tenants = account.open(runner([NOTES, AUTHORS])).await;
    assert_eq!(migrate(&tenants).await.migrated().count(), 2);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    tenants.activate(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(data.schema_version(), Some("m2_authors"));
    assert_eq!(notes(&tenants, &acme).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_a_suspended_tenant_leaves_it_closed() {
    let account = Account::start().await;
    let acme = tenant("acme");
    let tenants = account.open(runner([NOTES])).await;
    tenants.provision(&acme).await.unwrap();
    note(&tenants.get_adapters(&acme).await.unwrap(), "kept").await;
    let copy = account.path().join("acme.tar");
    tenants.backup(&acme, &copy).await.unwrap();
    tenants.suspend(&acme).await.unwrap();
    let record = tenants.restore(&acme, &copy, RestoreAs::Same).await.unwrap();
    assert_eq!(record.state, TenantState::Suspended);
    assert_eq!(refusal(&tenants, &acme).await, ErrorKind::TenantNotActive);
    tenants.activate(&acme).await.unwrap();
    assert_eq!(notes(&tenants, &acme).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_keeps_the_database_and_is_repeated() {
    let account = Account::start().await;
    let acme = tenant("acme");
    let (arrival, departure) = (Flaky::failing(1), Flaky::failing(1));
    let (on_arrival, on_departure) = (arrival.clone(), departure.clone());
    let hooks = |isolation: DatabaseIsolation| {
        isolation
            .on_provision(move |context| {
                let flaky = on_arrival.clone();
                async move {
                    note(&context.factory.get_adapters(&context.tenant).await.unwrap(), "hi").await;
                    flaky.call()
                }
            })
            .on_deprovision(move |_| {
                let flaky = on_departure.clone();
                async move { flaky.call() }
            })
    };
    let tenants = with_hooks(&account, hooks).await;
    let error = tenants.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HookFailed);
    assert_eq!(state(&tenants, &acme).await, TenantState::Failed);
    let creates = account.server.requests().of_kind(Kind::Create);
    tenants.provision(&acme).await.unwrap();
    assert_eq!(account.server.requests().of_kind(Kind::Create), creates, "it was adopted");
    assert_eq!((arrival.calls(), notes(&tenants, &acme).await), (2, vec!["hi".to_owned(); 2]));

    let error = tenants.deprovision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HookFailed);
    assert_eq!(listed(&account.stranger()).await, [database(&acme)]);
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(departure.calls(), 2);
    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
    assert_eq!(listed(&account.stranger()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_hook_sees_the_data_also_of_a_suspended_tenant() {
    let account = Account::start().await;
    let acme = tenant("acme");
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let hooks = |isolation: DatabaseIsolation| {
        isolation.on_deprovision(move |context| {
            let seen = Arc::clone(&counted);
            async move {
                let data = context.factory.get_adapters(&context.tenant).await?;
                data.ping()
                    .await
                    .map_err(|e| Error::from_db_err(e, ErrorKind::Unavailable, "no answer"))?;
                seen.fetch_add(1, Ordering::Relaxed);
                Ok::<(), Error>(())
            }
        })
    };
    let tenants = with_hooks(&account, hooks).await;
    tenants.provision(&acme).await.unwrap();
    tenants.suspend(&acme).await.unwrap();
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(listed(&account.stranger()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_whose_database_is_gone_already_is_finished_without_the_hook() {
    let account = Account::start().await;
    let acme = tenant("acme");
    let hooks = |isolation: DatabaseIsolation| {
        isolation.on_deprovision(|context| async move {
            context.factory.get_adapters(&context.tenant).await.map(drop)
        })
    };
    let tenants = with_hooks(&account, hooks).await;
    let record = tenants.provision(&acme).await.unwrap();
    // As after a removal that died between the database and its row.
    let uuid = &record.placement.attributes["uuid"];
    account.stranger().client().delete(uuid).await.unwrap();
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(state(&tenants, &acme).await, TenantState::Deleted);
}

/// Wherever it died, the tenant that it was to make can be removed, and then made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_died_on_its_way_can_be_cleared_away() {
    let account = Account::start().await;
    let (acme, twin) = (tenant("acme"), tenant("twin"));
    let copy = account.path().join("acme.tar");
    let tenants = account.open(runner([NOTES])).await;
    tenants.provision(&acme).await.unwrap();
    let many = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
                INSERT INTO notes (text) SELECT hex(randomblob(50000)) FROM n";
    tenants.get_adapters(&acme).await.unwrap().execute_unprepared(many).await.unwrap();
    tenants.backup(&acme, &copy).await.unwrap();
    tenants.shutdown().await.unwrap();

    for requests in 0..4 {
        let tenants = account.open(runner([NOTES])).await;
        let stuck = Rule::new(Fault::Slow(Duration::from_secs(600))).kind(Kind::Raw).skip(requests);
        let hits = account.server.faults().add(stuck);
        let restoring = tokio::spawn({
            let (copy, twin, acme) = (copy.clone(), twin.clone(), acme.clone());
            async move { tenants.restore(&acme, copy, RestoreAs::New(twin)).await }
        });
        while hits.count() == 0 {
            assert!(!restoring.is_finished(), "it needs {requests} requests and no more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        restoring.abort();
        assert!(restoring.await.unwrap_err().is_cancelled());
        account.server.faults().clear();

        let tenants = account.open(runner([NOTES])).await;
        tenants.deprovision(&twin).await.unwrap();
        assert_eq!(listed(&account.stranger()).await, ["tenant_acme"], "after {requests} requests");
        tenants.shutdown().await.unwrap();
    }
    let tenants = account.open(runner([NOTES])).await;
    tenants.restore(&acme, &copy, RestoreAs::New(twin.clone())).await.unwrap();
    assert_eq!(notes(&tenants, &twin).await.len(), 100);
}
