//! Connections to a tenant's database.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use mt_core::{BudgetSettings, Connect, TenantId};
use sea_orm::{DatabaseConnection, DbBackend, SqlxPostgresConnector};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    PostgresConfig,
    admin::{self, Admin, set_role},
    error::{CONNECT, Error, Result},
    names::{Identity, Part},
    place::Place,
};

/// How long a connection stays that nobody uses.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// After how long without use a connection is asked whether it still answers, before a statement is
/// sent over it. A restart of the server mostly takes longer: it is noticed by that and costs no call.
const UNASKED: Duration = Duration::from_millis(100);

/// What is left to administration and to others of the connections that the server takes, where the
/// settings do not say how many are for tenants.
const HEADROOM: usize = 4 + admin::CONNECTIONS as usize + admin::ENTRANCES;

/// How a tenant's database is reached as one of its roles.
pub(crate) struct Door {
    options: PgConnectOptions,
    acquire_timeout: Duration,
}

impl Door {
    pub(crate) fn new(
        admin: &Admin,
        place: &Place,
        identity: &Identity,
        part: Part,
        tenant: &TenantId,
        config: &PostgresConfig,
    ) -> Self {
        let timeout = config.statement_timeout_ms.to_string();
        let mut settings = vec![("statement_timeout", timeout.as_str())];
        if part == Part::Reader {
            settings.push(("default_transaction_read_only", "on"));
        }
        let options = to(admin, &place.name, identity, part, tenant.as_str()).options(settings);
        Self { options, acquire_timeout: config.acquire_timeout() }
    }
}

#[async_trait]
impl Connect for Door {
    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn connect(&self) -> mt_core::Result<DatabaseConnection> {
        let pool = asked_after_a_pause(single(self.acquire_timeout))
            .connect_lazy_with(self.options.clone());
        Ok(connected(pool).await?)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("database", &self.options.get_database())
            .field("role", &self.options.get_username())
            .finish_non_exhaustive()
    }
}

/// The budget of all tenants' connections: what the settings say, or what the server takes beside
/// [`HEADROOM`].
pub(crate) async fn budget(admin: &Admin, config: &PostgresConfig) -> Result<BudgetSettings> {
    let connections = match config.connection_budget {
        Some(connections) => connections,
        None => {
            let sql = "SELECT current_setting('max_connections')::int \
                - current_setting('superuser_reserved_connections')::int \
                - coalesce(current_setting('reserved_connections', true)::int, 0)";
            let all = sqlx::query_scalar::<_, i32>(sql).fetch_one(admin.pool()).await;
            let all = all.map_err(Error::server("ask how many connections the server takes"))?;
            let connections =
                usize::try_from(all).unwrap_or_default().saturating_sub(HEADROOM).max(1);
            tracing::debug!(connections, "for all tenants together");
            connections
        }
    };
    Ok(BudgetSettings::default()
        .with_max_connections(connections)
        .with_acquire_timeout(config.acquire_timeout())
        .with_idle_timeout(IDLE))
}

/// One connection as the owner, never replaced by another.
pub(crate) async fn maintain(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    purpose: &str,
    config: &PostgresConfig,
) -> Result<DatabaseConnection> {
    let timeout = config.lock_timeout_ms.to_string();
    let options = to(admin, database, identity, Part::Maintainer, purpose);
    let options = options.options([("lock_timeout", timeout)]);
    let set_role = set_role(identity, Part::Owner);
    let is_used = AtomicBool::new(false);
    let pool = single(config.acquire_timeout())
        .after_connect(move |connection, _| {
            // Another one would not have what the first had: a lock, settings, half of a migration.
            let was_used = is_used.swap(true, Ordering::SeqCst);
            let sql = set_role.clone();
            Box::pin(async move {
                if was_used {
                    return Err(sqlx::Error::PoolClosed);
                }
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
            })
        })
        .connect_lazy_with(options);
    connected(pool).await
}

/// Asks a connection whether it still answers, if nobody used it for a while.
pub(crate) fn asked_after_a_pause(options: PgPoolOptions) -> PgPoolOptions {
    options.test_before_acquire(false).before_acquire(|connection, meta| {
        Box::pin(async move {
            if meta.idle_for >= UNASKED {
                connection.ping().await?;
            }
            Ok(true)
        })
    })
}

fn single(acquire_timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
}

fn to(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    part: Part,
    purpose: &str,
) -> PgConnectOptions {
    let options = admin.door(database, identity, part);
    // The server cuts it off at 63 bytes.
    let options = options.application_name(&format!("mt {purpose}"));
    // Statements hold tenants' data, and are not for our log.
    options.disable_statement_logging()
}

async fn connected(pool: PgPool) -> Result<DatabaseConnection> {
    let first = pool.acquire().await.map(drop);
    if let Err(error) = first {
        pool.close().await;
        return Err(Error::server(CONNECT)(error));
    }
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}
