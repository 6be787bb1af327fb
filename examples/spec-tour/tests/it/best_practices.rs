//! "Best Practices".

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use multi_tenancy::{
    CacheSettings, CachedFactory, Closures, DataAdapters, DatabaseFactory as _, DatabaseIsolation,
    DeploymentId, MigrateAll, MultiTenancy, RestoreAs, TenantId,
    migration::{Migrator, Runner},
    sqlite::SqliteFactory,
};
use sea_orm::ConnectionTrait as _;

use crate::support::{Databases, Done, add_user, catalog, internal, tenant, users};

#[tokio::test]
async fn connection_pooling() -> Done {
    let databases = Databases::of(DeploymentId::random())?;
    let acme = tenant("acme")?;
    databases.make(&acme).await?;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let factory = Closures::new(move |tenant| {
        counted.fetch_add(1, Ordering::SeqCst);
        let databases = databases.clone();
        async move { databases.open(&tenant).await }
    });

    let pooled = CachedFactory::new(factory.into(), CacheSettings::default())?;
    let users_of = async |tenant: &TenantId| -> Result<Vec<String>, Box<dyn std::error::Error>> {
        Ok(users(&pooled.get_adapters(tenant).await?).await?)
    };
    for _ in 0..10 {
        assert_eq!(users_of(&acme).await?, ["ada"]);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // The map of the specification keeps what it was given for ever; this one can let go.
    pooled.evict(&acme);
    assert_eq!(users_of(&acme).await?, ["ada"]);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn migration_management() -> Done {
    let (folder, catalog) = catalog().await?;
    let all = Runner::of::<Migrator>()?;
    // The first release had half of the migrations.
    let mut migrations = <Migrator as sea_orm_migration::MigratorTrait>::migrations();
    migrations.truncate(3);
    let first = Runner::new(all.ledger(), migrations)?;
    let factory = |schema: &Runner| {
        let builder = SqliteFactory::builder().with_directory(folder.path().join("tenants"));
        builder.with_context(catalog.context(schema)).build()
    };
    let (acme, globex) = (tenant("acme")?, tenant("globex")?);
    let release = async |schema: &Runner| {
        MultiTenancy::builder()
            .with_catalog(catalog.clone())
            .with_database_isolation(DatabaseIsolation::new(factory(schema)?))
            .with_schema(schema.clone())
            .build()
            .await
    };
    let before = release(&first).await?;
    before.provision(&acme).await?;
    before.provision(&globex).await?;
    before.shutdown().await?;

    // One tenant: check the current version, run what is pending.
    let databases = factory(&all)?;
    let status = all.status(&databases, &acme).await?;
    assert_eq!(status.schema_version.as_deref(), first.latest());
    assert_eq!(status.pending, all.names()[3..]);
    let report = all.up(&databases, &acme).await?;
    assert_eq!(report.ran, all.names()[3..]);
    assert!(all.status(&databases, &acme).await?.is_current());

    // All tenants, with what became of each.
    let after = release(&all).await?;
    let report = after.migrate_all(MigrateAll::default()).await?;
    let migrated: Vec<_> = report.migrated().map(|one| &one.tenant).collect();
    assert_eq!(migrated, [&globex]);
    assert_eq!(after.catalog().get(&globex).await?.schema_version.as_deref(), all.latest());
    Ok(())
}

/// The first backup when the database is made, and more whenever somebody asks. Who asks daily and
/// removes what is older than 30 days is still to come; until then it is `cron` and the command
/// line.
#[tokio::test]
async fn backup_strategy() -> Done {
    let (folder, catalog) = catalog().await?;
    let schema = Runner::of::<Migrator>()?;
    let factory = SqliteFactory::builder()
        .with_directory(folder.path().join("tenants"))
        .with_context(catalog.context(&schema))
        .build()?;
    let first = folder.path().join("first.sqlite");
    let file = first.clone();
    let multi_tenancy = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_schema(schema)
        .with_database_isolation(DatabaseIsolation::new(factory).on_provision(move |context| {
            let file = file.clone();
            async move {
                let made = tokio::fs::File::create(&file).await;
                let mut sink = made.map_err(|e| internal("make the backup's file", e))?;
                context.factory.backup(&context.tenant, &mut sink).await?;
                sink.sync_all().await.map_err(|e| internal("keep the backup", e))
            }
        }))
        .build()
        .await?;
    let acme = tenant("acme")?;
    multi_tenancy.provision(&acme).await?;
    assert!(first.metadata()?.len() > 0);

    add_user(&multi_tenancy.get_adapters(&acme).await?, "ada").await?;
    let daily = folder.path().join("acme.tar");
    let manifest = multi_tenancy.backup(&acme, &daily).await?;
    assert_eq!(manifest.rows["users"], 1);
    add_user(&multi_tenancy.get_adapters(&acme).await?, "mistake").await?;
    multi_tenancy.restore(&acme, &daily, RestoreAs::Same).await?;
    assert_eq!(users(&multi_tenancy.get_adapters(&acme).await?).await?, ["ada"]);
    Ok(())
}

#[tokio::test]
async fn error_handling() -> Done {
    let databases = Databases::of(DeploymentId::random())?;
    let acme = tenant("acme")?;
    databases.make(&acme).await?;
    databases.replicate(&acme)?;
    let application = databases.clone();
    let factory = Closures::new(move |tenant: TenantId| {
        let databases = databases.clone();
        async move {
            match databases.open(&tenant).await {
                // A wrong stamp or a damaged file is nothing to cover up; no answer is.
                Err(error) if error.is_transient() => {
                    tracing::error!(%tenant, error = %error.to_chain(), "failed to connect");
                    let replica = databases.connect_to_replica(&tenant).await?;
                    DataAdapters::open(&tenant, databases.deployment, replica).await
                }
                opened => opened,
            }
        }
    });

    let data = factory.get_adapters(&acme).await?;
    add_user(&data, "bob").await?;
    assert_eq!(users(&data).await?, ["ada", "bob"]);
    data.close(std::time::Duration::from_secs(30)).await?;

    // The primary is gone: what was replicated can still be read, and nothing can be written.
    let path = application.path(&acme);
    std::fs::rename(&path, path.with_extension("away"))?;
    let data = factory.get_adapters(&acme).await?;
    assert_eq!(users(&data).await?, ["ada"]);
    assert!(data.execute_unprepared("DELETE FROM users").await.is_err());
    assert_eq!(users(&data).await?, ["ada"]);
    drop(data);

    std::fs::rename(path.with_extension("away"), &path)?;
    assert_eq!(users(&factory.get_adapters(&acme).await?).await?, ["ada", "bob"]);
    Ok(())
}
