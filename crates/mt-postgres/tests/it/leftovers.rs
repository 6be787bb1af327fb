//! What is left behind by those who die while they make a database, and who removes it.

use std::time::{Duration, SystemTime};

use mt_core::{DatabaseFactory as _, ErrorKind};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use uuid::{NoContext, Timestamp, Uuid};

use crate::support::{Site, context, tenant};

/// Makes what somebody who died `age` ago left: roles, and with `database` a database too.
async fn leave(admin: &mut PgConnection, prefix: &str, age: Duration, database: Option<&str>) {
    let then = (SystemTime::now() - age).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, then.as_secs(), 0)).simple().to_string();
    let name = |letter: &str| format!("\"{prefix}--{letter}-{id}\"");
    let mut statements: Vec<_> =
        ["o", "w", "r", "m"].map(|letter| format!("CREATE ROLE {}", name(letter))).into();
    if let Some(comment) = database {
        let (database, owner) = (name("s"), name("o"));
        statements.push(format!("CREATE DATABASE {database} OWNER {owner}"));
        statements.push(format!("COMMENT ON DATABASE {database} IS '{comment}'"));
    }
    for sql in statements {
        admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
}

async fn left(admin: &mut PgConnection, prefix: &str) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM pg_database WHERE starts_with(datname::text, $1)), \
        (SELECT count(*) FROM pg_roles WHERE starts_with(rolname::text, $1))";
    sqlx::query_as(sql).bind(format!("{prefix}--")).fetch_one(admin).await.unwrap()
}

#[tokio::test]
async fn the_role_of_a_copy_that_died_is_removed_and_that_of_a_long_one_is_not() {
    const OLD: Duration = Duration::from_secs(3 * 60 * 60);
    let site = Site::find().await;
    let mut url = site.url();
    let mut admin = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let then = (SystemTime::now() - OLD).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut roles = Vec::new();
    for nanos in [0, 1_000_000] {
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, then.as_secs(), nanos));
        let role = format!("{}--d-{}", site.prefix, id.simple());
        let sql = format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'guess'");
        admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        roles.push(role);
    }
    url.set_username(&roles[1]).unwrap();
    url.set_password(Some("guess")).unwrap();
    let session = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let context = context();
    let factory = site.factory(&context);
    factory.provision(&tenant("acme")).await.unwrap();
    let there = "SELECT array_agg(rolname::text) FROM pg_roles WHERE rolname = ANY($1)";
    let there: Vec<String> =
        sqlx::query_scalar(there).bind(&roles).fetch_one(&mut admin).await.unwrap();
    assert_eq!(there, [roles[1].as_str()]);
    sqlx::Connection::close(session).await.unwrap();
    let sql = format!("DROP ROLE \"{}\"", roles[1]);
    admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    factory.deprovision(&tenant("acme")).await.unwrap();
}

#[tokio::test]
async fn what_is_old_and_ours_is_removed_with_the_next_provisioning() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let site = Site::find().await;
    let url = site.url();
    let mut admin = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let context = context();
    let ours = format!("{{\"mt\":1,\"deployment\":\"{}\"}}", context.deployment);
    let theirs = "{\"mt\":1,\"deployment\":\"00000000-0000-4000-8000-000000000000\"}";
    for database in [None, Some(""), Some(ours.as_str())] {
        leave(&mut admin, &site.prefix, HOUR * 2, database).await;
    }
    assert_eq!(left(&mut admin, &site.prefix).await, (2, 12));
    let factory = site.factory(&context);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    // Its own four roles.
    assert_eq!(left(&mut admin, &site.prefix).await, (0, 4));

    leave(&mut admin, &site.prefix, HOUR / 2, Some(&ours)).await;
    leave(&mut admin, &site.prefix, HOUR * 2, Some(theirs)).await;
    let another = site.factory(&context);
    another.provision(&tenant("globex")).await.unwrap();
    assert_eq!(left(&mut admin, &site.prefix).await, (2, 16));
    for id in ["acme", "globex"] {
        another.describe(&tenant(id)).await.unwrap();
        another.deprovision(&tenant(id)).await.unwrap();
    }
    assert_eq!(left(&mut admin, &site.prefix).await, (2, 8));
}

async fn run(admin: &mut PgConnection, sql: String) {
    admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

#[tokio::test]
async fn a_database_that_was_left_closed_is_opened_or_removed() {
    let site = Site::find().await;
    let mut admin =
        site.url().as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let factory = site.factory(&context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let close = format!("ALTER DATABASE \"{}acme\" ALLOW_CONNECTIONS false", site.prefix);
    run(&mut admin, close.clone()).await;
    for refused in [
        factory.describe(&acme).await.map(drop),
        factory.get_adapters(&acme).await.map(drop),
        factory.suspend(&acme).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InUse);
    }
    factory.activate(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
    run(&mut admin, close.clone()).await;
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
    run(&mut admin, close).await;
    factory.deprovision(&acme).await.unwrap();
    assert_eq!(left(&mut admin, &site.prefix).await, (0, 0));
}

/// What a server that dies in the middle of `DROP DATABASE` leaves, and takes no other word for.
#[tokio::test]
async fn a_database_that_is_half_dropped_is_removed_and_given_to_nobody() {
    let site = Site::find().await;
    let mut admin =
        site.url().as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let context = context();
    let factory = site.builder(&context).with_spare_databases(1).build().unwrap();
    let [acme, globex] = ["acme", "globex"].map(tenant);
    factory.provision(&acme).await.unwrap();
    let limit = |limit: i32, name: &str| {
        let like = format!("{}{name}", site.prefix);
        format!(
            "UPDATE pg_database SET datconnlimit = {limit} WHERE starts_with(datname, '{like}')"
        )
    };
    run(&mut admin, limit(-2, "acme")).await;
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
    run(&mut admin, limit(-2, "acme")).await;
    for refused in [
        factory.activate(&acme).await,
        factory.describe(&acme).await.map(drop),
        factory.get_adapters(&acme).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantNotFound, "{}", error.to_chain());
        assert!(error.to_string().contains("deprovision"), "{error}");
    }
    factory.deprovision(&acme).await.unwrap();
    assert_eq!(left(&mut admin, &site.prefix).await, (0, 0));
    factory.tend().await.unwrap();
    run(&mut admin, limit(-2, "--s-")).await;
    let another = site.factory(&context);
    another.provision(&globex).await.unwrap();
    another.get_adapters(&globex).await.unwrap();
    assert_eq!(left(&mut admin, &site.prefix).await, (1, 8), "the spare and its roles stay");
    another.deprovision(&globex).await.unwrap();
    run(&mut admin, limit(-1, "--s-")).await;
}
