//! The connections by which databases and roles are made, looked at and removed.

use std::{fmt, sync::Arc, time::Duration};

use postgres_protocol::escape::{escape_identifier, escape_literal};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    PostgresConfig,
    error::{Error, Result},
    names::{Identity, Part},
};

/// How many connections to the server's own database there are at most.
pub(crate) const CONNECTIONS: u32 = 4;

/// How many connections to tenants' databases there are at most beside those of requests: to look
/// into them, and to change their schemas.
pub(crate) const ENTRANCES: usize = 12;

const CONNECT: &str = "connect to the tenant's database";

/// How long one waits for one of these. They may be held for as long as a migration takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to the server's own database, as the role of the settings.
#[derive(Clone)]
pub(crate) struct Admin {
    pool: PgPool,
    server: PgConnectOptions,
    entrances: Arc<Semaphore>,
}

impl Admin {
    pub(crate) fn new(server: PgConnectOptions, config: &PostgresConfig) -> Self {
        // That something is there already is no news.
        let quiet = [("client_min_messages", "warning")];
        let server = server.application_name("mt-postgres").options(quiet);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(crate::connect::IDLE)
            .connect_lazy_with(server.clone());
        Self { pool, server, entrances: Arc::new(Semaphore::new(ENTRANCES)) }
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How to reach the server, for connections to other databases.
    pub(crate) const fn server(&self) -> &PgConnectOptions {
        &self.server
    }

    /// Runs statements without parameters. Several are one transaction.
    pub(crate) async fn run(&self, action: &'static str, sql: String) -> Result<()> {
        self.pool
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map(drop)
            .map_err(Error::server(action))
    }

    /// The right to one connection to a tenant's database.
    ///
    /// # Errors
    /// `Unavailable`: all are taken, for long.
    pub(crate) async fn entrance(&self) -> Result<OwnedSemaphorePermit> {
        let entrance = Arc::clone(&self.entrances).acquire_owned();
        let entrance = tokio::time::timeout(PATIENCE, entrance).await;
        entrance.ok().and_then(std::result::Result::ok).ok_or(Error::Crowded)
    }

    /// A connection to a tenant's database that acts as one of its roles: what is in there may not
    /// act as whoever administers the server.
    pub(crate) async fn enter(
        &self,
        database: &str,
        identity: &Identity,
        part: Part,
    ) -> Result<Inside> {
        let mut inside = self.visit(database).await?;
        run(&mut inside.connection, CONNECT, set_role(identity, part)).await?;
        Ok(inside)
    }

    /// A connection, as whoever administers, to a database that no tenant ever used.
    pub(crate) async fn visit(&self, database: &str) -> Result<Inside> {
        let entrance = self.entrance().await?;
        let options = self.server.clone().database(database);
        let connection = options.connect().await.map_err(Error::server(CONNECT))?;
        Ok(Inside { connection, entrance })
    }
}

/// One connection to a tenant's database, and the right to it.
pub(crate) struct Inside {
    // In this order: its place is another's once it is closed.
    pub(crate) connection: PgConnection,
    #[expect(dead_code, reason = "held for its drop")]
    entrance: OwnedSemaphorePermit,
}

impl Inside {
    /// Closes it. That it does not end well is no news: what was to be done is done.
    pub(crate) async fn close(self) {
        drop(self.connection.close().await);
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Runs statements without parameters on `connection`. Several are one transaction.
pub(crate) async fn run(
    connection: &mut PgConnection,
    action: &'static str,
    sql: String,
) -> Result<()> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await
        .map(drop)
        .map_err(Error::server(action))
}

/// The statement that makes a connection act as a role.
pub(crate) fn set_role(identity: &Identity, part: Part) -> String {
    format!("SET ROLE {}", ident(&identity.role(part)))
}

/// A name, quoted.
pub(crate) fn ident(name: &str) -> String {
    escape_identifier(name)
}

/// A text, quoted.
pub(crate) fn literal(text: &str) -> String {
    escape_literal(text)
}
