//! What only a server does, and refuses.

use std::time::{Duration, Instant};

use mt_core::{Error, ErrorKind};
use mt_devservers::Postgres;

use super::{Place, execute, tenant, url_of};
use crate::{Catalog, CatalogLocation};

fn assert_tells_no_secret(server: &Postgres, error: &Error) {
    let told = format!("{error:?} {}", error.to_chain());
    assert!(!told.contains(server.password()) && !told.contains("hunter2"), "{told}");
    assert!(told.contains(&server.port().to_string()), "{told}");
}

async fn refused(server: &Postgres, url: &str) -> Error {
    let error = Catalog::connect(url).await.unwrap_err();
    assert_tells_no_secret(server, &error);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_something_else_in_it_is_refused_and_left_alone() {
    let server = Postgres::start().await.unwrap();
    for (database, sql, word) in [
        ("tenants", "CREATE TABLE _mt_tenant (id text)", "a tenant's"),
        ("shop", "CREATE TABLE orders (id int)", "`public.orders`"),
        ("other", "CREATE SCHEMA other; CREATE VIEW other.seen AS SELECT 1", "`other.seen`"),
        (
            "half",
            "CREATE SCHEMA mt_catalog; CREATE TABLE mt_catalog.tenant (id int)",
            "`mt_catalog.tenant`",
        ),
    ] {
        execute(&server.url(), &format!("CREATE DATABASE {database}")).await;
        let url = url_of(&server, database);
        execute(&url, sql).await;
        for _ in 0..2 {
            let error = refused(&server, &url).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
            assert!(error.to_string().contains(word), "{error}");
        }
        let made: CatalogLocation = url.parse().unwrap();
        assert!(!made.is_made().await.unwrap(), "{database}");
    }

    // What is put beside a catalog that is there is no reason to let everything stand still, unless
    // it is a tenant.
    let url = url_of(&server, "postgres");
    let first = Catalog::connect(&url).await.unwrap().deployment();
    execute(&url, "CREATE TABLE monitoring (id int)").await;
    assert_eq!(Catalog::connect(&url).await.unwrap().deployment(), first);
    execute(&url, "CREATE TABLE _mt_tenant (id text)").await;
    assert_eq!(refused(&server, &url).await.kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_setting_is_told_and_no_secret() {
    let server = Postgres::start().await.unwrap();
    let wrong_password = server.url().replace(server.password(), "hunter2");
    let no_database = url_of(&server, "nowhere");
    let no_role = server.url().replace("://postgres:", "://nobody:");
    execute(&server.url(), "CREATE ROLE guest LOGIN PASSWORD 'hunter2'").await;
    let may_make_nothing = format!("postgres://guest:hunter2@127.0.0.1:{}/postgres", server.port());
    for url in [wrong_password, no_database, no_role, may_make_nothing] {
        let error = refused(&server, &url).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
    let catalog = Catalog::connect(&server.url()).await.unwrap();
    let shown = format!("{catalog:?} {:?} {}", catalog.location(), catalog.location());
    assert!(!shown.contains(server.password()), "{shown}");
    assert!(shown.contains("/postgres"), "{shown}");

    server.kill().unwrap();
    let began = Instant::now();
    let error = refused(&server, &server.url()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_chain());
    assert!(began.elapsed() < Duration::from_secs(10));
    let error = catalog.list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_chain());
    assert_tells_no_secret(&server, &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_the_server_was_restarted() {
    let Place::Server(server) = Place::server().await else { return };
    let catalog = Catalog::connect(&url_of(&server, "catalog")).await.unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    // More than one open connection, each of which breaks.
    tokio::try_join!(
        catalog.reserve(&acme, "sqlite", false),
        catalog.reserve(&globex, "sqlite", false),
    )
    .unwrap();
    for _ in 0..2 {
        server.kill().unwrap();
        server.restart().await.unwrap();
        for id in [&acme, &globex] {
            assert_eq!(catalog.get(id).await.unwrap().tenant, *id);
        }
        catalog.note_error(&acme, Some("after the restart")).await.unwrap();
    }
    assert_eq!(catalog.list().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_few_connections_and_needs_no_more_than_to_read_and_write() {
    let Place::Server(server) = Place::server().await else { return };
    let url = url_of(&server, "catalog");
    let made = Catalog::connect(&url).await.unwrap();
    execute(
        &url,
        "CREATE ROLE service LOGIN PASSWORD 'hunter2'; \
         GRANT USAGE ON SCHEMA mt_catalog TO service; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mt_catalog TO service",
    )
    .await;
    let service = format!("postgres://service:hunter2@127.0.0.1:{}/catalog", server.port());
    let catalog = Catalog::connect(&service).await.unwrap();
    assert_eq!(catalog.deployment(), made.deployment());
    let ids: Vec<_> = (0..40).map(|number| tenant(&format!("t{number}"))).collect();
    let reserved = ids.iter().map(|id| catalog.reserve(id, "sqlite", false));
    for one in futures_util::future::join_all(reserved).await {
        one.unwrap();
    }
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let open = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mt-catalog' AND usename = 'service'",
    );
    assert!((1..=4).contains(&open.fetch_one(&mut connection).await.unwrap()));
}
