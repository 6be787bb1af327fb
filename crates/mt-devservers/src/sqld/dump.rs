//! A script that makes what is in an SQLite file, exactly, as sqld reads scripts.
//!
//! sqld 0.24.32 reads a script line by line, takes lines together until one ends in `;`, and runs
//! the *first* statement of what it has. So each statement stands alone, and no line within one
//! may end in `;`: the body of a trigger cannot be written down. What has no content of its own
//! (views, triggers, virtual tables) is therefore put into `sqlite_schema` as it is, and tables
//! and indexes, which have content, are made on one line, whereupon their own text is put there.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use rusqlite::{
    Connection, OpenFlags,
    types::{Value, ValueRef},
};

use crate::sqld::literal;

/// Writes the script.
///
/// # Errors
/// The file is damaged or cannot be read, or its schema cannot be written down.
pub(crate) fn write(database: &Path, script: &Path) -> anyhow::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        bail!("the database is damaged: {verdict}");
    }
    let file = File::create(script).context("no file for the script")?;
    let mut out = BufWriter::new(file);
    script_of(&connection, &mut out)?;
    out.flush().context("the script could not be written")
}

/// A row of `sqlite_schema`.
struct Object {
    kind: String,
    name: String,
    table: String,
    has_content: bool,
    sql: String,
}

fn script_of(connection: &Connection, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nPRAGMA writable_schema=ON;")?;
    let objects = objects(connection)?;
    let (filled, declared): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.has_content);
    let (tables, indexes): (Vec<_>, Vec<_>) =
        filled.into_iter().partition(|object| object.kind == "table");
    for table in &tables {
        create(table, out)?;
        rows(connection, &table.name, out)?;
    }
    if is_counting(connection)? {
        writeln!(out, "DELETE FROM sqlite_sequence;")?;
        rows(connection, "sqlite_sequence", out)?;
    }
    for index in &indexes {
        create(index, out)?;
    }
    for Object { kind, name, table, sql, .. } in &declared {
        let [kind, name, table] = [kind, name, table].map(|text| literal::text(text.as_bytes()));
        let sql = literal::text(sql.as_bytes());
        writeln!(
            out,
            "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) \
             VALUES({kind},{name},{table},0,{sql});"
        )?;
    }
    for pragma in ["user_version", "application_id"] {
        let value: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        writeln!(out, "PRAGMA {pragma}={value};")?;
    }
    writeln!(out, "PRAGMA writable_schema=OFF;\nCOMMIT;")?;
    Ok(())
}

/// All that was created, in the order in which it was.
fn objects(connection: &Connection) -> anyhow::Result<Vec<Object>> {
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, ifnull(rootpage, 0) <> 0, sql FROM sqlite_schema \
         WHERE sql IS NOT NULL AND name <> 'sqlite_sequence' ORDER BY rowid",
    )?;
    let objects = statement.query_map([], |row| {
        Ok(Object {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            has_content: row.get(3)?,
            sql: row.get(4)?,
        })
    })?;
    objects.collect::<Result<_, _>>().context("the schema")
}

/// Whether a table counts its keys.
fn is_counting(connection: &Connection) -> anyhow::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if !connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(false);
    }
    let sql = "SELECT count(*) > 0 FROM sqlite_sequence";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn create(object: &Object, out: &mut impl Write) -> anyhow::Result<()> {
    let Object { kind, name, sql, .. } = object;
    let line = on_one_line(sql).with_context(|| format!("the {kind} {name}"))?;
    writeln!(out, "{line};")?;
    if line != *sql {
        let [kind, name, sql] = [kind, name, sql].map(|text| literal::text(text.as_bytes()));
        writeln!(out, "UPDATE sqlite_schema SET sql={sql} WHERE type={kind} AND name={name};")?;
    }
    Ok(())
}

/// Leaves comments out, and writes a blank for the end of a line. What is quoted stays as it is.
fn on_one_line(sql: &str) -> anyhow::Result<String> {
    let mut line = String::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let quoted = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map(|end| end + 1),
            '-' if rest.starts_with("--") => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
                line.push(' ');
                continue;
            }
            '\n' | '\r' => {
                line.push(' ');
                rest = &rest[1..];
                continue;
            }
            _ => Some(first.len_utf8()),
        };
        let end = quoted.context("a quote does not end")?;
        line.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    if line.lines().any(|part| part.trim_end().ends_with(';')) {
        bail!("this server cannot take a schema with a quoted `;` at the end of a line");
    }
    Ok(line)
}

/// Where a quote ends; doubled, it stands for itself.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut from = 1;
    loop {
        let end = from + text[from..].find(quote)? + 1;
        if !text[end..].starts_with(quote) {
            return Some(end);
        }
        from = end + 1;
    }
}

/// The rows of a table, with their row ids: an upload keeps them.
fn rows(connection: &Connection, table: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let mut columns = columns(connection, table)?;
    if let Some(rowid) = rowid(connection, table, &columns)? {
        columns.insert(0, rowid);
    }
    let name = literal::name(table);
    let list = columns.iter().map(|column| literal::name(column)).collect::<Vec<_>>().join(",");
    let mut statement = connection.prepare(&format!("SELECT {list} FROM {name}"))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let mut values = String::new();
        for at in 0..columns.len() {
            let separator = if at == 0 { "" } else { "," };
            write!(values, "{separator}{}", of(row.get_ref(at)?))?;
        }
        writeln!(out, "INSERT INTO {name}({list}) VALUES({values});")?;
    }
    Ok(())
}

fn of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => literal::real(number),
        ValueRef::Text(text) => literal::text(text),
        ValueRef::Blob(bytes) => literal::blob(bytes),
    }
}

/// Those that are stored: what is generated makes itself again.
fn columns(connection: &Connection, table: &str) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect::<Result<_, _>>().context("the columns")
}

/// The name of the row id, if there is one and no column took all its names.
fn rowid(
    connection: &Connection,
    table: &str,
    columns: &[String],
) -> anyhow::Result<Option<String>> {
    let sql = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
    let without: Value = connection.query_row(sql, [table], |row| row.get(0))?;
    if without != Value::Integer(0) {
        return Ok(None);
    }
    let is_free = |name: &&str| !columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    Ok(["rowid", "_rowid_", "oid"].into_iter().find(is_free).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_and_comments_go() {
        let sql = "CREATE TABLE \"a--b\" ( -- one;\n x DEFAULT 'it''s\n--', /* two;\n */ [y;--])";
        let line = "CREATE TABLE \"a--b\" (   x DEFAULT 'it''s\n--',   [y;--])";
        assert_eq!(on_one_line(sql).unwrap(), line);
        assert!(on_one_line("CREATE TABLE t (x DEFAULT 'a;\n')").is_err());
    }
}
