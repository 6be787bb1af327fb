//! What a copy consists of, and in which order the service can take it.

use std::collections::{BTreeMap, BTreeSet};

use mt_core::{Error, ErrorKind, Result, SqlTokens, Stamp};
use mt_sqlite_copy::{SchemaObject, TableRows};
use rusqlite::{Connection, types::Value};
use serde_json::Value as Json;

use super::{
    cells::Reader, modules::Module, reading, references::Group, rehearsal::rehearse,
    stand_ins::stand_ins,
};
use crate::{
    NAME,
    backup::{SERVICES_OWN, quoted, real},
    raw::RawStatement,
};

/// What the service takes (<https://developers.cloudflare.com/d1/platform/limits/>).
const STATEMENT_BYTES: usize = 100_000;
const COLUMNS: usize = 100;
pub(super) const SEQUENCE: &str = "sqlite_sequence";

/// How a new database becomes what the copy is.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tables, and indexes: none of them takes long while there are no rows, and foreign keys need
    /// those of what they refer to.
    pub(super) first: Vec<RawStatement>,
    /// The tables to fill, after those that they refer to.
    pub(super) groups: Vec<Group>,
    /// What virtual tables make of the rows of others; what views and triggers there are, which
    /// must not see the rows come; and the table of the stamp.
    pub(super) last: Vec<RawStatement>,
    /// The ids that were ever given out, and the stamp.
    pub(super) last_rows: Vec<TableRows>,
    /// What is done before the first of these come: SQLite keeps them in a table that is there from
    /// the first table on that needs it, which may be gone again; and the rows that came have begun
    /// theirs.
    pub(super) before_sequences: Vec<RawStatement>,
    /// A table of our own that is there while the copy arrives. Nothing in the copy is called so.
    pub(super) progress: String,
    /// How the rows are written.
    pub(super) reader: Reader,
}

impl Plan {
    /// Looks through a copy.
    ///
    /// # Errors
    /// `Unsupported`: there is something in it that the service does not take. `Corrupt`.
    pub(super) fn new(copy: &Connection) -> Result<Self> {
        let encoding: String =
            copy.pragma_query_value(None, "encoding", |row| row.get(0)).map_err(unread)?;
        if encoding != "UTF-8" {
            return Err(refused(&format!("text encoded in {encoding}")));
        }
        let schema = schema(copy)?;
        let modules = schema
            .iter()
            .filter(|object| is_virtual(object))
            .map(|object| Module::of(object, &schema).map(|module| (object.name.clone(), module)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let mut tables = TableRows::all(copy)?;
        let shadows: BTreeSet<String> =
            tables.iter().filter(|t| t.is_shadow).map(|t| t.name.clone()).collect();
        tables.retain(|table| !table.is_shadow);
        for (name, module) in &modules {
            tables.extend(module.rows(copy, name)?);
        }
        if let Some(table) = tables.iter().find(|table| table.columns.len() > COLUMNS + 1) {
            let columns = table.columns.len();
            return Err(refused(&format!("table `{}`, which has {columns} columns", table.name)));
        }
        let is_last = |table: &TableRows| [SEQUENCE, Stamp::TABLE].contains(&table.name.as_str());
        let (last_rows, tables) = tables.into_iter().partition(is_last);

        let mut plan = Self {
            first: Vec::new(),
            groups: Group::all(copy, tables)?,
            last: Vec::new(),
            last_rows,
            before_sequences: begin_sequences(&free_name(&schema, "_mt_ids")),
            progress: free_name(&schema, "_mt_arrival"),
            reader: match is_taken(&schema, "json_each") {
                true => Reader::Numbered,
                false => Reader::Each,
            },
        };
        for kind in ["table", "virtual", "index", "view", "trigger"] {
            let objects = schema.iter().filter(|object| match kind {
                "virtual" => is_virtual(object),
                "table" => object.kind == "table" && !is_virtual(object),
                kind => object.kind == kind,
            });
            for object in objects.filter(|object| !shadows.contains(&object.name)) {
                plan.add(object)?;
            }
        }
        for (name, module) in &modules {
            plan.first.extend(module.settings(copy, name)?);
            plan.last.splice(0..0, module.rebuild(name));
        }
        let (make, remove) = stand_ins(copy, &schema, &plan.groups)?;
        plan.first.extend(make);
        plan.last.splice(0..0, remove);
        rehearse(&plan, copy)?;
        Ok(plan)
    }

    fn add(&mut self, object: &SchemaObject) -> Result<()> {
        let Some(sql) = object.sql.as_deref().filter(|_| !object.name.starts_with("sqlite_"))
        else {
            return Ok(());
        };
        let what = format!("{} `{}`", object.kind, object.name);
        if sql.len() > STATEMENT_BYTES {
            return Err(refused(&format!("the {what}, whose statement has {} bytes", sql.len())));
        }
        if object
            .name
            .get(..SERVICES_OWN.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(SERVICES_OWN))
        {
            return Err(refused(&format!("the {what}, whose name is the service's own")));
        }
        // A schema holds no other kind; and this runs with the rights to everything.
        if !sql.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("CREATE ")) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the {what} is not made by a statement"),
            ));
        }
        let is_first = ["table", "index"].contains(&object.kind.as_str());
        let of_stamp = object.table == Stamp::TABLE;
        let list = if is_first && !of_stamp { &mut self.first } else { &mut self.last };
        list.push(match object.kind.as_str() {
            "trigger" => reading(in_lines(sql)),
            _ => reading(sql),
        });
        Ok(())
    }
}

