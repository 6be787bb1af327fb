//! Pools of connections to a tenant's database.

use std::time::Duration;

use mt_core::TenantId;
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    PostgresConfig,
    admin::{Admin, set_role},
    error::{Error, Result},
    names::{Identity, Part},
    place::Place,
    roles::Passwords,
};

/// How long a connection stays that nobody uses.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// A pool for requests, with its first connection, so that whether the server lets this role in is
/// known.
pub(crate) async fn open(
    admin: &Admin,
    place: &Place,
    identity: &Identity,
    part: Part,
    passwords: &Passwords,
    tenant: &TenantId,
    config: &PostgresConfig,
) -> Result<DatabaseConnection> {
    let role = identity.role(part);
    let timeout = config.statement_timeout_ms.to_string();
    let mut settings = vec![("statement_timeout", timeout.as_str())];
    if part == Part::Reader {
        settings.push(("default_transaction_read_only", "on"));
    }
    let options = to(admin, place, tenant)
        .username(&role)
        .password(passwords.of(&role).expose())
        .options(settings);
    let pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout())
        .idle_timeout(IDLE)
        .connect_lazy_with(options);
    connected(pool).await
}

/// One connection as the owner, never replaced by another.
pub(crate) async fn maintain(
    admin: &Admin,
    place: &Place,
    identity: &Identity,
    tenant: &TenantId,
    config: &PostgresConfig,
) -> Result<DatabaseConnection> {
    let set_role = set_role(identity, Part::Owner);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(config.acquire_timeout())
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let sql = set_role.clone();
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
            })
        })
        .connect_lazy_with(to(admin, place, tenant));
    connected(pool).await
}

fn to(admin: &Admin, place: &Place, tenant: &TenantId) -> PgConnectOptions {
    let options = admin.server().clone().database(&place.name);
    // The server cuts it off at 63 bytes.
    let options = options.application_name(&format!("mt {tenant}"));
    // Statements hold tenants' data, and are not for our log.
    options.disable_statement_logging()
}

async fn connected(pool: PgPool) -> Result<DatabaseConnection> {
    let first = pool.acquire().await.map(drop);
    if let Err(error) = first {
        pool.close().await;
        return Err(Error::server("connect to the tenant's database")(error));
    }
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}
