use std::path::Path;

use mt_core::{Stamp, TenantId};
use mt_sqlite_copy::{find_stamp, has_table};
use rusqlite::{Connection, OpenFlags};

use crate::{
    SqliteConfig,
    error::{Error, Result},
    files::side_file,
};

/// What one look at a database file tells.
#[derive(Debug)]
pub(crate) enum Look {
    Stamped {
        stamp: Stamp,
        applied: Vec<String>,
    },
    /// A database, or an empty file, with no table at all.
    Empty,
    /// Tables, and no stamp among them.
    Unstamped,
}

impl Look {
    /// The stamp and the applied migrations.
    ///
    /// # Errors
    /// `ForeignDatabase`: there is no stamp.
    pub(crate) fn stamped(self, tenant: &TenantId) -> mt_core::Result<(Stamp, Vec<String>)> {
        match self {
            Self::Stamped { stamp, applied } => Ok((stamp, applied)),
            Self::Empty | Self::Unstamped => Err(Stamp::missing(tenant)),
        }
    }
}

/// Who else may have a database open while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// Anybody.
    Possible,
    /// Nobody: the tenant's lock is held exclusively.
    Excluded,
}

/// Opens the file, reads, and closes it again.
///
/// Through SQLite itself and never by reading the file: closing a plain file handle would drop the
/// locks this process holds on it for the connections it has open.
pub(crate) fn look(
    path: &Path,
    config: &SqliteConfig,
    ledger: Option<&str>,
    others: Others,
) -> mt_core::Result<Look> {
    if others == Others::Excluded
        && !has_unfinished_writes(path)
        && let Ok(look) = read(&open_unchanging(path)?, ledger)
    {
        return Ok(look);
    }
    read(&open(path, config)?, ledger)
}

fn read(connection: &Connection, ledger: Option<&str>) -> mt_core::Result<Look> {
    if let Some(stamp) = find_stamp(connection)? {
        let applied = match ledger {
            Some(ledger) => read_ledger(connection, ledger)?,
            None => Vec::new(),
        };
        return Ok(Look::Stamped { stamp, applied });
    }
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(Error::sqlite("read the tenant's database"))?;
    Ok(if tables == 0 { Look::Empty } else { Look::Unstamped })
}

/// The applied migrations in ascending order; none where there is no ledger.
fn read_ledger(connection: &Connection, ledger: &str) -> mt_core::Result<Vec<String>> {
    let failed = || Error::sqlite("read the migrations of the tenant's database");
    let query = format!("SELECT version FROM \"{}\" ORDER BY version", ledger.replace('"', "\"\""));
    let mut statement = match connection.prepare(&query) {
        Ok(statement) => statement,
        Err(_) if !has_table(connection, ledger)? => return Ok(Vec::new()),
        Err(e) => return Err(failed()(e).into()),
    };
    let versions = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect);
    Ok(versions.map_err(failed())?)
}

/// A connection that takes no locks and makes no log, three times as fast to open. Only where nobody
/// can be writing, and nobody died while writing.
fn open_unchanging(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    // In a URI these three have a meaning: https://www.sqlite.org/uri.html
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
        .map_err(Error::sqlite("open the tenant's database"))
}

/// Whether a log or a journal stands beside the file: then the file alone is not the database.
fn has_unfinished_writes(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|suffix| side_file(path, suffix).exists())
}

/// A connection without a thread, for the length of one blocking call.
pub(crate) fn open(path: &Path, config: &SqliteConfig) -> Result<Connection> {
    // Not read-only, though nothing is written: the last to close a database folds its log into
    // it, and a read-only connection would leave the log lying about.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(path, flags) {
        Err(_) if !path.exists() => return Err(Error::NoDatabase(path.to_owned())),
        connection => connection.map_err(Error::sqlite("open the tenant's database"))?,
    };
    connection
        .busy_timeout(config.busy_timeout())
        .map_err(Error::sqlite("open the tenant's database"))?;
    Ok(connection)
}
