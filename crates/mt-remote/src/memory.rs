//! SQLite databases in memory that rows and errors pass through.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use mt_core::{Error, ErrorKind};
use sea_orm::{
    DbErr,
    sqlx::{
        self, ConnectOptions as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions,
    },
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many statements stay prepared in a connection: a few sizes of each of the shapes of rows
/// that an application reads. The largest takes about a megabyte.
const PREPARED: usize = 64;
/// How many rows sqlx's thread may be ahead of us.
const AHEAD: usize = 256;

/// One column of each type that sqlx tells apart when a column has been declared with it, and one
/// that has none. Never holds a row.
const TABLE: &str = "CREATE TABLE t (untyped, boolean BOOLEAN, int4 INT4, integer INTEGER, \
                     real REAL, text TEXT, blob BLOB, date DATE, time TIME, datetime DATETIME)";

/// The column of the table in memory of which sqlx says the same type as of one that was declared
/// as `declared`.
pub(crate) fn typed_column(declared: Option<&str>) -> &'static str {
    const BY_NAME: [(&str, &str); 9] = [
        ("int4", "int4"),
        ("int8", "integer"),
        ("boolean", "boolean"),
        ("bool", "boolean"),
        ("date", "date"),
        ("time", "time"),
        ("datetime", "datetime"),
        ("timestamp", "datetime"),
        ("integer", "integer"),
    ];
    const BY_PART: [(&str, &str); 8] = [
        ("int", "integer"),
        ("char", "text"),
        ("clob", "text"),
        ("text", "text"),
        ("blob", "blob"),
        ("real", "real"),
        ("floa", "real"),
        ("doub", "real"),
    ];
    let Some(declared) = declared else { return "untyped" };
    if let Some((_, column)) = BY_NAME.iter().find(|(name, _)| declared.eq_ignore_ascii_case(name))
    {
        return column;
    }
    let declared = declared.to_ascii_lowercase();
    let by_part = BY_PART.iter().find(|(part, _)| declared.contains(part));
    by_part.map_or("untyped", |(_, column)| column)
}

/// A few connections, opened when they are needed. They belong to no runtime: each has a thread of
/// its own, and what waits for them waits for a channel.
pub(crate) struct Connections {
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
    /// Where errors are provoked: what that does to the schema would cost the others their
    /// prepared statements.
    pub(crate) faults: tokio::sync::Mutex<Option<SqliteConnection>>,
}

impl Connections {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            idle: Mutex::default(),
            permits: Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)),
            faults: tokio::sync::Mutex::default(),
        }
    }

    /// A connection with the table `t`, for as long as the lease lasts.
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, DbErr> {
        // Closed by nobody; if it were, going without a permit would only mean one connection more.
        let permit = self.permits.acquire().await.ok();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let mut connection = open().await?;
                connection.execute(TABLE).await.map_err(failed)?;
                connection
            }
        };
        Ok(Lease { connection: Some(connection), connections: self, _permit: permit })
    }
}

/// A database in memory of its own.
pub(crate) async fn open() -> Result<SqliteConnection, DbErr> {
    SqliteConnectOptions::new()
        .statement_cache_capacity(PREPARED)
        .row_buffer_size(AHEAD)
        .thread_name(|id| format!("mt-remote-memory-{id}"))
        // The tenant's data would be in the log, under statements that nobody wrote.
        .disable_statement_logging()
        .connect()
        .await
        .map_err(failed)
}

/// A connection that goes back when it is dropped. sqlx runs a statement that nobody waits for any
/// more to its next row and resets it before the next, so there is nothing to clean up.
pub(crate) struct Lease<'a> {
    connection: Option<SqliteConnection>,
    connections: &'a Connections,
    // After the connection, which must be back when the next is let in.
    _permit: Option<SemaphorePermit<'a>>,
}

impl Lease<'_> {
    /// Closes the connection instead of giving it back.
    pub(crate) fn discard(mut self) {
        drop(self.connection.take());
    }
}

impl Deref for Lease<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("it is taken only as the lease ends")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("it is taken only as the lease ends")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.connections.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

pub(crate) fn failed(error: sqlx::Error) -> DbErr {
    Error::new(ErrorKind::Internal, "the database in memory that rows pass through failed")
        .with_source(error)
        .into_db_err()
}
