//! What is built from another database's rows is that database.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build;
mod filling;
mod restore;

use mt_sqlite_copy::{FileBuilder, SchemaObject, ScratchFile};
use rusqlite::{Connection, types::Value};

/// All rows of `query`.
fn rows(connection: &Connection, query: &str) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut statement = connection.prepare(query)?;
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|i| row.get(i)).collect())?;
    rows.collect()
}

fn schema(connection: &Connection) -> Vec<SchemaObject> {
    let mut query = connection.prepare(SchemaObject::SELECT).unwrap();
    let objects = query.query_map([], |row| {
        Ok(SchemaObject {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    });
    objects.unwrap().collect::<Result<_, _>>().unwrap()
}

fn scratch() -> ScratchFile {
    ScratchFile::in_temporary_directory().unwrap()
}

/// Copies `source` by its rows.
fn rebuild(source: &Connection) -> mt_core::Result<mt_sqlite_copy::Built> {
    let mut builder = FileBuilder::create(scratch(), &schema(source))?;
    for (query, sql) in builder.queries().iter().enumerate() {
        for row in rows(source, sql).unwrap() {
            builder.insert(query, row)?;
        }
    }
    builder.finish(None)
}
