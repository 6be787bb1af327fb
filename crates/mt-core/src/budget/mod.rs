//! One limit on connections over all tenants.

mod line;
mod pool;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{DatabaseConnection, DbBackend};
use serde::Serialize;

use self::line::Line;
pub use self::pool::ConnectionPool;
pub(crate) use self::pool::Lease;
use crate::{Error, ErrorKind, Result};

/// How many connections there are at most, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSettings {
    /// The most connections at once, over all pools: in use, idle, being opened or closed.
    /// Default 60.
    pub max_connections: usize,
    /// How long a call waits for a connection to come free. Default 5 seconds.
    pub acquire_timeout: Duration,
    /// How long a connection stays that nobody uses. Default 1 minute.
    pub idle_timeout: Duration,
    /// How long a connection is used before another takes its place: a server's session grows with
    /// what it has seen. Default 30 minutes.
    pub max_lifetime: Duration,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            max_connections: 60,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(30 * 60),
        }
    }
}

impl BudgetSettings {
    /// Opens at most so many at once.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Waits this long for a connection.
    #[must_use]
    pub const fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Closes a connection after this long without use.
    #[must_use]
    pub const fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Closes a connection at the end of its first use after this long.
    #[must_use]
    pub const fn with_max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = lifetime;
        self
    }
}

/// A limit on connections over any number of tenants, for a server that takes only so many.
///
/// Each tenant has [pools](ConnectionPool) of its own; the connections in them are the budget's.
/// - A connection that is idle stays with its tenant as long as nobody else needs its place. Who
///   needs one when all are taken gets that of the connection that was not used for longest.
/// - When all are in use, calls wait in one line, first come, first served. A pool's own limit
///   bounds how many of one tenant are in use or in the line.
/// - A call that gives up, at any point, gives back what it had.
#[derive(Clone)]
pub struct ConnectionBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: BudgetSettings,
    line: Mutex<Line>,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a [`ConnectionBudget`] is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BudgetUsage {
    /// How many connections there may be.
    pub max: usize,
    /// How many there are, the idle ones included.
    pub open: usize,
    /// How many of them nobody uses.
    pub idle: usize,
    /// How many calls wait for one.
    pub waiting: usize,
}

/// Opens connections to one database, as one role.
#[async_trait]
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// The SQL dialect.
    fn backend(&self) -> DbBackend;

    /// Opens one: a [`DatabaseConnection`] that never has more than one connection to the server
    /// at a time. It may replace one that broke.
    ///
    /// # Errors
    /// `Unavailable` and its like, saying why there is none.
    async fn connect(&self) -> Result<DatabaseConnection>;
}

impl ConnectionBudget {
    /// A budget with nothing open.
    ///
    /// # Errors
    /// `Config`: `max_connections` is 0.
    pub fn new(settings: BudgetSettings) -> Result<Self> {
        if settings.max_connections == 0 {
            let message = "the connection budget is 0, expected 1 connection or more";
            return Err(Error::new(ErrorKind::Config, message));
        }
        let line = Mutex::new(Line::new(settings.max_connections));
        Ok(Self(Arc::new(Shared { settings, line })))
    }

    /// A pool for one database and role, with at most `most` connections of the budget at once, 1 or
    /// more. Opens nothing yet.
    pub fn pool(&self, connect: impl Connect, most: usize) -> ConnectionPool {
        ConnectionPool::new(&self.0, Arc::new(connect), most.max(1))
    }

    /// How much is taken now.
    pub fn usage(&self) -> BudgetUsage {
        self.0.line().usage()
    }
}

impl fmt::Debug for ConnectionBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionBudget")
            .field("settings", &self.0.settings)
            .field("usage", &self.usage())
            .finish()
    }
}

#[cfg(test)]
mod tests;
