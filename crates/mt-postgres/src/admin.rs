//! The connections by which databases and roles are made, looked at and removed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use mt_core::{DeploymentId, Secret};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    PostgresConfig,
    connect::{IDLE, asked_after_a_pause},
    error::{CONNECT, Error, Result},
    names::{Identity, Part},
    roles::Passwords,
};

/// How many connections to the server's own database there are at most.
pub(crate) const CONNECTIONS: u32 = 4;

/// How many connections to tenants' databases there are at most beside those of requests: to look
/// into them, and to change their schemas.
pub(crate) const ENTRANCES: usize = 12;

/// How long one waits for one of these. They may be held for as long as a migration takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether the last session has left a new database.
const LEAVING: usize = 100;

/// What a session of administration has otherwise than the server, where the server says no and the
/// role may say yes. What is answered is on the disk. What is written to the server's log is
/// compressed: a copy of a database goes through it as a whole, and of 4.4 MB become 1.9, measured.
const SETTINGS: &str = "SELECT set_config(name, wanted, false) \
    FROM pg_settings JOIN (VALUES ('synchronous_commit', 'on'), ('wal_compression', 'lz4')) \
    AS ours (name, wanted) USING (name) \
    WHERE setting = 'off' AND wanted = ANY (enumvals) AND has_parameter_privilege(name, 'SET')";

/// The catalogs that the administrator asks are in memory. Otherwise the server, which never counts
/// what is in them, may read all comments for each of them.
const PLANNING: [(&str, &str); 1] = [("random_page_cost", "1")];

/// What prepares a database is on the disk when it is answered, unless it says otherwise.
pub(crate) const DURABLE: [(&str, &str); 1] = [("synchronous_commit", "on")];

/// What all sessions have, tenants' included. The server notices a machine that died; and whoever
/// administers or migrates has no limit of time but those that are set where one is wanted.
const SESSION: [(&str, &str); 5] = [
    ("client_min_messages", "warning"),
    ("statement_timeout", "0"),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "6"),
];

/// A way to the server's own database, as the role of the settings.
#[derive(Clone)]
pub(crate) struct Admin {
    pool: PgPool,
    server: PgConnectOptions,
    passwords: Passwords,
    entrances: Arc<Semaphore>,
    /// The server's version, such as 18, as the newest connection told it; 0: none did yet.
    version: Arc<AtomicU32>,
}

impl Admin {
    pub(crate) fn new(
        server: PgConnectOptions,
        config: &PostgresConfig,
        deployment: DeploymentId,
    ) -> Self {
        let server = server.application_name("mt-postgres").options(SESSION);
        // Its statements have what passwords are checked with.
        let server = server.disable_statement_logging();
        let version = Arc::new(AtomicU32::new(0));
        let told = Arc::clone(&version);
        let pool = asked_after_a_pause(PgPoolOptions::new())
            .after_connect(move |connection, _| {
                told.store(major(connection), Ordering::Relaxed);
                Box::pin(async {
                    // It works without.
                    drop(connection.execute(SETTINGS).await);
                    Ok(())
                })
            })
            .max_connections(CONNECTIONS)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(IDLE)
            .connect_lazy_with(server.clone().options(PLANNING));
        let passwords = Passwords::new(&Secret::new(config.role_secret.as_str()), deployment);
        let entrances = Arc::new(Semaphore::new(ENTRANCES));
        Self { pool, server, passwords, entrances, version }
    }

    /// The server's version, such as 18, if there was a connection to it already. Does no I/O.
    pub(crate) fn known_version(&self) -> Option<u32> {
        Some(self.version.load(Ordering::Relaxed)).filter(|version| *version != 0)
    }

    /// The server's version, such as 18.
    pub(crate) async fn version(&self) -> Result<u32> {
        if let Some(version) = self.known_version() {
            return Ok(version);
        }
        let connected =
            self.pool.acquire().await.map_err(Error::server("connect to the server"))?;
        Ok(major(&connected))
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How to reach the server, for connections to other databases.
    pub(crate) const fn server(&self) -> &PgConnectOptions {
        &self.server
    }

    /// The passwords of all roles.
    pub(crate) const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// How to reach a database as one of its roles.
    pub(crate) fn door(&self, database: &str, identity: &Identity, part: Part) -> PgConnectOptions {
        let role = identity.role(part);
        let options = self.server.clone().database(database).username(&role);
        options.password(self.passwords.of(&role).expose())
    }

    /// Runs statements without parameters. Several are one transaction.
    pub(crate) async fn run(&self, action: &'static str, sql: String) -> Result<()> {
        self.pool
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .map(drop)
            .map_err(Error::server(action))
    }

    /// As [`run`](Self::run), for what is of use to nobody before a later statement: it does not wait
    /// for the disk. Whatever is run later, and is on the disk, brings this along.
    pub(crate) async fn run_ahead(&self, action: &'static str, sql: &str) -> Result<()> {
        self.run(action, ahead(sql)).await
    }

    /// Waits a moment until nobody is in a database that was just left: a session ends a little after
    /// its connection does, and a server that is to rename the database meanwhile sleeps for a tenth
    /// of a second before it looks again.
    pub(crate) async fn until_left(&self, database: &str) -> Result<()> {
        for _ in 0..LEAVING {
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)";
            let asked = sqlx::query_scalar(sql).bind(database).fetch_one(&self.pool).await;
            if !asked.map_err(Error::server("ask who is in a new database"))? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
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

    /// A connection to a tenant's database as one of its own roles.
    pub(crate) async fn enter(
        &self,
        database: &str,
        identity: &Identity,
        part: Part,
    ) -> Result<Inside> {
        self.connect(self.door(database, identity, part)).await
    }

    /// A connection, as whoever administers, to a database that no tenant ever used.
    pub(crate) async fn visit(&self, database: &str) -> Result<Inside> {
        self.connect(self.server.clone().database(database)).await
    }

    async fn connect(&self, options: PgConnectOptions) -> Result<Inside> {
        let entrance = self.entrance().await?;
        let options = options.disable_statement_logging().options(DURABLE);
        let timeout = self.pool.options().get_acquire_timeout();
        // As a pool does: whoever takes all connections of the server may be done with one soon.
        let is_busy = |error: &sqlx::Error| {
            error.as_database_error().is_some_and(|e| e.is_transient_in_connect_phase())
        };
        let connect = || dial(&options, timeout);
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(10))
            .without_max_times()
            .with_total_delay(Some(timeout));
        let connected = connect.retry(backoff).when(is_busy).await;
        let connection = connected.map_err(Error::server(CONNECT))?;
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

/// Connects. A server that says nothing is not waited for.
pub(crate) async fn dial(
    options: &PgConnectOptions,
    timeout: Duration,
) -> sqlx::Result<PgConnection> {
    let connected = tokio::time::timeout(timeout, options.connect()).await;
    connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// 0: the server does not tell it in a form that is known.
fn major(connection: &PgConnection) -> u32 {
    connection.server_version_num().unwrap_or_default() / 10_000
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

/// The same statements, which do not wait for the disk; see [`Admin::run_ahead`].
pub(crate) fn ahead(sql: &str) -> String {
    format!("SET LOCAL synchronous_commit = off; {sql}")
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
