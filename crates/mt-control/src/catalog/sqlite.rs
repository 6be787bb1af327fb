//! A catalog in a SQLite file.

use std::{path::Path, time::Duration};

use mt_core::{ErrorKind, Stamp};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbErr, SqlxSqliteConnector, Statement,
    sqlx::{
        self, Connection as _,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many rows the thread of the connection may be ahead of whoever reads them. With fewer the two
/// wait for each other at each row of a long list.
const ROWS_AHEAD: usize = 1_000;

/// The connection to the file at `path`, which is made where there is none. Nothing is asked yet.
pub(super) fn connect(path: &Path) -> std::io::Result<DatabaseConnection> {
    make_private(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS_AHEAD)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    // One connection: the migration needs a single one, and the catalog's statements are short.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT)
        .test_before_acquire(false)
        // One that SQLite ended by itself, as on a full disk, sqlx goes on counting.
        .after_release(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options);
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// Whose the file is, if it is not a catalog's: a tenant's, or another program's.
pub(super) async fn owner(connection: &DatabaseConnection) -> Result<Option<String>, DbErr> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let rows = connection
        .query_all_raw(Statement::from_string(connection.get_database_backend(), sql))
        .await?;
    let names: Vec<String> =
        rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
    if names.iter().any(|name| name == Stamp::TABLE) {
        return Ok(Some("it is a tenant's database".to_owned()));
    }
    if names.iter().any(|name| name == "deployment") {
        return Ok(None);
    }
    Ok(names.first().map(|name| format!("something else is in it: the table `{name}`")))
}

/// Makes the folder and an empty file where there is none, for their owner only: the catalog names
/// all tenants.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    let mut file = std::fs::File::options();
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder.recursive(true).create(parent)?;
    }
    // SQLite takes an empty file for a new database.
    match file.write(true).create_new(true).open(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the log.
const SHM_FULL: i32 = 4874;

/// What kept the catalog from being opened, by the engine's own code
/// (<https://www.sqlite.org/rescode.html>).
pub(super) fn kind_of(error: &sqlx::Error) -> ErrorKind {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
    if code == Some(SHM_FULL) {
        return ErrorKind::QuotaExceeded;
    }
    // The lowest byte is the primary code.
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => ErrorKind::Corrupt,
        Some(13) => ErrorKind::QuotaExceeded,
        Some(3 | 8 | 14) => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    }
}
