//! "Performance Considerations".

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, http::HeaderName, http::StatusCode, routing::get as get_route};
use multi_tenancy::{
    CacheSettings, CachedFactory, Closures, DataAdapters, DatabaseFactory as _, DeploymentId,
    ReadOnly, TenantId,
    axum::{FactorySource, Problem, Tenant, TenantLayer},
};
use sea_orm::ConnectionTrait as _;

use crate::support::{Databases, Done, add_user, get, tenant, users};

fn factory(databases: Databases) -> Closures {
    Closures::new(move |tenant: TenantId| {
        let databases = databases.clone();
        async move { databases.open(&tenant).await }
    })
}

#[tokio::test]
async fn lazy_loading() -> Done {
    let databases = Databases::of(DeploymentId::random())?;
    databases.make(&tenant("acme")?).await?;
    databases.make(&tenant("globex")?).await?;
    let cached = CachedFactory::new(factory(databases).into(), CacheSettings::default())?;
    let source = FactorySource::new(Arc::new(cached.clone()));
    let middleware =
        TenantLayer::new(Arc::new(source)).with_header(HeaderName::from_static("x-tenant-id"));

    // The connection is made by the first request.
    let list =
        async |Tenant(data): Tenant| users(&data).await.map(Json).map_err(Problem::from_db_err);
    let app = Router::new().route("/api/users", get_route(list)).layer(middleware);

    assert_eq!(cached.open_count(), 0, "nobody has asked yet");
    let (status, body) = get(&app, Some("acme"), "/api/users").await?;
    assert_eq!((status, body), (StatusCode::OK, serde_json::json!(["ada"])));
    assert_eq!(cached.open_tenants(), [tenant("acme")?]);
    Ok(())
}

#[tokio::test]
async fn caching() -> Done {
    let databases = Databases::of(DeploymentId::random())?;
    let tenants = ["acme", "globex", "initech"].map(tenant);
    let tenants = tenants.into_iter().collect::<Result<Vec<_>, _>>()?;
    for tenant in &tenants {
        databases.make(tenant).await?;
    }
    let an_hour = Duration::from_secs(60 * 60);
    let settings = CacheSettings::default().with_max(100).with_ttl(an_hour);
    let cached = CachedFactory::new(factory(databases.clone()).into(), settings)?;
    let opened_at = cached.get_adapters(&tenants[0]).await?.opened_at();
    assert_eq!(cached.get_adapters(&tenants[0]).await?.opened_at(), opened_at);

    // Two places for three tenants: whoever was not asked for longest is closed.
    let small = CacheSettings::default().with_max(2);
    let cached = CachedFactory::new(factory(databases.clone()).into(), small)?;
    for tenant in &tenants {
        assert_eq!(users(&cached.get_adapters(tenant).await?).await?, ["ada"]);
        assert!(cached.open_count() <= 2);
    }
    let mut open = cached.open_tenants();
    open.sort();
    assert_eq!(open, tenants[1..]);

    // After its time a database is opened anew.
    let short = CacheSettings::default().with_ttl(Duration::ZERO);
    let cached = CachedFactory::new(factory(databases).into(), short)?;
    let opened_at = cached.get_adapters(&tenants[0]).await?.opened_at();
    assert_ne!(cached.get_adapters(&tenants[0]).await?.opened_at(), opened_at);
    Ok(())
}

#[tokio::test]
async fn read_replicas() -> Done {
    let databases = Databases::of(DeploymentId::random())?;
    let acme = tenant("acme")?;
    databases.make(&acme).await?;
    databases.replicate(&acme)?;
    let application = databases.clone();
    let factory = Closures::new(move |tenant: TenantId| {
        let databases = databases.clone();
        async move {
            let primary = databases.connect(&tenant).await?;
            let replica = databases.connect_to_replica(&tenant).await?;
            DataAdapters::opening(&tenant, databases.deployment, primary)
                .with_read(replica, ReadOnly::Engine)
                .open()
                .await
        }
    });

    let data = factory.get_adapters(&acme).await?;
    // Write operations go to the primary.
    add_user(&data, "bob").await?;
    assert_eq!(users(&data).await?, ["ada", "bob"]);
    // Read operations go to the replica, which is behind until it is replicated again.
    assert_eq!(users(&data.read()).await?, ["ada"]);
    assert!(data.read().execute_unprepared("DELETE FROM users").await.is_err());
    data.close(Duration::from_secs(30)).await?;

    application.replicate(&acme)?;
    assert_eq!(users(&factory.get_adapters(&acme).await?.read()).await?, ["ada", "bob"]);
    Ok(())
}
