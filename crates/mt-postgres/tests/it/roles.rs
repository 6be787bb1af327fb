//! What a tenant's roles may do, whatever SQL is run as one of them.

use mt_core::{Connection, DatabaseFactory as _, MaintenanceMode};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::PgConnectOptions,
};
use url::Url;

use crate::support::{Schema, Site, context, tenant};

/// Somebody who has the password of a role, past our own handles.
async fn connect(url: &Url, role: &str, database: &str) -> sqlx::Result<PgConnection> {
    let mut url = url.clone();
    url.set_username(role).unwrap();
    url.set_password(Some("guess")).unwrap();
    url.set_path(database);
    url.as_str().parse::<PgConnectOptions>()?.connect().await
}

async fn run(connection: &mut PgConnection, sql: impl Into<String>) -> sqlx::Result<()> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.into()))).await.map(drop)
}

/// The server's code of a refusal.
fn code(refused: sqlx::Result<()>) -> String {
    let error = refused.unwrap_err();
    let sqlx::Error::Database(error) = error else { panic!("{error:?}") };
    error.code().unwrap().into_owned()
}

#[tokio::test]
async fn a_tenants_role_reaches_its_rows_and_nothing_else() {
    const DENIED: &str = "42501";
    let site = Site::find().await;
    let factory = site.factory(&context());
    let (a, b) = (tenant("a"), tenant("b"));
    let mut databases = Vec::new();
    for tenant in [&a, &b] {
        factory.provision(tenant).await.unwrap();
        databases.push(factory.describe(tenant).await.unwrap().name.as_str().to_owned());
    }
    let [own, other] = [&databases[0], &databases[1]];
    let url = site.url();
    let mut admin = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let owner = "SELECT rolname::text FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE datname = $1";
    let owner: String = sqlx::query(owner).bind(own).fetch_one(&mut admin).await.unwrap().get(0);
    for letter in ["w", "r"] {
        let role = owner.replace("--o-", &format!("--{letter}-"));
        run(&mut admin, format!("ALTER ROLE \"{role}\" PASSWORD 'guess'")).await.unwrap();
        let refused = connect(&url, &role, other).await.map(drop);
        assert_eq!(code(refused), DENIED, "{letter}");
        // Nor the server's own, where others may connect.
        let mut connection = connect(&url, &role, own).await.unwrap();
        let mut refused = Vec::new();
        for sql in [
            format!("DROP DATABASE \"{other}\""),
            "CREATE DATABASE mine".to_owned(),
            format!("ALTER DATABASE \"{own}\" RENAME TO mine"),
            format!("COMMENT ON DATABASE \"{own}\" IS 'mine'"),
            format!("SET ROLE \"{owner}\""),
            "CREATE ROLE mine".to_owned(),
            "CREATE TABLE mine (x int)".to_owned(),
            "CREATE SCHEMA mine".to_owned(),
            "CREATE TEMP TABLE mine (x int)".to_owned(),
            "DROP VIEW _mt_tenant".to_owned(),
            "COPY (SELECT 1) TO PROGRAM 'true'".to_owned(),
        ] {
            refused.push((code(run(&mut connection, sql.as_str()).await), sql));
        }
        for (code, sql) in refused {
            assert_eq!(code, DENIED, "{sql}");
        }
        let dropped = run(&mut connection, format!("DROP DATABASE \"{own}\"")).await;
        // One cannot drop the database one is in, owner or not.
        assert!(["55006", DENIED].contains(&code(dropped).as_str()));
        for sql in ["DELETE FROM _mt_tenant", "UPDATE _mt_tenant SET tenant = 'b'"] {
            assert!([DENIED, "55000"].contains(&code(run(&mut connection, sql).await).as_str()));
        }
        connection.close().await.unwrap();
    }
    for tenant in [&a, &b] {
        factory.describe(tenant).await.unwrap();
        factory.deprovision(tenant).await.unwrap();
    }
    let left = "SELECT count(*) FROM pg_roles WHERE starts_with(rolname::text, $1)";
    let left: i64 =
        sqlx::query(left).bind(&site.prefix).fetch_one(&mut admin).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_administrator_need_not_be_a_superuser() {
    let site = Site::find().await;
    let url = site.url();
    let mut admin = url.as_str().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let role = format!("{}admin", site.prefix);
    let make = format!("CREATE ROLE \"{role}\" LOGIN CREATEDB CREATEROLE PASSWORD 'guess'");
    run(&mut admin, make).await.unwrap();
    let mut theirs = url.clone();
    theirs.set_username(&role).unwrap();
    theirs.set_password(Some("guess")).unwrap();
    // With a schema, whose template has something in a schema of its own.
    let context = context().with_template(std::sync::Arc::new(Schema("z1")));
    let factory = site.builder(&context).with_admin_url(theirs.as_str()).build().unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    factory.suspend(&acme).await.unwrap();
    factory.describe(&acme).await.unwrap();
    factory.activate(&acme).await.unwrap();
    drop(data);
    factory.deprovision(&acme).await.unwrap();
    let template = "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1)";
    let template: String =
        sqlx::query(template).bind(&site.prefix).fetch_one(&mut admin).await.unwrap().get(0);
    run(&mut admin, format!("DROP DATABASE \"{template}\"")).await.unwrap();
    let left = format!(
        "DO $$ DECLARE r text; BEGIN FOR r IN SELECT rolname FROM pg_roles \
         WHERE starts_with(rolname, '{0}') ORDER BY rolname LIKE '%admin' LOOP \
         EXECUTE format('DROP ROLE %I', r); END LOOP; END $$",
        site.prefix
    );
    run(&mut admin, left).await.unwrap();
}

/// Code in a tenant's database runs as whoever meets it; a migration does.
#[tokio::test]
async fn who_changes_the_schema_has_no_rights_elsewhere() {
    let site = Site::find().await;
    let factory = site.factory(&context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let maintenance = factory.maintain(&acme, MaintenanceMode::Shared).await.unwrap();
    let Connection::SeaOrm(connection) = maintenance.connection() else { panic!() };
    let who = async || {
        let sql = "SELECT session_user || ' as ' || current_user";
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        let who: String = row.try_get_by_index(0).unwrap();
        who
    };
    let (maintainer, owner) = (format!("{}--m-", site.prefix), format!("{}--o-", site.prefix));
    for change in ["SELECT 1", "RESET ROLE", "RESET ALL", "SET SESSION AUTHORIZATION DEFAULT"] {
        connection.execute_unprepared(change).await.unwrap();
        let who = who().await;
        let is_own = who.matches(&maintainer).count() + who.matches(&owner).count() == 2;
        assert!(is_own && who.starts_with(&maintainer), "{who} after {change}");
    }
    connection.execute_unprepared("SET ROLE NONE").await.unwrap();
    for refused in [
        "CREATE TABLE public.mine (x int)",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
    ] {
        connection.execute_unprepared(refused).await.unwrap_err();
    }
    maintenance.close().await;
    factory.deprovision(&acme).await.unwrap();
}

/// A role may change its own password and settings, and SQL may say so in ways that nobody sees.
#[tokio::test]
async fn what_a_role_did_to_itself_is_undone() {
    let site = Site::find().await;
    let context = context();
    let factory = site.factory(&context);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    for refused in [
        "ALTER ROLE CURRENT_USER PASSWORD 'guess'",
        "alter user current_user set search_path = other",
        "ALTER DATABASE x SET search_path = other",
        "GRANT SELECT ON notes TO PUBLIC",
        "CREATE ROLE mine",
    ] {
        let error = data.execute_unprepared(refused).await.unwrap_err();
        let error = mt_core::Error::in_db_err(&error).unwrap();
        assert_eq!(error.kind(), mt_core::ErrorKind::Unsupported, "{refused}");
    }
    let hidden = r"DO $$ BEGIN EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD ''guess'''; EXECUTE 'ALTER ROLE CURRENT_USER SET search_path = other'; END $$";
    data.execute_unprepared(hidden).await.unwrap();
    data.close(std::time::Duration::from_secs(5)).await.unwrap();
    let is_told = |error: mt_core::Error| {
        assert_eq!(error.kind(), mt_core::ErrorKind::Unauthenticated, "{error:?}");
        let told = error.to_string();
        assert!(told.contains("`role_secret`") && told.contains("`activate`"), "{told}");
        assert!(told.contains("tenant `acme`"), "{told}");
    };
    is_told(factory.get_adapters(&acme).await.unwrap_err());
    factory.activate(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    data.execute_unprepared("SELECT 1").await.unwrap();
    drop(data);
    // Another secret is other passwords, until the roles are given them.
    let other = "another secret of this test";
    let other = site.builder(&context).with_role_secret(other).build().unwrap();
    is_told(other.get_adapters(&acme).await.unwrap_err());
    other.activate(&acme).await.unwrap();
    drop(other.get_adapters(&acme).await.unwrap());
    is_told(factory.describe(&acme).await.unwrap_err());
    factory.activate(&acme).await.unwrap();
    factory.deprovision(&acme).await.unwrap();
}
