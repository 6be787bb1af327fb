//! Foreign keys of SQLite while a schema is changed.
//!
//! SQLite changes most of a table by making a new one, copying the rows and dropping the old one,
//! and dropping a table deletes its rows first: with foreign keys on, `ON DELETE CASCADE` empties
//! every table that refers to it. So they are off while migrations run. What the engine then no
//! longer watches is counted before and after.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// How many rows of each table refer to a parent that is not there.
pub(crate) type Orphans = BTreeMap<String, i64>;

/// Whether this connection watches foreign keys.
pub(crate) async fn are_on<C: ConnectionTrait>(db: &C) -> Result<bool, DbErr> {
    let pragma = Statement::from_string(DbBackend::Sqlite, "PRAGMA foreign_keys");
    let row = db.query_one_raw(pragma).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}

/// Switches the watch on or off, for this connection and outside of transactions only: inside one,
/// SQLite ignores it in silence.
pub(crate) async fn switch<C: ConnectionTrait>(db: &C, on: bool) -> Result<(), DbErr> {
    let pragma = if on { "PRAGMA foreign_keys = ON" } else { "PRAGMA foreign_keys = OFF" };
    db.execute_unprepared(pragma).await.map(drop)
}

/// Counts orphans, reading every table that has foreign keys.
pub(crate) async fn orphans<C: ConnectionTrait>(db: &C) -> Result<Orphans, DbErr> {
    let count = Statement::from_string(
        DbBackend::Sqlite,
        r#"SELECT "table", COUNT(*) AS "orphans" FROM pragma_foreign_key_check GROUP BY "table""#,
    );
    let rows = db.query_all_raw(count).await?;
    rows.iter().map(|row| Ok((row.try_get("", "table")?, row.try_get("", "orphans")?))).collect()
}

/// The tables that have more orphans than before.
///
/// Table by table, so that mending one does not make room for breaking another.
pub(crate) fn grown(before: &Orphans, after: &Orphans) -> Vec<String> {
    let had = |table: &String| before.get(table).copied().unwrap_or(0);
    after
        .iter()
        .filter(|(table, count)| **count > had(table))
        .map(|(table, _)| table.clone())
        .collect()
}
