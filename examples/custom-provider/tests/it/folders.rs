//! What the suite cannot see.

use std::{path::Path, sync::Arc};

use custom_provider::{FoldersConfig, FoldersFactory, NAME};
use futures_util::TryStreamExt as _;
use mt_core::{
    DatabaseFactory, DeploymentId, ErrorKind, FactoryContext, MaintenanceMode, Registry, TenantId,
};
use serde_json::json;
use tempfile::TempDir;

fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

fn factory(folder: &Path, deployment: DeploymentId) -> FoldersFactory {
    let mut config = FoldersConfig::new(folder);
    // Who does not let go in these tests never will.
    config.drain_timeout_ms = 200;
    FoldersFactory::new(config, FactoryContext::new(deployment)).unwrap()
}

fn one() -> (TempDir, FoldersFactory) {
    let folder = tempfile::tempdir().unwrap();
    let factory = factory(folder.path(), DeploymentId::random());
    (folder, factory)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn it_is_found_by_name_and_by_url() {
    let registry = Registry::from_linked().unwrap();
    assert_eq!(registry.names(), [NAME]);
    let context = || FactoryContext::new(DeploymentId::random());
    let settings = json!({"directory": "data", "database_prefix": "t_"});
    let factory: Arc<dyn DatabaseFactory> = registry.create(NAME, settings, context()).unwrap();
    assert_eq!(factory.name(), NAME);
    for url in ["folders:data", "folders:///data?database_prefix=t_&drain_timeout_ms=7"] {
        assert_eq!(registry.create_from_url(url, context()).unwrap().name(), NAME, "{url}");
    }
    for url in [
        "folders:",
        "folders://host/data",
        "folders:data?colour=red",
        "folders:d?database_prefix=A",
    ] {
        let refused = registry.create_from_url(url, context()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{url}");
    }
}

#[tokio::test]
async fn a_tenant_is_a_folder() {
    let (folder, factory) = one();
    factory.provision(&tenant("acme")).await.unwrap();
    assert_eq!(names(folder.path()), ["tenant_acme"]);
    assert!(folder.path().join("tenant_acme/database.sqlite").is_file());
    let info = factory.describe(&tenant("acme")).await.unwrap();
    assert!(info.size_bytes.unwrap() > 0);
    factory.deprovision(&tenant("acme")).await.unwrap();
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn what_is_no_database_is_corrupt() {
    let (folder, factory) = one();
    factory.provision(&tenant("acme")).await.unwrap();
    std::fs::write(folder.path().join("tenant_acme/database.sqlite"), [b'x'; 4096]).unwrap();
    let opened = factory.get_adapters(&tenant("acme")).await.unwrap_err();
    assert_eq!((opened.kind(), opened.tenant()), (ErrorKind::Corrupt, Some(&tenant("acme"))));
    let provisioned = factory.provision(&tenant("acme")).await.unwrap_err();
    assert_eq!(provisioned.kind(), ErrorKind::Corrupt);
    let removed = factory.deprovision(&tenant("acme")).await.unwrap_err();
    assert_eq!(removed.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_left_alone() {
    let (folder, factory) = one();
    let theirs = folder.path().join("tenant_acme");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("letter.txt"), "dear").unwrap();
    let refused = factory.provision(&tenant("acme")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NameTaken);
    factory.deprovision(&tenant("acme")).await.unwrap();
    assert_eq!(std::fs::read_to_string(theirs.join("letter.txt")).unwrap(), "dear");
    assert!(factory.list().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

/// Two factories of one installation are to each other what two processes are: they share nothing
/// but the folders.
#[tokio::test]
async fn what_another_process_uses_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = DeploymentId::random();
    let (ours, theirs) = (factory(folder.path(), deployment), factory(folder.path(), deployment));
    ours.provision(&tenant("acme")).await.unwrap();
    let data = ours.get_adapters(&tenant("acme")).await.unwrap();
    let refused = theirs.deprovision(&tenant("acme")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    data.ping().await.unwrap();
    data.close(std::time::Duration::from_secs(30)).await.unwrap();

    let maintenance = ours.maintain(&tenant("acme"), MaintenanceMode::Shared).await.unwrap();
    let refused = theirs.deprovision(&tenant("acme")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    maintenance.close().await;
    theirs.deprovision(&tenant("acme")).await.unwrap();
    let gone = ours.get_adapters(&tenant("acme")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::TenantNotFound);
}

#[tokio::test]
async fn a_removal_that_died_half_way_is_finished() {
    let (folder, factory) = one();
    factory.provision(&tenant("acme")).await.unwrap();
    // The moment after the rename.
    let left_behind = folder.path().join(".removed-tenant_acme");
    std::fs::rename(folder.path().join("tenant_acme"), &left_behind).unwrap();
    let opened = factory.get_adapters(&tenant("acme")).await.unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::TenantNotFound);
    assert!(factory.list().try_collect::<Vec<_>>().await.unwrap().is_empty());
    factory.deprovision(&tenant("acme")).await.unwrap();
    assert!(names(folder.path()).is_empty());
}
