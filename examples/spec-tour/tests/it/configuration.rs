//! "Configuration Options" and "Middleware Integration".

use std::sync::Arc;

use axum::{Json, Router, http::HeaderName, http::StatusCode, routing::get as get_route};
use multi_tenancy::{
    Closures, DatabaseIsolation, ErrorKind, MultiTenancy, TenantState,
    axum::{FactorySource, Tenant, TenantLayer},
    migration::{Migrator, Runner},
    sqlite::SqliteFactory,
};
use serde_json::json;

use crate::support::{Databases, Done, add_user, catalog, get, internal, tenant, users};

#[tokio::test]
async fn basic_setup() -> Done {
    let (_folder, catalog) = catalog().await?;
    let databases = Databases::of(catalog.deployment())?;
    let application = databases.clone();

    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(DatabaseIsolation::new(Closures::new(move |tenant| {
            let databases = databases.clone();
            async move { databases.open(&tenant).await }
        })))
        .build()
        .await?;

    // The application makes its databases itself; the tenant is known from then on.
    let acme = tenant("acme")?;
    application.make(&acme).await?;
    multi_tenancy.provision(&acme).await?;
    assert_eq!(users(&multi_tenancy.get_adapters(&acme).await?).await?, ["ada"]);

    // Without a database there is no tenant that could be served.
    let globex = tenant("globex")?;
    assert!(multi_tenancy.provision(&globex).await.is_err());
    assert_eq!(multi_tenancy.catalog().get(&globex).await?.state, TenantState::Failed);
    let refused = multi_tenancy.get_adapters(&globex).await;
    assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::TenantNotActive));

    // A database of another tenant in its place is not one either.
    std::fs::copy(application.path(&acme), application.path(&globex))?;
    let refused = multi_tenancy.provision(&globex).await;
    assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::ForeignDatabase));
    Ok(())
}

#[tokio::test]
async fn with_provisioning() -> Done {
    let (_folder, catalog) = catalog().await?;
    let databases = Databases::of(catalog.deployment())?;
    let open = {
        let databases = databases.clone();
        move |tenant| {
            let databases = databases.clone();
            async move { databases.open(&tenant).await }
        }
    };
    let make = {
        let databases = databases.clone();
        move |tenant| {
            let databases = databases.clone();
            async move {
                databases.create(&tenant).await?;
                databases.migrate(&tenant).await
            }
        }
    };

    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(
            DatabaseIsolation::new(Closures::new(open).on_provision(make))
                .seed(|data| async move { add_user(&data, "welcome").await }),
        )
        .build()
        .await?;

    let acme = tenant("acme")?;
    assert!(!databases.path(&acme).exists());
    multi_tenancy.provision(&acme).await?;
    assert_eq!(users(&multi_tenancy.get_adapters(&acme).await?).await?, ["welcome"]);
    Ok(())
}

#[tokio::test]
async fn with_deprovisioning() -> Done {
    let (folder, catalog) = catalog().await?;
    let schema = Runner::of::<Migrator>()?;
    let factory = SqliteFactory::builder()
        .with_directory(folder.path().join("tenants"))
        .with_context(catalog.context(&schema))
        .build()?;
    let (backups, uploads) = (folder.path().join("backups"), folder.path().join("uploads"));
    let (keep, clean) = (backups.clone(), uploads.clone());

    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_schema(schema)
        .with_database_isolation(DatabaseIsolation::new(factory).on_deprovision(move |context| {
            let (backups, uploads) = (keep.clone(), clean.clone());
            async move {
                // Backup before deletion. Nobody writes any more when this hook runs.
                let tenant = &context.tenant;
                let file = backups.join(format!("{tenant}.sqlite"));
                let mut sink = tokio::fs::File::create(&file)
                    .await
                    .map_err(|e| internal("make the backup's file", e))?;
                context.factory.backup(tenant, &mut sink).await?;
                sink.sync_all().await.map_err(|e| internal("keep the backup", e))?;
                // Delete the database: happens after the hook, and doing it here is harmless.
                context.factory.deprovision(tenant).await?;
                // Clean up related resources.
                let removed = tokio::fs::remove_dir_all(uploads.join(tenant.as_str())).await;
                removed.map_err(|e| internal("remove the uploads", e))
            }
        }))
        .build()
        .await?;

    let acme = tenant("acme")?;
    multi_tenancy.provision(&acme).await?;
    add_user(&multi_tenancy.get_adapters(&acme).await?, "ada").await?;

    // A failing hook keeps the database: here the backup has nowhere to go.
    let failed = multi_tenancy.deprovision(&acme).await;
    assert_eq!(failed.err().map(|e| e.kind()), Some(ErrorKind::HookFailed));
    assert_eq!(multi_tenancy.catalog().get(&acme).await?.state, TenantState::Failed);
    assert!(folder.path().join("tenants/tenant_acme.sqlite").is_file());

    std::fs::create_dir_all(&backups)?;
    std::fs::create_dir_all(uploads.join("acme"))?;
    multi_tenancy.deprovision(&acme).await?;
    assert!(backups.join("acme.sqlite").is_file());
    assert!(!uploads.join("acme").exists());
    assert!(!folder.path().join("tenants/tenant_acme.sqlite").exists());
    Ok(())
}

#[tokio::test]
async fn middleware_integration() -> Done {
    let databases = Databases::of(multi_tenancy::DeploymentId::random())?;
    databases.make(&tenant("acme")?).await?;
    databases.make(&tenant("globex")?).await?;
    let get_adapters = Closures::new(move |tenant| {
        let databases = databases.clone();
        async move { databases.open(&tenant).await }
    });

    let middleware = TenantLayer::new(Arc::new(FactorySource::new(get_adapters.into())))
        .with_header(HeaderName::from_static("x-tenant-id"));
    // All downstream handlers use the tenant's database.
    let handler = async |Tenant(data): Tenant| Json(json!({"tenant": data.tenant()}));
    let app = Router::new().fallback(get_route(handler)).layer(middleware);

    for id in ["acme", "globex"] {
        let (status, body) = get(&app, Some(id), "/whatever/path").await?;
        assert_eq!((status, body), (StatusCode::OK, json!({"tenant": id})));
    }
    assert_eq!(get(&app, None, "/").await?.0, StatusCode::BAD_REQUEST);
    Ok(())
}
