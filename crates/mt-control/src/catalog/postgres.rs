//! A catalog in a database on a PostgreSQL server.

use std::{net::IpAddr, str::FromStr as _, time::Duration};

use mt_core::{Error, ErrorKind, Result, Stamp};
use mt_migration::Runner;
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use url::Url;

use super::{CatalogLocation, not_a_catalog, not_opened};

/// The schema of the catalog's tables.
const SCHEMA: &str = "mt_catalog";
/// The key of the advisory lock under which the first of several processes makes the schema: the
/// bytes of `mtcatl`. Such locks belong to a database.
const ADVISORY_LOCK: i64 = 0x6d74_6361_746c;
/// The most connections of one process. Its statements are short.
const CONNECTIONS: u32 = 4;
/// How long a connection may take, and how long a statement waits for one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays that nobody uses.
const IDLE: Duration = Duration::from_secs(60);
/// What the server ends by itself, in milliseconds: the statement of a process that waits for a row
/// whose holder's machine is gone.
const STATEMENT_TIMEOUT_MS: &str = "30000";

/// The connections to a catalog's database, which has a schema for it then; and whether all of
/// `runner`'s migrations are applied there.
pub(super) async fn connect(
    location: &CatalogLocation,
    url: &str,
    runner: &Runner,
) -> Result<(DatabaseConnection, bool)> {
    let options = options(url)?;
    let mut first = dial(location, &options).await?;
    let looked = claim(location, &mut first, runner).await;
    // It has done its work; how it ends is no news.
    drop(first.close().await);
    let is_current = looked?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(IDLE)
        .connect_lazy_with(options);
    Ok((SqlxPostgresConnector::from_sqlx_postgres_pool(pool), is_current))
}

/// Whether there is a catalog in the database.
pub(super) async fn is_made(location: &CatalogLocation, url: &str) -> Result<bool> {
    let mut connection = dial(location, &options(url)?).await?;
    let runner = Runner::of::<super::CatalogMigrator>()?;
    let found = Found::in_database(&mut connection, runner.ledger()).await;
    drop(connection.close().await);
    Ok(found.map_err(|e| failed(location, e))?.is_made)
}

/// By the server's code (<https://www.postgresql.org/docs/18/errcodes-appendix.html>).
pub(super) fn kind_of(error: &sqlx::Error) -> ErrorKind {
    let code = match error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default(),
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => return ErrorKind::Config,
        _ => return ErrorKind::Unavailable,
    };
    match &*code {
        // No such database, no such role or password, not allowed to connect or to make a schema.
        "3D000" | "28000" | "28P01" | "42501" => ErrorKind::Config,
        "53100" => ErrorKind::QuotaExceeded,
        code if ["08", "53", "57", "55", "40"].iter().any(|class| code.starts_with(class)) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

fn options(url: &str) -> Result<PgConnectOptions> {
    // Its parser's words may repeat a part of it.
    let wrong = || Error::new(ErrorKind::Config, "the catalog's URL has a parameter that is wrong");
    let read = Url::parse(url).map_err(|_secret| wrong())?;
    let mut options = PgConnectOptions::from_str(url).map_err(|_secret| wrong())?;
    let says_how = read.query_pairs().any(|(key, _)| key == "sslmode" || key == "ssl-mode");
    if !says_how && options.get_socket().is_none() && !is_here(options.get_host()) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    // Statements name tenants, and are not for our log; nor is it news that something is there.
    Ok(options.application_name("mt-catalog").disable_statement_logging().options([
        ("search_path", SCHEMA),
        ("client_min_messages", "warning"),
        ("statement_timeout", STATEMENT_TIMEOUT_MS),
    ]))
}

fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    host == "localhost" || host.starts_with('/') || is_address()
}

/// A connection of its own: a pool would go on trying, and not say why.
async fn dial(location: &CatalogLocation, options: &PgConnectOptions) -> Result<PgConnection> {
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(connected) => connected.map_err(|e| failed(location, e)),
        Err(elapsed) => Err(not_opened(location, ErrorKind::Unavailable, elapsed)),
    }
}

fn failed(location: &CatalogLocation, error: sqlx::Error) -> Error {
    not_opened(location, kind_of(&error), error)
}

