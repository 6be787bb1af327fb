//! Templates, and databases made in advance.

use std::{pin::pin, sync::Arc};

use futures_util::future::{Either, join_all, select};
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind, FactoryContext, SchemaRecord};
use mt_postgres::PostgresFactory;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::PgConnectOptions,
};

use crate::support::{Schema, Site, context, tenant};

async fn connect(site: &Site, database: &str) -> sqlx::Result<PgConnection> {
    let mut url = site.url();
    url.set_path(database);
    url.as_str().parse::<PgConnectOptions>()?.connect().await
}

/// Databases under the prefix that are no tenant's, by their letter: `s`, spares, and `t`,
/// templates.
async fn nobodys(site: &Site, letter: char) -> Vec<String> {
    let mut admin = connect(site, "postgres").await.unwrap();
    let sql =
        "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1";
    let names = sqlx::query_scalar(sql).bind(format!("{}--{letter}-", site.prefix));
    names.fetch_all(&mut admin).await.unwrap()
}

async fn size_of_database(site: &Site, database: &str) -> u64 {
    let mut admin = connect(site, "postgres").await.unwrap();
    let size = sqlx::query_scalar::<_, i64>("SELECT pg_database_size($1)").bind(database);
    u64::try_from(size.fetch_one(&mut admin).await.unwrap()).unwrap()
}

