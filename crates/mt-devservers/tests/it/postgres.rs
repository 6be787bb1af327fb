//! A PostgreSQL that is found or fetched, crashes and comes back.

use std::{path::Path, str::FromStr as _};

use mt_devservers::{Postgres, postgres};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

async fn connect(url: &str) -> sqlx::Result<PgConnection> {
    PgConnectOptions::from_str(url)?.connect().await
}

async fn text(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn the_pinned_one_is_fetched_and_is_18() {
    let programs = tokio::task::spawn_blocking(postgres::fetch).await.unwrap().unwrap();
    let server = Postgres::builder().programs(programs).start().await.unwrap();
    let mut connection = connect(&server.url()).await.unwrap();
    assert_eq!(text(&mut connection, "show server_version").await, "18.4");
    assert_eq!(text(&mut connection, "show server_encoding").await, "UTF8");
}

#[tokio::test]
async fn it_is_reached_by_port_and_by_socket_with_its_password_only() {
    let server = Postgres::builder().setting("max_connections", "17").start().await.unwrap();
    for url in [server.url(), server.socket_url()] {
        let mut connection = connect(&url).await.unwrap();
        assert_eq!(text(&mut connection, "show max_connections").await, "17");
        assert_eq!(text(&mut connection, "select current_user::text").await, "postgres");
        let error = connect(&url.replace(server.password(), "guess")).await.unwrap_err();
        assert!(error.to_string().contains("password authentication failed"), "{error}");
    }
    assert!(!format!("{server:?}").contains(server.password()));
    assert_eq!(server.environment()[0], ("MT_POSTGRES__ADMIN_URL", server.url()));
}

#[tokio::test]
async fn what_was_committed_survives_a_crash() {
    let server = Postgres::start().await.unwrap();
    let mut connection = connect(&server.url()).await.unwrap();
    sqlx::raw_sql("create table t (x int); insert into t values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut open = connection.begin().await.unwrap();
    sqlx::query("insert into t values (8)").execute(&mut *open).await.unwrap();
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(connect(&server.url()).await.is_err());
    server.restart().await.unwrap();
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
    let mut connection = connect(&server.url()).await.unwrap();
    assert_eq!(text(&mut connection, "select string_agg(x::text, ',') from t").await, "7");
}

#[tokio::test]
async fn it_takes_tls_where_it_has_a_certificate() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = Postgres::builder().tls(&certificate, key).start().await.unwrap();
    let options = PgConnectOptions::from_str(&server.url()).unwrap().host("localhost");
    let options = options.ssl_mode(PgSslMode::VerifyFull);
    let known = options.clone().ssl_root_cert_from_pem(certificate.into_bytes());
    let mut connection = known.connect().await.unwrap();
    let is_on = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(text(&mut connection, is_on).await, "true");
    assert!(options.connect().await.is_err());

    let plain = Postgres::start().await.unwrap();
    let options = PgConnectOptions::from_str(&plain.url()).unwrap();
    assert!(options.ssl_mode(PgSslMode::Require).connect().await.is_err());
}

#[tokio::test]
async fn what_does_not_start_says_why() {
    let error = Postgres::builder().setting("no_such_setting", "1").start().await.unwrap_err();
    assert!(format!("{error:#}").contains("no_such_setting"), "{error:#}");
    let nowhere = Path::new("/nowhere");
    let error = Postgres::builder().programs(nowhere).start().await.unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere"), "{error:#}");
}
