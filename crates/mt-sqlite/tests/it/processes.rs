//! Several processes over one folder. A file lock belongs to whoever opened the file, so two
//! factories of one process stand for two processes as far as locks go.

use std::{sync::Arc, time::Duration};

use mt_conformance::{MemoryPlacements, PlacementFault};
use mt_core::{DatabaseFactory as _, ErrorKind, FactoryContext, MaintenanceMode, RestoreOptions};
use sea_orm::{ConnectionTrait as _, TransactionSession as _, TransactionTrait as _};

use crate::{builder, context, factory, tenant};

#[tokio::test]
async fn what_another_process_serves_is_in_use() {
    let home = tempfile::tempdir().unwrap();
    let context = context();
    let (serving, administering) = (factory(home.path(), &context), factory(home.path(), &context));
    let acme = tenant("acme");
    serving.provision(&acme).await.unwrap();
    let data = serving.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (x)").await.unwrap();
    let mut copy = Vec::new();
    let manifest = administering.backup(&acme, &mut copy).await.unwrap();
    let path = administering.database_path(&acme).await.unwrap();

    let in_use = ErrorKind::InUse;
    assert_eq!(administering.deprovision(&acme).await.unwrap_err().kind(), in_use);
    let options = RestoreOptions::default();
    let restored = administering.restore(&acme, &manifest, &mut &*copy, options).await;
    assert_eq!(restored.unwrap_err().kind(), in_use);
    let exclusive = administering.maintain(&acme, MaintenanceMode::Exclusive).await;
    assert_eq!(exclusive.unwrap_err().kind(), in_use);

    // Nothing was replaced under the handle, and what it acknowledges is there.
    assert_eq!(administering.database_path(&acme).await.unwrap(), path);
    data.execute_unprepared("INSERT INTO t VALUES (1)").await.unwrap();
    drop(data);
    let shared = administering.maintain(&acme, MaintenanceMode::Shared).await.unwrap();
    shared.close().await;
    administering.deprovision(&acme).await.unwrap();
}

#[tokio::test]
async fn removal_waits_for_the_transaction_that_runs() {
    let home = tempfile::tempdir().unwrap();
    let context = context();
    let serving = factory(home.path(), &context);
    let patient =
        builder(home.path(), &context).with_drain_timeout(Duration::from_secs(30)).build().unwrap();
    let acme = tenant("acme");
    serving.provision(&acme).await.unwrap();
    let data = serving.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("CREATE TABLE t (x)").await.unwrap();
    let transaction = data.begin().await.unwrap();
    transaction.execute_unprepared("INSERT INTO t VALUES (1)").await.unwrap();
    let removal = tokio::spawn({
        let acme = acme.clone();
        async move { patient.deprovision(&acme).await }
    });
    transaction.commit().await.unwrap();
    data.close(Duration::from_secs(5)).await.unwrap();
    removal.await.unwrap().unwrap();
    assert_eq!(serving.get_adapters(&acme).await.unwrap_err().kind(), ErrorKind::TenantNotFound);
}

#[tokio::test]
async fn a_restore_keeps_the_old_file_until_the_new_one_is_in_its_place() {
    let home = tempfile::tempdir().unwrap();
    let factory = factory(home.path(), &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let old = factory.database_path(&acme).await.unwrap();
    let mut copy = Vec::new();
    let manifest = factory.backup(&acme, &mut copy).await.unwrap();

    let mut damaged = copy.clone();
    damaged[4_000] ^= 1;
    let options = RestoreOptions::default();
    let refused = factory.restore(&acme, &manifest, &mut &*damaged, options).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(factory.database_path(&acme).await.unwrap(), old);
    assert!(old.exists());

    factory.restore(&acme, &manifest, &mut &*copy, options).await.unwrap();
    let new = factory.database_path(&acme).await.unwrap();
    assert_ne!(old, new);
    assert!(!old.exists() && new.exists());
    assert_eq!(factory.get_adapters(&acme).await.unwrap().stamp().generation.get(), 2);
}

#[tokio::test]
async fn a_lost_answer_of_the_placement_store_loses_no_database() {
    let home = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryPlacements::default());
    store.fail(Some(PlacementFault::Made));
    let context = FactoryContext::new(mt_core::DeploymentId::random()).with_placements(store as _);
    let factory = factory(home.path(), &context);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let mut copy = Vec::new();
    let manifest = factory.backup(&acme, &mut copy).await.unwrap();
    factory.restore(&acme, &manifest, &mut &*copy, RestoreOptions::default()).await.unwrap();
    assert_eq!(factory.get_adapters(&acme).await.unwrap().stamp().generation.get(), 2);
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_after_a_day() {
    let home = tempfile::tempdir().unwrap();
    let two_days_ago = std::time::SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    let make = |name: &str, at: std::time::SystemTime| {
        let file = std::fs::File::create(home.path().join(name)).unwrap();
        file.set_modified(at).unwrap();
    };
    make(".abandoned.tmp", two_days_ago);
    make(".fresh.tmp", std::time::SystemTime::now());
    make("not-ours.tmp", two_days_ago);
    factory(home.path(), &context()).provision(&tenant("acme")).await.unwrap();
    let is_there = |name: &str| home.path().join(name).exists();
    assert!(!is_there(".abandoned.tmp"));
    assert!(is_there(".fresh.tmp") && is_there("not-ours.tmp"));
}