async fn run(site: &Site, sql: String) {
    let mut admin = connect(site, "postgres").await.unwrap();
    admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

fn with(context: &FactoryContext, schema: &'static str) -> FactoryContext {
    context.clone().with_template(Arc::new(Schema(schema)))
}

fn stocked(site: &Site, context: &FactoryContext, spares: u32) -> PostgresFactory {
    site.builder(context).with_spare_databases(spares).build().unwrap()
}

async fn text(data: &impl sea_orm::ConnectionTrait, sql: &str) -> Result<String, sea_orm::DbErr> {
    let row = data.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.unwrap().try_get_by_index(0)
}

async fn has_schema(data: &DataAdapters, schema: &str) {
    let insert = "INSERT INTO more.notes (mood, text) VALUES ('ok', 'a') RETURNING id::text";
    assert_eq!(text(data, "SELECT newest()").await.unwrap(), schema);
    assert_eq!(text(&data.read(), "SELECT newest()").await.unwrap(), schema);
    assert_eq!(text(data, insert).await.unwrap(), "2", "the sequence goes on");
    text(&data.read(), insert).await.unwrap_err();
    for refused in [
        "CREATE TABLE more.mine (id int)",
        "DROP TABLE more.notes",
        "DELETE FROM ledger",
        "DELETE FROM _mt_tenant",
    ] {
        data.execute_unprepared(refused).await.unwrap_err();
    }
    assert_eq!(text(data, "SELECT version FROM ledger").await.unwrap(), schema);
}

#[tokio::test]
async fn a_copy_of_the_template_is_wholly_its_tenants() {
    let site = Site::find().await;
    let context = with(&context(), "z1");
    let factory = site.factory(&context);
    let tenants = ["a", "b", "c"].map(tenant);
    // All at once: one of them makes the template.
    for made in join_all(tenants.iter().map(|tenant| factory.provision(tenant))).await {
        made.unwrap();
    }
    for tenant in &tenants {
        has_schema(&factory.get_adapters(tenant).await.unwrap(), "z1").await;
    }
    let templates = nobodys(&site, 't').await;
    assert_eq!(templates.len(), 1, "{templates:?}");
    assert!(connect(&site, &templates[0]).await.is_err(), "nobody gets into a template");
    // It was packed, and so is its copy, with all that it has more than an empty database.
    let size = factory.describe(&tenants[0]).await.unwrap().size_bytes.unwrap();
    assert!(size < size_of_database(&site, "template0").await, "{size} bytes");
    // What a migration makes later is given out as what the template had.
    let maintenance =
        factory.maintain(&tenants[0], mt_core::MaintenanceMode::Shared).await.unwrap();
    let mt_core::Connection::SeaOrm(connection) = maintenance.connection() else { panic!() };
    connection.execute_unprepared("CREATE TABLE more.later (id int)").await.unwrap();
    connection.execute_unprepared("DROP TABLE more.notes CASCADE").await.unwrap();
    maintenance.close().await;
    let data = factory.get_adapters(&tenants[0]).await.unwrap();
    data.execute_unprepared("INSERT INTO more.later VALUES (1)").await.unwrap();
    drop(data);
    for tenant in &tenants {
        factory.deprovision(tenant).await.unwrap();
    }
    // Somebody removes it; it is made anew.
    run(&site, format!("DROP DATABASE \"{}\"", templates[0])).await;
    factory.provision(&tenants[0]).await.unwrap();
    has_schema(&factory.get_adapters(&tenants[0]).await.unwrap(), "z1").await;
    assert_eq!(nobodys(&site, 't').await, templates);
    // Somebody takes away what says that it is one: it is not copied, nor taken away.
    run(&site, format!("COMMENT ON DATABASE \"{}\" IS NULL", templates[0])).await;
    let other = site.factory(&context);
    let error = other.provision(&tenants[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    assert!(error.to_string().contains(&templates[0]), "{error}");
    // And where another process has made it anew since.
    run(&site, format!("DROP DATABASE \"{}\"", templates[0])).await;
    other.provision(&tenants[1]).await.unwrap();
    factory.provision(&tenants[2]).await.unwrap();
    has_schema(&factory.get_adapters(&tenants[2]).await.unwrap(), "z1").await;
    assert!(nobodys(&site, 's').await.is_empty());
}

#[tokio::test]
async fn a_spare_is_claimed_once_and_only_for_its_schema() {
    let site = Site::find().await;
    let context = context();
    let old = with(&context, "z1");
    let factory = stocked(&site, &old, 3);
    factory.tend().await.unwrap();
    let made = nobodys(&site, 's').await;
    assert_eq!(made.len(), 3);
    factory.tend().await.unwrap();
    assert_eq!(nobodys(&site, 's').await, made, "the stock is full");
    // Another process knows of the same ones; each is claimed once.
    let other = site.factory(&old);
    let tenants = ["a", "b", "c", "d"].map(tenant);
    let provisions = tenants.iter().enumerate().map(|(number, tenant)| {
        let factory = if number % 2 == 0 { &factory } else { &other };
        factory.provision(tenant)
    });
    for made in join_all(provisions).await {
        made.unwrap();
    }
    assert!(nobodys(&site, 's').await.is_empty());
    for tenant in &tenants {
        factory.provision(tenant).await.unwrap();
        has_schema(&factory.get_adapters(tenant).await.unwrap(), "z1").await;
    }
    // A program with another schema leaves those of this one alone, and makes its own.
    factory.tend().await.unwrap();
    let new = stocked(&site, &with(&context, "z2"), 1);
    let e = tenant("e");
    new.provision(&e).await.unwrap();
    has_schema(&new.get_adapters(&e).await.unwrap(), "z2").await;
    new.tend().await.unwrap();
    assert_eq!(nobodys(&site, 's').await.len(), 4);
    // Another installation has nothing of it.
    let stranger = stocked(&site, &with(&crate::support::context(), "z1"), 0);
    stranger.provision(&tenant("f")).await.unwrap();
    assert_eq!(nobodys(&site, 's').await.len(), 4);
}

#[tokio::test]
async fn provisioning_with_a_stock_adopts_and_refuses_as_without() {
    let site = Site::find().await;
    let context = with(&context(), "z1");
    let factory = stocked(&site, &context, 2);
    let [a, b] = ["a", "b"].map(tenant);
    factory.provision(&a).await.unwrap();
    let data = factory.get_adapters(&a).await.unwrap();
    data.execute_unprepared("INSERT INTO more.notes (text) VALUES ('kept')").await.unwrap();
    factory.tend().await.unwrap();
    factory.provision(&a).await.unwrap();
    assert_eq!(text(&data, "SELECT max(text) FROM texts").await.unwrap(), "z1");
    assert_eq!(text(&data, "SELECT count(*)::text FROM texts").await.unwrap(), "2");
    assert_eq!(nobodys(&site, 's').await.len(), 2, "no spare was used up");
    run(&site, format!("CREATE DATABASE \"{}b\"", site.prefix)).await;
    let taken = factory.provision(&b).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::NameTaken);
    assert_eq!(nobodys(&site, 's').await.len(), 2);
    // Somebody is in a spare, another is gone: the next is claimed, or one is made.
    let spares = nobodys(&site, 's').await;
    run(&site, format!("DROP DATABASE \"{}\"", spares[0])).await;
    factory.provision(&tenant("c")).await.unwrap();
    assert!(nobodys(&site, 's').await.is_empty());
    factory.provision(&tenant("d")).await.unwrap();
}

#[tokio::test]
async fn what_is_recorded_of_all_is_read_without_opening_any() {
    let site = Site::find().await;
    let context = with(&context(), "z1");
    let factory = stocked(&site, &context, 1);
    let tenants = ["a", "b", "none"].map(tenant);
    factory.tend().await.unwrap();
    for tenant in &tenants[..2] {
        factory.provision(tenant).await.unwrap();
    }
    let recorded = factory.recorded_schemas(&tenants).await.unwrap();
    let expected = SchemaRecord { version: None, fingerprint: Some("z1".to_owned()) };
    let schemas: Vec<_> = recorded.into_iter().map(|r| r.map(|recorded| recorded.schema)).collect();
    assert_eq!(schemas, [Some(expected.clone()), Some(expected.clone()), None]);
    assert_eq!(factory.describe(&tenants[0]).await.unwrap().recorded, Some(expected));
    // Another installation's is not told.
    let stranger = site.factory(&with(&crate::support::context(), "z1"));
    assert_eq!(stranger.recorded_schemas(&tenants).await.unwrap(), [None, None, None]);
}

/// As a crash does: what was done to a database that is being made is undone, and whoever makes it
/// goes on.
async fn lose(site: &Site, mut admin: PgConnection) -> sqlx::Result<()> {
    let sql = "SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database \
        WHERE starts_with(datname::text, $1)";
    let prefix = format!("{}--s-", site.prefix);
    let found = || sqlx::query_as::<_, (String, Option<String>)>(sql).bind(prefix.as_str());
    let spare = loop {
        if let Some((name, _)) = found().fetch_optional(&mut admin).await? {
            break name;
        }
    };
    // While somebody is in it, it is not claimed.
    let inside = connect(site, &spare).await?;
    admin.execute("COMMIT").await?;
    while found().fetch_one(&mut admin).await?.1.is_none() {}
    let sql = format!("COMMENT ON DATABASE \"{spare}\" IS NULL");
    admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    inside.close().await
}

#[tokio::test]
async fn a_database_that_was_not_finished_is_not_claimed() {
    let site = Site::find().await;
    let factory = site.factory(&with(&context(), "z1"));
    factory.provision(&tenant("first")).await.unwrap();
    let mut losses = 0;
    for number in 0..20 {
        let tenant = tenant(&format!("t{number}"));
        let mut admin = connect(&site, "postgres").await.unwrap();
        // Nobody writes a comment meanwhile.
        admin.execute("BEGIN; LOCK TABLE pg_shdescription IN SHARE MODE").await.unwrap();
        let made = match select(factory.provision(&tenant), pin!(lose(&site, admin))).await {
            Either::Left((made, _)) => made,
            Either::Right((_, making)) => making.await,
        };
        if let Err(error) = made {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(error.to_string().contains("lost"), "{error}");
            losses += 1;
            factory.provision(&tenant).await.unwrap();
        }
        has_schema(&factory.get_adapters(&tenant).await.unwrap(), "z1").await;
        assert!(nobodys(&site, 's').await.is_empty());
        if losses == 3 {
            return;
        }
    }
    panic!("whoever is to lose something comes too late: {losses} losses");
}

#[tokio::test]
async fn a_spare_whose_comment_changed_is_not_claimed() {
    let site = Site::find().await;
    let factory = stocked(&site, &with(&context(), "z1"), 2);
    factory.tend().await.unwrap();
    let spares = nobodys(&site, 's').await;
    // The process believes that both are ready.
    run(&site, format!("COMMENT ON DATABASE \"{}\" IS NULL", spares[0])).await;
    let tenant = tenant("a");
    factory.provision(&tenant).await.unwrap();
    has_schema(&factory.get_adapters(&tenant).await.unwrap(), "z1").await;
    assert_eq!(nobodys(&site, 's').await, spares[..1]);
}
