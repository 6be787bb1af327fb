use std::{path::Path, time::Duration};

use sea_orm::{
    DatabaseConnection, SqlxSqliteConnector,
    sqlx::{
        self, Connection as _, SqliteConnection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use crate::SqliteConfig;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A tenant's requests.
    Primary,
    /// A tenant's requests that only read.
    Read,
    /// Changing the schema.
    Maintenance,
}

/// How long a migration waits for another migrator's, which may take its time.
const MAINTENANCE_BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// A pool that opens connections as they are asked for, and none before.
///
/// SeaORM's own lazy connect asks for the engine's version at once, which opens the file and
/// starts a thread.
pub(crate) fn connect(path: &Path, config: &SqliteConfig, purpose: Use) -> DatabaseConnection {
    let mut options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(match purpose {
            Use::Primary | Use::Read => config.busy_timeout(),
            Use::Maintenance => MAINTENANCE_BUSY_TIMEOUT,
        })
        .synchronous(if config.durable {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Normal
        });
    let connections = match purpose {
        Use::Primary => {
            options = options.journal_mode(SqliteJournalMode::Wal);
            config.max_connections
        }
        Use::Read => {
            options = options.read_only(true);
            config.max_read_connections
        }
        Use::Maintenance => 1,
    };
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(config.busy_timeout().max(Duration::from_secs(1)))
        // A local file does not go away; asking first would cost each statement a round trip to
        // the connection's thread.
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_outside_transactions(connection)))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options);
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
}

/// Whether a connection may be used again.
///
/// Where SQLite ends a transaction by itself (`OR ROLLBACK`, `RAISE(ROLLBACK)`, a full disk), sqlx
/// 0.9.0 goes on counting it: its rollback fails, and so does not count. The next transaction would
/// be a savepoint for it, and rolling that back would leave a transaction open in which all later
/// writes are acknowledged and lost.
async fn is_outside_transactions(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // The rollback of one that was dropped may still be on its way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
