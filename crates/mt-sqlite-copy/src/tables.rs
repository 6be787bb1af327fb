//! How the rows of each table are read at the source and written to the copy.

use rusqlite::{Connection, types::Value};

use crate::{
    contents::quoted,
    error::{Error, Result},
};

/// SQLite's own table of the greatest ids that were ever given out.
pub(crate) const SEQUENCE: &str = "sqlite_sequence";

/// One table of the copy.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Reads its rows, here as at the source, in the order in which they are stored.
    pub(crate) select: String,
    /// Writes one.
    pub(crate) insert: String,
    /// For each value of a row, whether [`select`](Self::select) escapes it.
    escapes: Vec<bool>,
}

/// What an escaped text begins with.
const ESCAPE: char = '\u{1}';

impl Table {
    /// How many values a row has.
    pub(crate) const fn width(&self) -> usize {
        self.escapes.len()
    }

    /// The values of a row as they are at the source.
    pub(crate) fn unescaped(&self, row: Vec<Value>) -> impl Iterator<Item = Value> {
        row.into_iter().zip(&self.escapes).map(|(value, escapes)| match value {
            Value::Text(text) if *escapes => unescaped(text),
            value => value,
        })
    }
}

fn unescaped(text: String) -> Value {
    match text.strip_prefix(ESCAPE) {
        None => Value::Text(text),
        Some("+") => Value::Real(f64::INFINITY),
        Some("-") => Value::Real(f64::NEG_INFINITY),
        Some(rest) => Value::Text(rest.to_owned()),
    }
}

/// Reads `column` so that an infinite number, which a protocol that writes JSON cannot carry, comes
/// as a text; and a text that looks like one comes with one escape more.
fn escaped(column: &str) -> String {
    format!(
        "CASE typeof({column}) \
         WHEN 'real' THEN CASE {column} WHEN 9e999 THEN char(1) || '+' WHEN -9e999 THEN char(1) || '-' ELSE {column} END \
         WHEN 'text' THEN CASE substr({column}, 1, 1) WHEN char(1) THEN char(1) || {column} ELSE {column} END \
         ELSE {column} END"
    )
}

/// Every table with rows of its own, those of virtual tables included, and SQLite's sequences last.
pub(crate) fn tables(connection: &Connection) -> Result<Vec<Table>> {
    let failed = || Error::sqlite("read the tables of the copy");
    let mut query = connection
        .prepare(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') AND (name = ?1 OR name NOT LIKE 'sqlite\\_%' ESCAPE '\\') ORDER BY name = ?1, name",
        )
        .map_err(failed())?;
    let names: Vec<(String, bool)> = query
        .query_map([SEQUENCE], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(failed())?;
    names
        .into_iter()
        .map(|(name, without_rowid)| table(connection, name, without_rowid).map_err(failed()))
        .collect()
}

struct Column {
    name: String,
    declared: String,
    is_generated: bool,
    is_key: bool,
}

impl Column {
    /// Whether numbers become texts in it (<https://www.sqlite.org/datatype3.html#determination_of_column_affinity>).
    fn is_text(&self) -> bool {
        let declared = self.declared.to_ascii_uppercase();
        !declared.contains("INT")
            && ["CHAR", "CLOB", "TEXT"].iter().any(|name| declared.contains(name))
    }
}

fn table(
    connection: &Connection,
    name: String,
    without_rowid: bool,
) -> Result<Table, rusqlite::Error> {
    let mut query =
        connection.prepare("SELECT name, type, hidden, pk FROM pragma_table_xinfo(?1)")?;
    let columns: Vec<Column> = query
        .query_map([&name], |row| {
            Ok(Column {
                name: row.get(0)?,
                declared: row.get(1)?,
                // 2 and 3 are generated ones, https://www.sqlite.org/pragma.html#pragma_table_xinfo
                is_generated: row.get::<_, i64>(2)? > 1,
                is_key: row.get::<_, i64>(3)? > 0,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut values = Vec::with_capacity(columns.len() + 1);
    // A declared key that is the row's number is among the columns. Where all three names are taken
    // by columns, nobody can read the number, so nobody will miss it.
    if name != SEQUENCE && !without_rowid && !has_numbered_key(connection, &name, &columns)? {
        let is_free = |rowid: &&&str| columns.iter().all(|c| !c.name.eq_ignore_ascii_case(rowid));
        let free = ["rowid", "_rowid_", "oid"].iter().find(is_free);
        values.extend(free.map(|rowid| (quoted(rowid), false)));
    }
    let stored = columns.iter().filter(|column| !column.is_generated);
    values.extend(stored.map(|column| (quoted(&column.name), !column.is_text())));
    let list =
        |of: fn(&(String, bool)) -> String| values.iter().map(of).collect::<Vec<_>>().join(", ");
    let table = quoted(&name);
    let read = list(|(name, escapes)| if *escapes { escaped(name) } else { name.clone() });
    let (written, places) = (list(|(name, _)| name.clone()), list(|_| "?".to_owned()));
    Ok(Table {
        name,
        // An index that has all columns would be read instead, in its own order.
        select: format!("SELECT {read} FROM {table} NOT INDEXED"),
        // What a table says of conflicts must not leave out or replace rows silently.
        insert: format!("INSERT OR ABORT INTO {table} ({written}) VALUES ({places})"),
        escapes: values.iter().map(|(_, escapes)| *escapes).collect(),
    })
}

/// Whether one of the columns is the row's number (<https://www.sqlite.org/lang_createtable.html#rowid>):
/// a primary key of that type has no index of its own then.
fn has_numbered_key(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> Result<bool, rusqlite::Error> {
    let mut keys = columns.iter().filter(|column| column.is_key);
    let is_integer = |key: &Column| key.declared.eq_ignore_ascii_case("INTEGER");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Ok(false) };
    let query = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
    let indexes: i64 = connection.query_row(query, [table], |row| row.get(0))?;
    Ok(is_integer(key) && indexes == 0)
}
