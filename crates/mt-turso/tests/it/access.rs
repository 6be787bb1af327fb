//! Who is let in: tokens, blocks, and databases that are not the ones they were.

use std::sync::Arc;

use mt_conformance::MemoryPlacements;
use mt_core::{DataAdapters, DatabaseFactory as _, Error, ErrorKind, FactoryContext};
use mt_devservers::{
    Turso,
    turso::{Fault, Rule},
};
use mt_turso::{Authorization, ConfigurationChange, Expiration, TokenScope, TursoFactory};
use sea_orm::ConnectionTrait as _;

use crate::support::{builder, context, count, execute, factory, kind_of, query, server, tenant};

#[tokio::test]
async fn a_tenants_token_opens_no_other_database() {
    let server = server().await;
    let factory = factory(&server, &context());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    for tenant in [&acme, &globex] {
        factory.provision(tenant).await.unwrap();
    }
    // The server refuses one tenant's token at another's door.
    let platform = factory.platform();
    let scope = TokenScope::Database("tenant-acme");
    let after = Expiration::After(std::time::Duration::from_secs(600));
    let token = platform.mint_token(scope, Authorization::FullAccess, after).await.unwrap();
    let home = platform.database("tenant-acme").await.unwrap().unwrap().hostname;
    let other = platform.database("tenant-globex").await.unwrap().unwrap().hostname;
    assert_eq!(query(&home, token.expose(), "SELECT 1").await, 200);
    let status = query(&other, token.expose(), "SELECT 1").await;
    assert!([401, 403, 404].contains(&status), "{status}");

    // And we never bring it there.
    let (one, two) = (factory.get_adapters(&acme).await, factory.get_adapters(&globex).await);
    let (one, two) = (one.unwrap(), two.unwrap());
    let before = server.requests().total();
    let both = (0..50).map(|n| {
        let data = if n % 2 == 0 { one.clone() } else { two.clone() };
        async move { execute(&data, "SELECT 1").await.unwrap() }
    });
    futures_util::future::join_all(both).await;
    // None was refused and tried again.
    assert_eq!(server.requests().total() - before, 50);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = server().await;
    let context = context();
    let acme = tenant("acme");
    factory(&server, &context).provision(&acme).await.unwrap();
    // A process of its own each time: a token that was renewed just now is not renewed again.
    let opened = async || {
        let factory = factory(&server, &context);
        let data = factory.get_adapters(&acme).await.unwrap();
        (factory, data)
    };
    let (factory, data) = opened().await;
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();

    // All tokens of the database die at once.
    factory.platform().rotate(TokenScope::Database("tenant-acme")).await.unwrap();
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(count(&data, "t").await, 1);

    // One that expired on its way does the same.
    let (_factory, data) = opened().await;
    let expired = server.data_faults().add(Rule::new(Fault::ExpiredToken).times(1));
    execute(&data, "INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(expired.count(), 1);

    // A server that refuses every token is not asked for ever.
    let (_factory, data) = opened().await;
    let refused = server.data_faults().add(Rule::new(Fault::StaleToken));
    let error = execute(&data, "INSERT INTO t VALUES (3)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unauthenticated);
    assert_eq!(refused.count(), 2);
    server.data_faults().clear();
    assert_eq!(count(&data, "t").await, 2);
}

#[tokio::test]
async fn a_server_that_refuses_every_token_does_not_cost_the_platform_a_request_per_query() {
    let server = server().await;
    let factory = factory(&server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    let refused = server.data_faults().add(Rule::new(Fault::StaleToken));
    execute(&data, "SELECT 1").await.unwrap_err();
    let (asked, refusals) = (server.api_requests().total(), refused.count());
    for _ in 0..20 {
        let error = execute(&data, "SELECT 1").await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unauthenticated);
    }
    assert_eq!(server.api_requests().total(), asked);
    // Nor is each tried twice.
    assert_eq!(refused.count() - refusals, 20);
}

#[tokio::test]
async fn a_blocked_database_is_not_served() {
    let server = server().await;
    let factory = factory(&server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();

    let writes = ConfigurationChange::default().with_block_writes(true);
    factory.platform().configure("tenant-acme", &writes).await.unwrap();
    assert_eq!(count(&data, "t").await, 0);
    let error = execute(&data, "INSERT INTO t VALUES (1)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::TenantNotActive);

    factory.suspend(&acme).await.unwrap();
    let error = data.query_all_raw(select("SELECT * FROM t")).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::TenantNotActive);
    let error = factory.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotActive);
    factory.activate(&acme).await.unwrap();
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn a_full_database_is_a_quota() {
    let server = server().await;
    let config = context();
    let mut settings = mt_turso::TursoConfig::default();
    settings.size_limit = Some("64kb".to_owned());
    let factory = builder_with(&server, settings, &config);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)").await.unwrap();
    let mut stored = 0;
    let error = loop {
        match execute(&data, "INSERT INTO t (b) VALUES (randomblob(4000))").await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the limit is not kept");
    };
    assert_eq!(kind_of(&error), ErrorKind::QuotaExceeded, "{error}");
    assert_eq!(count(&data, "t").await, stored);
}

/// Another deployment makes the tenant's database under its name, with something in it.
async fn made_anew_by_another(server: &Turso, factory: &TursoFactory) -> DataAdapters {
    factory.platform().delete_database("tenant-acme").await.unwrap();
    let other = builder(server, &context()).build().unwrap();
    other.provision(&tenant("acme")).await.unwrap();
    let data = other.get_adapters(&tenant("acme")).await.unwrap();
    execute(&data, "CREATE TABLE secret (v)").await.unwrap();
    execute(&data, "INSERT INTO secret VALUES ('of the other deployment')").await.unwrap();
    data
}

#[tokio::test]
async fn a_database_made_anew_behind_us_is_not_taken_for_the_old_one() {
    let server = server().await;
    let factory = factory(&server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "SELECT 1").await.unwrap();

    let other = made_anew_by_another(&server, &factory).await;
    // Others in this process ask for tokens of that name, and are refused.
    for _ in 0..2 {
        let error = factory.get_adapters(&acme).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    }
    for _ in 0..2 {
        let error = data.query_all_raw(select("SELECT v FROM secret")).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::ForeignDatabase);
        let error = data.read().query_all_raw(select("SELECT v FROM secret")).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::ForeignDatabase);
        let error = execute(&data, "DELETE FROM secret").await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::ForeignDatabase);
    }
    assert_eq!(count(&other, "secret").await, 1);

    factory.platform().delete_database("tenant-acme").await.unwrap();
    let error = execute(&data, "SELECT 1").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::TenantNotFound);
}

