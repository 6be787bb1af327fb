//! How connections are shared and reached.

use std::time::Duration;

use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind, TenantId};
use mt_devservers::Postgres;
use mt_postgres::PostgresFactory;
use sea_orm::{
    ConnectionTrait as _, DbBackend, Statement, TransactionSession as _, TransactionTrait as _,
};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use url::Url;

use crate::support::{ROLE_SECRET, Site, context, tenant};

/// How many sessions the tenants' roles have, by database.
async fn sessions(site: &Site) -> Vec<String> {
    let mut admin =
        site.url().as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let sql = "SELECT datname::text FROM pg_stat_activity \
        WHERE starts_with(usename::text, $1 || '--w-') OR starts_with(usename::text, $1 || '--r-') \
        ORDER BY 1";
    sqlx::query_scalar(sql).bind(&site.prefix).fetch_all(&mut admin).await.unwrap()
}

/// What the server comes to say: a session ends a moment after it was left.
async fn come_to(site: &Site, expected: &[&str]) {
    let expected: Vec<String> =
        expected.iter().map(|tenant| format!("{}{tenant}", site.prefix)).collect();
    let mut found = Vec::new();
    for _ in 0..500 {
        found = sessions(site).await;
        if found == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(found, expected);
}

async fn select(data: &DataAdapters, sql: &str) -> Result<String, sea_orm::DbErr> {
    let row = data.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.unwrap().try_get_by_index(0)
}

async fn open(factory: &PostgresFactory, ids: &[&str]) -> Vec<DataAdapters> {
    let mut all = Vec::new();
    for id in ids {
        factory.provision(&tenant(id)).await.unwrap();
        all.push(factory.get_adapters(&tenant(id)).await.unwrap());
    }
    all
}

#[tokio::test]
async fn the_coldest_connection_makes_room() {
    let site = Site::find().await;
    let factory = site.builder(&context()).with_connection_budget(2).build().unwrap();
    assert!(factory.connections().is_none());
    let all = open(&factory, &["a", "b", "c"]).await;
    come_to(&site, &["b", "c"]).await;
    let usage = factory.connections().unwrap();
    assert_eq!((usage.max, usage.open, usage.idle, usage.waiting), (2, 2, 2, 0));
    select(&all[1], "SELECT 'warm'").await.unwrap();
    select(&all[0], "SELECT 'a'").await.unwrap();
    come_to(&site, &["a", "b"]).await;
    // A read handle has roles, and so connections, of its own.
    let read = all[0].read();
    read.query_one_raw(Statement::from_string(DbBackend::Postgres, "SELECT 1")).await.unwrap();
    come_to(&site, &["a", "a"]).await;
    for data in &all {
        let name = select(data, "SELECT current_database()::text").await.unwrap();
        assert_eq!(name, format!("{}{}", site.prefix, data.tenant()));
    }
}

#[tokio::test]
async fn who_finds_no_connection_is_told_and_waits_no_longer() {
    let site = Site::find().await;
    let mut config = mt_postgres::PostgresConfig::default();
    config.admin_url = site.url().to_string();
    config.role_secret = ROLE_SECRET.to_owned();
    config.database_prefix.clone_from(&site.prefix);
    config.connection_budget = Some(1);
    config.acquire_timeout_ms = 2_000;
    let builder = PostgresFactory::builder().with_config(config).with_context(context());
    let factory = builder.build().unwrap();
    let all = open(&factory, &["a", "b"]).await;
    let held = all[0].begin().await.unwrap();
    let refused = select(&all[1], "SELECT 'b'").await.unwrap_err();
    let error = mt_core::Error::in_db_err(&refused).unwrap();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
    assert_eq!(error.tenant().map(TenantId::as_str), Some("b"));
    assert!(error.to_string().contains("no connection came free in 2s"), "{error}");
    held.commit().await.unwrap();
    assert_eq!(select(&all[1], "SELECT 'b'").await.unwrap(), "b");
    // Administration goes on meanwhile: it has connections of its own.
    let held = all[1].begin().await.unwrap();
    factory.describe(&tenant("a")).await.unwrap();
    factory.provision(&tenant("c")).await.unwrap();
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn a_tenant_with_many_calls_has_no_more_than_its_own() {
    let site = Site::find().await;
    let builder = site.builder(&context()).with_connection_budget(10).with_max_connections(3);
    let factory = builder.build().unwrap();
    let data = open(&factory, &["a"]).await.remove(0);
    let calls = (0..20).map(|_| select(&data, "SELECT pg_sleep(0.02)::text"));
    for call in futures_util::future::join_all(calls).await {
        call.unwrap();
    }
    come_to(&site, &["a"; 3]).await;
    data.close(Duration::from_secs(5)).await.unwrap();
    come_to(&site, &[]).await;
}

/// A factory with a server of its own, reached in another way.
async fn serves(url: &str) {
    let builder = PostgresFactory::builder().with_admin_url(url).with_role_secret(ROLE_SECRET);
    let factory = builder.with_context(context()).build().unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    let over = "SELECT coalesce(client_addr::text, 'socket') || ' ' || ssl FROM pg_stat_activity \
        JOIN pg_stat_ssl USING (pid) WHERE pid = pg_backend_pid()";
    let over = select(&data, over).await.unwrap();
    let expected = match url {
        url if url.contains("verify-full") => "127.0.0.1/32 true",
        url if url.contains("%2F") => "socket false",
        _ => "127.0.0.1/32 false",
    };
    assert_eq!(over, expected);
    let name = select(&data, "SELECT current_setting('application_name')").await.unwrap();
    assert_eq!(name, "mt acme");
    factory.describe(&acme).await.unwrap();
    factory.deprovision(&acme).await.unwrap();
}

#[tokio::test]
async fn a_server_is_reached_by_its_socket() {
    let server = Postgres::start().await.unwrap();
    serves(&server.socket_url()).await;
}

#[tokio::test]
async fn a_server_is_reached_by_tls_and_its_certificate_is_checked() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = Postgres::builder().tls(&certificate, key).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.crt");
    std::fs::write(&root, certificate).unwrap();
    let mut url: Url = server.url().parse().unwrap();
    url.set_host(Some("localhost")).unwrap();
    let verified = |root: &std::path::Path| {
        let mut url = url.clone();
        let root = root.display().to_string();
        url.query_pairs_mut()
            .append_pair("sslmode", "verify-full")
            .append_pair("sslrootcert", &root);
        url.to_string()
    };
    serves(&verified(&root)).await;
    // Another's certificate is not taken.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&root, other.cert.pem()).unwrap();
    let builder = PostgresFactory::builder().with_admin_url(verified(&root));
    let factory = builder.with_role_secret(ROLE_SECRET).with_context(context()).build().unwrap();
    let refused = factory.provision(&tenant("acme")).await.unwrap_err();
    assert!(!refused.to_chain().contains(url.password().unwrap()), "{}", refused.to_chain());
}

#[tokio::test]
async fn a_call_that_was_given_up_keeps_nobody_waiting() {
    let site = Site::find().await;
    let factory = site.builder(&context()).with_connection_budget(2).build().unwrap();
    let data = open(&factory, &["a"]).await.remove(0);
    let soon = Duration::from_millis(200);
    let slow = select(&data, "SELECT pg_sleep(25)::text");
    tokio::time::timeout(soon, slow).await.unwrap_err();
    // Not on the connection that is asleep.
    assert_eq!(select(&data, "SELECT 'awake'").await.unwrap(), "awake");
    let transaction = data.begin().await.unwrap();
    let slow = transaction.execute_unprepared("SELECT pg_sleep(25)");
    tokio::time::timeout(soon, slow).await.unwrap_err();
    drop(transaction);
    let refused = select(&data, "SELECT 'both asleep'").await.unwrap_err();
    let error = mt_core::Error::in_db_err(&refused).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
