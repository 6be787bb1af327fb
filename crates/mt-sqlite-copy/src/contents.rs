use std::collections::BTreeMap;

use mt_core::Stamp;
use rusqlite::{Connection, OptionalExtension as _};
use sea_orm::DbBackend;

use crate::error::{Error, Result};

/// What a copy has inside, for its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whose it is; `None`: it has no stamp.
    pub stamp: Option<Stamp>,
    /// How many rows each ordinary table has. Virtual tables keep theirs in ordinary ones.
    pub rows: BTreeMap<String, u64>,
    /// The newest applied migration.
    pub schema_version: Option<String>,
}

impl Contents {
    /// Counts and reads; `ledger` is the table of the applied migrations.
    ///
    /// # Errors
    /// `Corrupt`; or there is no such ledger.
    pub fn read(connection: &Connection, ledger: Option<&str>) -> mt_core::Result<Self> {
        let schema_version = match ledger {
            Some(ledger) => newest(connection, ledger)?,
            None => None,
        };
        Ok(Self { stamp: find_stamp(connection)?, rows: count_rows(connection)?, schema_version })
    }
}

/// An identifier as it stands in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn count_rows(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let count = || {
        let mut tables = connection.prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'",
        )?;
        let names: Vec<String> =
            tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut rows = BTreeMap::new();
        for name in names {
            let query = format!("SELECT count(*) FROM {}", quoted(&name));
            let count: i64 = connection.query_row(&query, [], |row| row.get(0))?;
            rows.insert(name, count.unsigned_abs());
        }
        Ok(rows)
    };
    count().map_err(Error::sqlite("count the rows of the copy"))
}

fn newest(connection: &Connection, ledger: &str) -> Result<Option<String>> {
    let query = format!("SELECT max(version) FROM {}", quoted(ledger));
    connection
        .query_row(&query, [], |row| row.get(0))
        .map_err(Error::sqlite("read the migrations of the copy"))
}

/// The stamp of a database; `None`: it has none.
///
/// # Errors
/// `Corrupt`: it is no database, or the stamp is damaged.
pub fn find_stamp(connection: &Connection) -> mt_core::Result<Option<Stamp>> {
    let query = Stamp::select(DbBackend::Sqlite, None).sql;
    let stamp = connection.query_row(&query, [], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, i64>(3)?,
        ))
    });
    match stamp {
        Ok((tenant, deployment, created_at, generation)) => {
            Stamp::from_columns(&tenant, &deployment, &created_at, generation).map(Some)
        }
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(_) if !has_table(connection, Stamp::TABLE)? => Ok(None),
        Err(e) => Err(Error::sqlite("read the stamp of the database")(e).into()),
    }
}

/// Whether a database has a table of that name.
///
/// # Errors
/// `Corrupt`: it is no database.
pub fn has_table(connection: &Connection, name: &str) -> mt_core::Result<bool> {
    let query = "SELECT 1 FROM sqlite_master WHERE name = ?1";
    let row = connection.query_row(query, [name], |_| Ok(())).optional();
    Ok(row.map_err(Error::sqlite("read the database"))?.is_some())
}
