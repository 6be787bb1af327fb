//! The whole life of tenants whose databases are reached over the network.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mt_control::{MigrateAll, Outcome, RestoreAs};
use mt_core::{DatabaseFactory as _, ErrorKind, TenantState};
use sea_orm::ConnectionTrait as _;

use crate::{
    support::{NOTES, Sql, runner, sql, tenant},
    turso_support::{Cloud, listed, note, notes},
};

const AUTHORS: Sql = sql("m2_authors", "ALTER TABLE notes ADD COLUMN author text");

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_made_migrated_copied_suspended_and_removed() {
    let cloud = Cloud::start().await;
    let acme = tenant("acme");
    let tenants = cloud.open(runner([NOTES])).await;
    let record = tenants.provision(&acme).await.unwrap();
    assert_eq!((record.state, record.provider.as_str()), (TenantState::Active, "turso"));
    assert_eq!(record.schema_version.as_deref(), Some("m1_notes"));
    assert!(record.placement.attributes.contains_key("hostname"), "{:?}", record.placement);
    note(&tenants.get_adapters(&acme).await.unwrap(), "before").await;

    let copy = cloud.path().join("acme.tar");
    let manifest = tenants.backup(&acme, &copy).await.unwrap();
    assert_eq!(manifest.tenant, acme);
    note(&tenants.get_adapters(&acme).await.unwrap(), "after").await;
    assert_eq!(notes(&tenants, &acme).await, ["before", "after"]);
    let restored = tenants.restore(&acme, &copy, RestoreAs::Same).await.unwrap();
    assert_eq!((restored.state, restored.placement.generation.get()), (TenantState::Active, 2));
    assert_eq!(notes(&tenants, &acme).await, ["before"]);

    let other = tenant("other");
    tenants.restore(&acme, &copy, RestoreAs::New(other.clone())).await.unwrap();
    assert_eq!(notes(&tenants, &other).await, ["before"]);
    note(&tenants.get_adapters(&other).await.unwrap(), "of the other").await;
    assert_eq!(notes(&tenants, &acme).await, ["before"]);

    for tenant in [&acme, &other] {
        tenants.deprovision(tenant).await.unwrap();
        let gone = tenants.get_adapters(tenant).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::TenantNotFound);
    }
    assert_eq!(listed(&cloud.stranger()).await, [""; 0]);
    // The next life of an id has nothing of the one before.
    tenants.provision(&acme).await.unwrap();
    assert_eq!(notes(&tenants, &acme).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_is_migrated_and_then_there_is_nothing_to_do() {
    let cloud = Cloud::start().await;
    let all = ["acme", "globex", "initech"].map(tenant);
    let tenants = cloud.open(runner([NOTES])).await;
    for tenant in &all {
        tenants.provision(tenant).await.unwrap();
    }
    tenants.shutdown().await.unwrap();

    let tenants = cloud.open(runner([NOTES, AUTHORS])).await;
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.migrated().count(), all.len(), "{report:?}");
    for one in &report.tenants {
        let Outcome::Migrated { ran, not_atomic } = &one.outcome else { panic!("{one:?}") };
        assert_eq!((ran.as_slice(), not_atomic.len()), (&["m2_authors".to_owned()][..], 0));
    }
    for tenant in &all {
        let data = tenants.get_adapters(tenant).await.unwrap();
        assert_eq!(data.schema_version(), Some("m2_authors"));
        data.execute_unprepared("INSERT INTO notes (text, author) VALUES ('a', 'b')")
            .await
            .unwrap();
    }

    let before = cloud.requests();
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.up_to_date().count(), all.len(), "{report:?}");
    assert_eq!(cloud.requests(), before, "the catalog knows");
    let report = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(report.up_to_date().count(), all.len(), "{report:?}");
    assert_eq!(cloud.requests(), before + all.len() as u64, "one look at each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_closed_to_everybody_and_told_of_all_the_same() {
    let cloud = Cloud::start().await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let tenants = cloud.open(runner([NOTES])).await;
    for tenant in [&acme, &globex] {
        tenants.provision(tenant).await.unwrap();
    }
    note(&tenants.get_adapters(&acme).await.unwrap(), "kept").await;
    tenants.suspend(&acme).await.unwrap();
    tenants.suspend(&acme).await.unwrap();
    let refused = tenants.get_adapters(&acme).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotActive);
    // Past the control plane too: the engine itself refuses.
    let context = tenants.catalog().context(&runner([NOTES]));
    let factory = cloud.factory().with_context(context).build().unwrap();
    let refused = factory.get_adapters(&acme).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotActive);

    let status = tenants.status(&acme).await.unwrap();
    assert_eq!(status.record.state, TenantState::Suspended);
    assert!(status.fault.is_none() && status.database.is_none(), "{status:?}");
    assert_eq!(tenants.list().await.unwrap().len(), 2);
    tenants.shutdown().await.unwrap();

    let tenants = cloud.open(runner([NOTES, AUTHORS])).await;
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    let outcomes: Vec<_> = report.tenants.iter().map(|one| &one.outcome).collect();
    assert!(
        matches!(outcomes[..], [Outcome::Skipped { .. }, Outcome::Migrated { .. }]),
        "{report:?}"
    );
    tenants.activate(&acme).await.unwrap();
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.migrated().count(), 1, "{report:?}");
    assert_eq!(notes(&tenants, &acme).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_tenant_that_its_engine_keeps_closed_is_opened_by_activate() {
    let cloud = Cloud::start().await;
    let acme = tenant("acme");
    let tenants = cloud.open(runner([NOTES])).await;
    tenants.provision(&acme).await.unwrap();
    // What is left where a process died between the two.
    let schema = runner([NOTES]);
    let context = tenants.catalog().context(&schema);
    cloud.factory().with_context(context).build().unwrap().suspend(&acme).await.unwrap();
    let closed = tenants.get_adapters(&acme).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::TenantNotActive);

    tenants.activate(&acme).await.unwrap();
    note(&tenants.get_adapters(&acme).await.unwrap(), "open again").await;
    tenants.activate(&acme).await.unwrap();
    assert_eq!(notes(&tenants, &acme).await, ["open again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_a_suspended_tenant_leaves_it_closed() {
    let cloud = Cloud::start().await;
    let acme = tenant("acme");
    let tenants = cloud.open(runner([NOTES])).await;
    tenants.provision(&acme).await.unwrap();
    note(&tenants.get_adapters(&acme).await.unwrap(), "kept").await;
    let copy = cloud.path().join("acme.tar");
    tenants.backup(&acme, &copy).await.unwrap();
    tenants.suspend(&acme).await.unwrap();
    let record = tenants.restore(&acme, &copy, RestoreAs::Same).await.unwrap();
    assert_eq!(record.state, TenantState::Suspended);
    let database = record.placement.database.unwrap();
    let stranger = cloud.stranger();
    let found = stranger.platform().database(database.as_str()).await.unwrap().unwrap();
    assert!(found.block_reads && found.block_writes, "{found:?}");
    tenants.activate(&acme).await.unwrap();
    assert_eq!(notes(&tenants, &acme).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_hook_sees_the_data_also_of_a_suspended_tenant() {
    let cloud = Cloud::start().await;
    let acme = tenant("acme");
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let tenants = cloud.open_with(runner([NOTES]), |isolation| {
        isolation.on_deprovision(move |context| {
            let seen = Arc::clone(&counted);
            async move {
                let data = context.factory.get_adapters(&context.tenant).await?;
                data.ping().await.map_err(|e| {
                    mt_core::Error::from_db_err(e, ErrorKind::Unavailable, "no answer")
                })?;
                seen.fetch_add(1, Ordering::Relaxed);
                Ok::<(), mt_core::Error>(())
            }
        })
    });
    let tenants = tenants.await;
    tenants.provision(&acme).await.unwrap();
    tenants.suspend(&acme).await.unwrap();
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(listed(&cloud.stranger()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_whose_database_is_gone_already_is_finished_without_the_hook() {
    let cloud = Cloud::start().await;
    let acme = tenant("acme");
    let tenants = cloud.open_with(runner([NOTES]), |isolation| {
        isolation.on_deprovision(|context| async move {
            context.factory.get_adapters(&context.tenant).await.map(drop)
        })
    });
    let tenants = tenants.await;
    let record = tenants.provision(&acme).await.unwrap();
    // As after a removal that died between the database and its row.
    let database = record.placement.database.unwrap();
    assert!(cloud.stranger().platform().delete_database(database.as_str()).await.unwrap());
    tenants.deprovision(&acme).await.unwrap();
    let record = tenants.catalog().find(&acme).await.unwrap().unwrap();
    assert_eq!(record.state, TenantState::Deleted);
}