/// The store remembers the one that is gone.
#[tokio::test]
async fn provision_finds_the_tenants_own_database_made_anew() {
    let server = server().await;
    let (store, elsewhere) = (context(), MemoryPlacements::default());
    let factory = factory(&server, &store);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
    factory.platform().delete_database("tenant-acme").await.unwrap();
    // The same installation makes it again, and its store does not say so.
    let twin = FactoryContext::new(store.deployment).with_placements(Arc::new(elsewhere));
    builder(&server, &twin).build().unwrap().provision(&acme).await.unwrap();

    let error = factory.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id)").await.unwrap();
    let placement = store.placements.get(&acme).await.unwrap().unwrap();
    let found = factory.platform().database("tenant-acme").await.unwrap().unwrap();
    assert_eq!(placement.attributes["database_id"], found.id);
}

#[tokio::test]
async fn secrets_are_in_no_error_and_no_debug() {
    let server = server().await;
    let factory = factory(&server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    server.data_faults().add(Rule::new(Fault::StaleToken));
    let error = execute(&data, "SELECT 1").await.unwrap_err();
    let error = Error::in_db_err(&error).unwrap();
    for text in [format!("{factory:?} {data:?} {error:?}"), error.to_chain()] {
        assert!(!text.contains(server.api_token()) && !text.contains("eyJ"), "{text}");
    }
}

fn select(sql: &str) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql)
}

fn builder_with(
    server: &Turso,
    mut config: mt_turso::TursoConfig,
    context: &FactoryContext,
) -> TursoFactory {
    config.api_url = server.api_url();
    server.api_token().clone_into(&mut config.api_token);
    server.organization().clone_into(&mut config.organization);
    server.group().clone_into(&mut config.group);
    let builder = TursoFactory::builder().with_config(config);
    builder.with_context(context.clone()).build().unwrap()
}