fn begin_sequences(name: &str) -> Vec<RawStatement> {
    let make = format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT)");
    [make, format!("DROP TABLE {name}"), format!("DELETE FROM {SEQUENCE}")].map(reading).into()
}

/// Whether anything is called so, for SQLite.
pub(super) fn is_taken(schema: &[SchemaObject], name: &str) -> bool {
    schema.iter().any(|object| object.name.eq_ignore_ascii_case(name))
}

/// `name`, or with a number where it is taken.
fn free_name(schema: &[SchemaObject], name: &str) -> String {
    let numbered = (2..).map(|number: u64| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !is_taken(schema, name)).unwrap_or_default()
}

/// The text of a trigger, whose lines end in LF. The service cuts it wrongly where they end in CR
/// and LF (<https://github.com/cloudflare/workers-sdk/issues/14991>). What is quoted stays.
fn in_lines(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut from = 0;
    for (_, token) in SqlTokens::new(sql) {
        text.push_str(&sql[from..token.start].replace("\r\n", "\n"));
        text.push_str(&sql[token.start..token.end]);
        from = token.end;
    }
    text.push_str(&sql[from..].replace("\r\n", "\n"));
    text
}

pub(super) fn is_virtual(object: &SchemaObject) -> bool {
    let sql = object.sql.as_deref().unwrap_or_default();
    sql.get(..14).is_some_and(|start| start.eq_ignore_ascii_case("CREATE VIRTUAL"))
}

fn schema(copy: &Connection) -> Result<Vec<SchemaObject>> {
    let mut query = copy.prepare(SchemaObject::SELECT).map_err(unread)?;
    let objects = query.query_map([], |row| {
        Ok(SchemaObject {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    });
    objects.and_then(Iterator::collect).map_err(unread)
}

/// A setting of a virtual table, as it takes them: the name as a value of its own column.
pub(super) fn setting(table: &str, key: &str, value: Value) -> RawStatement {
    let name = quoted(table);
    let mut params = vec![Json::from(key)];
    let value = match value {
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => real(value),
        Value::Text(value) => {
            params.push(Json::from(value));
            "?2".to_owned()
        }
        Value::Null | Value::Blob(_) => "NULL".to_owned(),
    };
    RawStatement { sql: format!("INSERT INTO {name} ({name}, rank) VALUES (?1, {value})"), params }
}

pub(super) fn refused(what: &str) -> Error {
    let what = format!("take {what}, as the copy has it; nothing was made");
    Error::unsupported(NAME, what)
}

pub(super) fn unread(source: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the received copy cannot be read").with_source(source)
}