/// Refuses a database that has something else in it, and makes the catalog's schema where there is
/// none. Answers whether all of `runner`'s migrations are applied.
async fn claim(
    location: &CatalogLocation,
    connection: &mut PgConnection,
    runner: &Runner,
) -> Result<bool> {
    let ledger = runner.ledger();
    let found = Found::in_database(connection, ledger).await.map_err(|e| failed(location, e))?;
    let found =
        if found.is_made { found } else { make_schema(location, connection, ledger).await? };
    found.refuse_others(location)?;
    Ok(runner.compare(&found.applied).is_current())
}

/// Makes the schema, unless another process just did, or the database is somebody else's.
async fn make_schema(
    location: &CatalogLocation,
    connection: &mut PgConnection,
    ledger: &str,
) -> Result<Found> {
    let failed = |e| failed(location, e);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ADVISORY_LOCK);
    lock.execute(&mut *transaction).await.map_err(failed)?;
    let found = Found::in_database(&mut transaction, ledger).await.map_err(failed)?;
    found.refuse_others(location)?;
    if !found.has_schema {
        let sql = AssertSqlSafe(format!("CREATE SCHEMA {SCHEMA}"));
        transaction.execute(sqlx::raw_sql(sql)).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(found)
}

/// What is in the database.
struct Found {
    is_tenants: bool,
    has_schema: bool,
    /// Whether a catalog was made there.
    is_made: bool,
    /// Something that is no extension's, in a database where no catalog was made yet. What is put
    /// beside one later is no reason to let an installation stand still.
    other: Option<String>,
    /// The applied migrations.
    applied: Vec<String>,
}

impl Found {
    /// Reads the system's own tables, which needs no rights on what is in there.
    async fn in_database(connection: &mut PgConnection, ledger: &str) -> sqlx::Result<Self> {
        let sql = "WITH relation AS ( \
               SELECT nspname::text AS schema, relname::text AS name FROM pg_class c \
               JOIN pg_namespace n ON n.oid = relnamespace \
               WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S') \
               AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' \
               AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass \
                 AND objid = c.oid AND deptype = 'e')), \
             made AS (SELECT EXISTS (SELECT FROM relation WHERE schema = $1 AND name = $2) AS is) \
             SELECT EXISTS (SELECT FROM relation WHERE schema = 'public' AND name = $3), \
               EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), made.is, \
               (SELECT schema || '.' || name FROM relation WHERE NOT made.is ORDER BY 1 LIMIT 1) \
             FROM made";
        let look = sqlx::query(sql).bind(SCHEMA).bind(ledger).bind(Stamp::TABLE);
        let row = look.fetch_one(&mut *connection).await?;
        let is_made = row.try_get(2)?;
        let mut applied = Vec::new();
        if is_made {
            let sql = format!("SELECT version::text FROM {SCHEMA}.\"{ledger}\"");
            applied = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await?;
        }
        Ok(Self {
            is_tenants: row.try_get(0)?,
            has_schema: row.try_get(1)?,
            is_made,
            other: row.try_get(3)?,
            applied,
        })
    }

    fn refuse_others(&self, location: &CatalogLocation) -> Result<()> {
        match &self.other {
            _ if self.is_tenants => Err(not_a_catalog(location, "it is a tenant's database")),
            Some(other) => {
                let why = format!("something else is in it, such as `{other}`");
                Err(not_a_catalog(location, &why))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_reached_by_tls_unless_it_is_said_otherwise() {
        let mode = |url: &str| format!("{:?}", options(url).unwrap().get_ssl_mode());
        for url in ["postgres://a:b@db.example/p", "postgres://a:b@10.0.0.1/p"] {
            assert_eq!(mode(url), "VerifyFull", "{url}");
        }
        for url in [
            "postgres://a:b@localhost/p",
            "postgres://a:b@127.0.0.1/p",
            "postgres://a:b@[::1]:5432/p",
            "postgres://a:b@%2Frun%2Fpostgresql/p",
        ] {
            assert_eq!(mode(url), "Prefer", "{url}");
        }
        assert_eq!(mode("postgres://a:b@db.example/p?sslmode=require"), "Require");
    }

    #[test]
    fn a_wrong_parameter_is_not_repeated() {
        let error = options("postgres://a:hunter2@h/p?sslmode=hunter2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!error.to_chain().contains("hunter2"), "{}", error.to_chain());
    }
}
