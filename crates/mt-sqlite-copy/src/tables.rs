//! How the rows of each table are read at the source and written to the copy.

use rusqlite::{Connection, Row, types::Value};

use crate::{
    contents::quoted,
    error::{Error, Result},
};

/// SQLite's own table of the greatest ids that were ever given out.
pub(crate) const SEQUENCE: &str = "sqlite_sequence";

/// A table with rows of its own, and how they are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// Its name.
    pub name: String,
    /// What a row consists of, quoted, to be read and to be written: the row's number first, where
    /// it is none of the columns, and then every column that is not made of others.
    pub columns: Vec<String>,
    /// Which of them identify a row and order them all as they are stored, apart from the direction
    /// of each. Where nothing that can be read does, none.
    pub key: Vec<usize>,
    /// Whether a virtual table keeps its rows in it.
    pub is_shadow: bool,
    /// Whether rows have numbers; then the key is one, if there is any.
    pub has_rowid: bool,
}

impl TableRows {
    /// Those of a database, in the order of their names, SQLite's own sequences last.
    ///
    /// # Errors
    /// `Corrupt`: it is no database.
    pub fn all(connection: &Connection) -> mt_core::Result<Vec<Self>> {
        Ok(tables(connection)?.into_iter().map(|table| table.rows).collect())
    }

    /// The place of the row's number among the columns, where it can be read.
    pub fn number(&self) -> Option<usize> {
        match self.key.as_slice() {
            [place] if self.has_rowid => Some(*place),
            _ => None,
        }
    }
}

/// One table of the copy.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) rows: TableRows,
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

    /// Takes the rows' values for what they are.
    pub(crate) fn expect_exact(&mut self) {
        self.escapes.fill(false);
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
///
/// What the schema is, pragmas tell here and below, and not the functions of the same names: a table
/// may be called as such a function is, and would be read in its place.
pub(crate) fn tables(connection: &Connection) -> Result<Vec<Table>> {
    let failed = || Error::sqlite("read the tables of the copy");
    let mut names: Vec<(String, bool, bool)> = Vec::new();
    let list = |row: &Row<'_>| {
        let (name, kind) = (row.get::<_, String>("name")?, row.get::<_, String>("type")?);
        let is_own = name == SEQUENCE || !name.to_ascii_lowercase().starts_with("sqlite_");
        if is_own && ["table", "shadow"].contains(&kind.as_str()) {
            names.push((name, row.get("wr")?, kind == "shadow"));
        }
        Ok(())
    };
    connection.pragma_query(Some("main"), "table_list", list).map_err(failed())?;
    names.sort_unstable_by(|(a, ..), (b, ..)| (a == SEQUENCE, a).cmp(&(b == SEQUENCE, b)));
    names
        .into_iter()
        .map(|(name, without_rowid, is_shadow)| {
            table(connection, name, without_rowid, is_shadow).map_err(failed())
        })
        .collect()
}

struct Column {
    name: String,
    declared: String,
    is_generated: bool,
    /// Its place in the primary key, from 1; or 0.
    key: i64,
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
    is_shadow: bool,
) -> Result<Table, rusqlite::Error> {
    let mut columns: Vec<Column> = Vec::new();
    connection.pragma(Some("main"), "table_xinfo", &name, |row| {
        columns.push(Column {
            name: row.get("name")?,
            declared: row.get("type")?,
            // 2 and 3 are generated ones, https://www.sqlite.org/pragma.html#pragma_table_xinfo
            is_generated: row.get::<_, i64>("hidden")? > 1,
            key: row.get("pk")?,
        });
        Ok(())
    })?;
    let mut values = Vec::with_capacity(columns.len() + 1);
    // A declared key that is the row's number is among the columns. Where all three names are taken
    // by columns, nobody can read the number, so nobody will miss it.
    let has_numbered_key = has_numbered_key(connection, &name, &columns)?;
    if name != SEQUENCE && !without_rowid && !has_numbered_key {
        let is_free = |rowid: &&&str| columns.iter().all(|c| !c.name.eq_ignore_ascii_case(rowid));
        let free = ["rowid", "_rowid_", "oid"].iter().find(is_free);
        values.extend(free.map(|rowid| (quoted(rowid), false)));
    }
    let stored: Vec<_> = columns.iter().filter(|column| !column.is_generated).collect();
    let mut key: Vec<(i64, usize)> = match (without_rowid || has_numbered_key, values.len()) {
        (true, _) => {
            let keys = stored.iter().enumerate().filter(|(_, column)| column.key > 0);
            keys.map(|(place, column)| (column.key, place)).collect()
        }
        (false, 0) => Vec::new(),
        (false, _) => vec![(1, 0)],
    };
    key.sort_unstable();
    values.extend(stored.iter().map(|column| (quoted(&column.name), !column.is_text())));
    let list =
        |of: fn(&(String, bool)) -> String| values.iter().map(of).collect::<Vec<_>>().join(", ");
    let table = quoted(&name);
    let read = list(|(name, escapes)| if *escapes { escaped(name) } else { name.clone() });
    let (written, places) = (list(|(name, _)| name.clone()), list(|_| "?".to_owned()));
    Ok(Table {
        rows: TableRows {
            name: name.clone(),
            columns: values.iter().map(|(name, _)| name.clone()).collect(),
            key: key.into_iter().map(|(_, place)| place).collect(),
            is_shadow,
            has_rowid: !without_rowid,
        },
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
    let mut keys = columns.iter().filter(|column| column.key > 0);
    let is_integer = |key: &Column| key.declared.eq_ignore_ascii_case("INTEGER");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Ok(false) };
    let mut has_index = false;
    connection.pragma(Some("main"), "index_list", table, |row| {
        has_index |= row.get::<_, String>("origin")? == "pk";
        Ok(())
    })?;
    Ok(is_integer(key) && !has_index)
}
