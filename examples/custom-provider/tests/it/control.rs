//! The control plane runs on it as on any other.

use std::path::Path;

use custom_provider::{FoldersConfig, FoldersFactory};
use mt_control::{Catalog, DatabaseIsolation, MigrateAll, MultiTenancy};
use mt_core::{ErrorKind, TenantId};
use mt_entity::{NewUser, Page, TenantAdapters as _};
use mt_migration::{Migrator, Runner};

async fn open(folder: &Path) -> MultiTenancy {
    let schema = Runner::of::<Migrator>().unwrap();
    let catalog = Catalog::open(folder.join("control.db")).await.unwrap();
    let config = FoldersConfig::new(folder.join("tenants"));
    let factory = FoldersFactory::new(config, catalog.context(&schema)).unwrap();
    MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(DatabaseIsolation::new(factory))
        .with_schema(schema)
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn tenants_live_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let tenants = open(folder.path()).await;
    let [acme, globex] = ["acme", "globex"].map(|id| TenantId::new(id).unwrap());
    for tenant in [&acme, &globex] {
        tenants.provision(tenant).await.unwrap();
        let data = tenants.get_adapters(tenant).await.unwrap();
        let email = format!("ada@{tenant}.example");
        data.users().create(NewUser { email, name: "Ada".to_owned() }).await.unwrap();
    }
    let report = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(report.up_to_date().count(), 2, "{report:?}");

    let status = tenants.status(&acme).await.unwrap();
    assert!(status.schema.unwrap().is_current());
    let read = tenants.get_adapters(&acme).await.unwrap().read();
    let users = read.users().list(Page::default()).await.unwrap();
    assert_eq!(users.into_iter().map(|user| user.email).collect::<Vec<_>>(), ["ada@acme.example"]);
    drop(read);

    tenants.deprovision(&acme).await.unwrap();
    let gone = tenants.get_adapters(&acme).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::TenantNotFound);
    tenants.get_adapters(&globex).await.unwrap();
    // Its next life has a database of its own.
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(data.users().count().await.unwrap(), 0);
    drop(data);
    tenants.shutdown().await.unwrap();
}
