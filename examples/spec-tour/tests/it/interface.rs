//! "Database Factory Interface", and the setup that the specification shows with its first
//! provider.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use mt_devservers::D1;
use multi_tenancy::{
    AccessControl, DataAdapters, DatabaseFactory, DatabaseFactoryExt as _, DatabaseIsolation,
    DeploymentId, ErrorKind, FactoryContext, HookContext, MultiTenancy, Result, TenantId,
    d1::D1Factory,
    migration::{Migrator, Runner},
    sqlite::SqliteFactory,
};

use crate::support::{Done, add_user, catalog, tenant, users};

#[tokio::test]
async fn database_factory_interface() -> Done {
    /// The three methods, on whatever keeps the databases.
    async fn use_it(factory: &dyn DatabaseFactory, tenant: &TenantId) -> Result<()> {
        factory.provision(tenant).await?;
        let data: DataAdapters = factory.get_adapters(tenant).await?;
        assert_eq!(data.tenant(), tenant);
        drop(data);
        factory.deprovision(tenant).await
    }

    let folder = tempfile::tempdir()?;
    let factory = SqliteFactory::builder()
        .with_directory(folder.path())
        .with_context(FactoryContext::new(DeploymentId::random()))
        .build()?;
    let acme = tenant("acme")?;
    use_it(&factory, &acme).await?;
    let gone = factory.get_adapters(&acme).await;
    assert_eq!(gone.err().map(|e| e.kind()), Some(ErrorKind::TenantNotFound));
    Ok(())
}

/// The application's own adapters over a tenant's database: what `createAdapters` makes.
struct People(DataAdapters);

impl People {
    async fn names(&self) -> Result<Vec<String>, sea_orm::DbErr> {
        users(&self.0).await
    }
}

#[tokio::test]
async fn d1_factory() -> Done {
    // The service's API in front of the engine it runs on, on this machine.
    let service = D1::start().await?;
    let (_folder, catalog) = catalog().await?;
    let schema = Runner::of::<Migrator>()?;
    let factory = D1Factory::builder()
        .with_api_url(service.api_url())
        .with_account_id(service.account_id())
        .with_api_token(service.api_token())
        .with_database_prefix("tenant_") // makes databases like `tenant_acme`
        .with_context(catalog.context(&schema))
        .build()?
        .create_adapters(People);
    let factory: Arc<dyn DatabaseFactory> = Arc::new(factory);

    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_access_control(AccessControl { main_tenant_id: tenant("main")? })
        .with_schema(schema)
        .with_database_isolation(DatabaseIsolation::new(Arc::clone(&factory)).on_provision(
            |context: HookContext| async move { context.factory.provision(&context.tenant).await },
        ))
        .build()
        .await?;

    let acme = tenant("acme")?;
    multi_tenancy.provision(&acme).await?;
    assert_eq!(names(&*factory).await?, ["tenant_acme", "tenant_main"]);

    let data = multi_tenancy.get_adapters(&acme).await?;
    add_user(&data, "ada").await?;
    let people: People = data.adapters()?;
    assert_eq!(people.names().await?, ["ada"]);
    drop((data, people));

    multi_tenancy.deprovision(&acme).await?;
    assert_eq!(names(&*factory).await?, ["tenant_main"]);
    Ok(())
}

/// The databases that there are, in order.
async fn names(factory: &dyn DatabaseFactory) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        factory.list().map_ok(|entry| entry.name.to_string()).try_collect().await?;
    names.sort_unstable();
    Ok(names)
}

/// The specification sets this up with D1; only the factory is another.
#[tokio::test]
async fn setup_with_prefix_and_adapters() -> Done {
    let (folder, catalog) = catalog().await?;
    let schema = Runner::of::<Migrator>()?;
    let factory = SqliteFactory::builder()
        .with_directory(folder.path().join("tenants"))
        .with_database_prefix("tenant_") // makes databases like `tenant_acme`
        .with_context(catalog.context(&schema))
        .build()?
        .create_adapters(People);
    let factory: Arc<dyn DatabaseFactory> = Arc::new(factory);

    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_access_control(AccessControl { main_tenant_id: tenant("main")? })
        // Migrations are the schema's business, and run before the hook.
        .with_schema(schema)
        .with_database_isolation(DatabaseIsolation::new(factory).on_provision(
            |context: HookContext| async move {
                // The database is made; saying so again, as the specification does, is harmless.
                context.factory.provision(&context.tenant).await
            },
        ))
        .build()
        .await?;

    let acme = tenant("acme")?;
    multi_tenancy.provision(&acme).await?;
    assert!(folder.path().join("tenants/tenant_acme.sqlite").is_file());
    assert!(folder.path().join("tenants/tenant_main.sqlite").is_file(), "the main tenant too");

    let data = multi_tenancy.get_adapters(&acme).await?;
    add_user(&data, "ada").await?;
    let people: People = data.adapters()?;
    assert_eq!(people.names().await?, ["ada"]);
    drop((data, people));

    multi_tenancy.deprovision(&acme).await?;
    assert!(!folder.path().join("tenants/tenant_acme.sqlite").exists());
    Ok(())
}
