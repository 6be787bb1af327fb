//! The statements of copies, on SQLite itself behind JSON as the service has it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use mt_core::{ErrorKind, Result};
use mt_remote::{Fault, StatementError};
use mt_sqlite_copy::Built;
use rusqlite::{
    Connection, functions::FunctionFlags, limits::Limit, params_from_iter, types::ValueRef,
};
use serde_json::Value as Json;

use super::{copy_at_once, pages::History, pages::Pages, quoted, read_schema, to_schema};
use crate::{
    api::Bookmark,
    raw::{Effect, Meta, RawAnswer, RawStatement, Wire},
};

/// A database that answers in the service's JSON.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) connection: Mutex<Connection>,
    requests: Mutex<u32>,
    /// Run after the request of this number.
    interruption: Option<(u32, &'static str)>,
}

impl Local {
    pub(crate) fn new(sql: &str) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        let flags = FunctionFlags::SQLITE_DETERMINISTIC;
        let binary = |connection: &Connection, name: &str, f: fn(f64, f64) -> f64| {
            let call = move |context: &rusqlite::functions::Context<'_>| {
                Ok(f(context.get(0)?, context.get(1)?))
            };
            connection.create_scalar_function(name, 2, flags, call).unwrap();
        };
        binary(&connection, "atan2", f64::atan2);
        binary(&connection, "pow", f64::powf);
        connection.execute_batch(sql).unwrap();
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_COLUMN, 100),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
            (Limit::SQLITE_LIMIT_LENGTH, 2_000_000),
        ] {
            connection.set_limit(limit, value).unwrap();
        }
        Self { connection: Mutex::new(connection), requests: Mutex::new(0), interruption: None }
    }

    fn answer(connection: &Connection, statement: &RawStatement) -> rusqlite::Result<RawAnswer> {
        assert!(statement.sql.len() <= 100_000, "{}", statement.sql.len());
        let mut query = connection.prepare(&statement.sql)?;
        let width = query.column_count();
        assert!(width <= 100, "{width}");
        let params = statement.params.iter().map(|param| param.as_str().unwrap());
        let mut rows = query.query(params_from_iter(params))?;
        let mut answer = RawAnswer { columns: Vec::new(), rows: Vec::new(), meta: Meta::default() };
        while let Some(row) = rows.next()? {
            let values = (0..width).map(|i| row.get_ref(i).map(to_json));
            answer.rows.push(values.collect::<rusqlite::Result<_>>()?);
        }
        Ok(answer)
    }
}

/// As JavaScript writes it: all numbers are doubles, whole ones have no point, and what is no
/// Unicode is replaced.
fn to_json(value: ValueRef<'_>) -> Json {
    let number = |value: f64| {
        let text = if value == 0.0 { "0".to_owned() } else { format!("{value:?}") };
        serde_json::from_str(text.strip_suffix(".0").unwrap_or(&text)).unwrap_or(Json::Null)
    };
    #[expect(clippy::cast_precision_loss, reason = "that is what the service does")]
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(value) => number(value as f64),
        ValueRef::Real(value) => number(value),
        ValueRef::Text(bytes) => Json::from(String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => Json::from(bytes),
    }
}

#[async_trait]
impl Wire for Local {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        _effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let refused =
            |e: rusqlite::Error| Fault::Statement(StatementError::new(e.to_string(), None));
        let answers = statements.iter().map(|statement| Self::answer(&connection, statement));
        let answers = answers.collect::<rusqlite::Result<_>>().map_err(refused)?;
        let mut requests = self.requests.lock().unwrap();
        *requests += 1;
        if let Some((_, sql)) = self.interruption.filter(|(number, _)| number == &*requests) {
            connection.execute_batch(sql).unwrap();
        }
        Ok(answers)
    }
}

/// Counts what was written, as nobody can at the service.
#[async_trait]
impl History for Local {
    async fn bookmark(&self) -> Result<Bookmark> {
        let connection = self.connection.lock().unwrap();
        let query = "SELECT total_changes() || '-' || schema_version FROM pragma_schema_version";
        Ok(Bookmark(connection.query_row(query, [], |row| row.get(0)).unwrap()))
    }
}

pub(crate) const EVERYTHING: &str = r#"
CREATE TABLE plain (id INTEGER PRIMARY KEY, value, note TEXT DEFAULT 'x');
CREATE TABLE "odd ""name""" ("select" INT, "a""b", rowid TEXT, _mt_bytes INT);
CREATE TABLE unnumbered (value TEXT UNIQUE ON CONFLICT REPLACE);
CREATE TABLE hidden (rowid TEXT, _rowid_ TEXT, oid TEXT);
CREATE TABLE keyed (a TEXT COLLATE NOCASE, b, value REAL, PRIMARY KEY (b DESC, a)) WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value);
CREATE TABLE made (a INT, b INT AS (a * 2) VIRTUAL, c TEXT AS (a || '!') STORED, d INT);
CREATE TABLE strict (i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT;
CREATE TABLE empty (a);
CREATE VIRTUAL TABLE words USING fts5 (title, body);
CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1);
CREATE INDEX by_value ON plain (value DESC) WHERE value IS NOT NULL;
CREATE INDEX covering ON unnumbered (value COLLATE NOCASE);
CREATE VIEW "a view" AS SELECT id, value FROM plain;
CREATE TRIGGER logged AFTER INSERT ON plain BEGIN INSERT INTO made (a) VALUES (new.id); END;
INSERT INTO plain (id, value) VALUES
    (-9223372036854775808, NULL), (3, 9223372036854775807), (4, -0.0), (5, 5e-324), (6, 0.1),
    (7, 9e999), (8, -9e999), (9, 1.0), (10, x'00ff'), (11, ''), (12, x''), (13, char(1) || '2'),
    (14, char(65533) || char(1)), (15, 'a' || char(0) || 'b'), (16, 9007199254740993),
    (17, 1.7976931348623157e308), (18, 'i7'), (19, 'r+'), (20, 12345678901234567.0),
    (9223372036854775807, '9');
INSERT INTO "odd ""name""" VALUES (1, 'x', 'r', 1), ('text', 2.5, 'o', 9);
INSERT INTO unnumbered (rowid, value) VALUES (5, 'b'), (2, 'c'), (900, 'a');
INSERT INTO hidden VALUES ('c', 'x', 1), ('a', 'y', 2), ('b', 'z', 3);
INSERT INTO keyed VALUES ('z', 1, 1), ('a', 2.5, 0.5), ('a', x'0102', NULL), ('A', 'b', 1),
    ('c', 9e999, 1), ('d', -9007199254740993, 2), ('e' || char(0) || 'f', 'b', 3);
INSERT INTO counted VALUES (1, 'a'), (1000, 'z');
DELETE FROM counted WHERE id = 1000;
INSERT INTO made (a, d) VALUES (1, 10), (2, 20);
INSERT INTO strict VALUES (1, 1, 'x', x'ff', '1'), (NULL, NULL, NULL, NULL, 1);
INSERT INTO words (rowid, title, body) VALUES (4, 'one', 'running fast'), (9, 'two', 'slow');
INSERT INTO boxes VALUES (1, 0, 10), (2, 20, 30);
"#;

/// Every row with its number, in the order in which they are stored, reals by their bits.
pub(crate) fn inside(connection: &Connection) -> Vec<String> {
    let tables = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow') AND name <> 'sqlite_schema' ORDER BY name";
    let mut tables = connection.prepare(tables).unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut inside = Vec::new();
    for name in names.map(|name| name.unwrap()) {
        for first in ["0", "rowid", "oid"] {
            let query = format!("SELECT {first}, * FROM {} NOT INDEXED", quoted(&name));
            let Ok(mut query) = connection.prepare(&query) else { continue };
            let width = query.column_count();
            let rows = query.query_map([], |row| {
                let text = |i| {
                    Ok(match row.get_ref(i)? {
                        ValueRef::Real(real) => format!("Real({:x})", real.to_bits()),
                        value => format!("{value:?}"),
                    })
                };
                (0..width).map(text).collect::<rusqlite::Result<Vec<_>>>()
            });
            inside.extend(rows.unwrap().map(|row| format!("{name} {:?}", row.unwrap())));
        }
    }
    inside
}

async fn at_once(local: &Local) -> Result<Built> {
    let schema = read_schema(local).await.unwrap().remove(0);
    copy_at_once(local, to_schema(schema)?, None).await.map(|copied| copied.unwrap())
}

fn require_same(built: &Built, local: &Local) {
    let copy = Connection::open(built.file.path()).unwrap();
    let source = local.connection.lock().unwrap();
    source.set_limit(Limit::SQLITE_LIMIT_COLUMN, 2_000).unwrap();
    assert_eq!(inside(&copy), inside(&source));
}

#[tokio::test]
async fn every_value_comes_exactly() {
    let local = Local::new(EVERYTHING);
    require_same(&at_once(&local).await.unwrap(), &local);
}

#[tokio::test]
async fn pages_of_any_size_are_the_same_copy() {
    for bytes in [1, 500, 20_000, 8_000_000] {
        let local = Local::new(EVERYTHING);
        let built = Pages::new(&local, &local).with_bytes(bytes).copy(None).await.unwrap();
        require_same(&built, &local);
        let requests = *local.requests.lock().unwrap();
        match bytes {
            1 => assert!(requests > 20, "{requests}"),
            8_000_000 => assert_eq!(requests, 3),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_row_has_more_values_than_an_answer_has_columns() {
    let columns =
        |n: usize, name: &str| -> Vec<String> { (0..n).map(|i| format!("{name}{i}")).collect() };
    let wide = columns(100, "c").join(",");
    let long = columns(90, &"x".repeat(400)).join(",");
    let values = |n: usize| (0..n).map(|i| format!("{i} || 'v'")).collect::<Vec<_>>().join(",");
    let local = Local::new(&format!(
        "CREATE TABLE wide ({wide}); CREATE TABLE long ({long});
         INSERT INTO wide (rowid, {wide}) VALUES (7, {}), (9, {});
         INSERT INTO long VALUES ({});",
        values(100),
        values(100),
        values(90),
    ));
    require_same(&at_once(&local).await.unwrap(), &local);
    let built = Pages::new(&local, &local).with_bytes(1).copy(None).await.unwrap();
    require_same(&built, &local);
}

#[tokio::test]
async fn long_values_come_as_bytes() {
    let local = Local::new(
        "CREATE TABLE t (value);
         INSERT INTO t VALUES (zeroblob(600000)), (replace(hex(zeroblob(300000)), '0', char(233)));
         INSERT INTO t SELECT value || char(65533) FROM t WHERE typeof(value) = 'text';",
    );
    require_same(&at_once(&local).await.unwrap(), &local);
}

#[tokio::test]
async fn a_text_that_is_none_is_not_replaced_silently() {
    for bytes in ["x'61ff'", "x'f09f98'", "CAST(zeroblob(600000) || x'ff' AS BLOB)"] {
        let insert = format!("CREATE TABLE t (v); INSERT INTO t VALUES (CAST({bytes} AS TEXT));");
        let error = at_once(&Local::new(&insert)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.to_chain());
        assert!(error.to_string().contains("`t`"), "{error}");
    }
}

#[tokio::test]
async fn what_is_written_between_two_pages_is_no_copy() {
    for (number, sql) in [
        (2, "INSERT INTO counted (value) VALUES ('new')"),
        (3, "UPDATE plain SET note = 'y'"),
        (3, "DROP TABLE plain"),
        (2, "CREATE TABLE more (a)"),
    ] {
        let mut local = Local::new(EVERYTHING);
        local.interruption = Some((number, sql));
        let copied = Pages::new(&local, &local).with_bytes(1).copy(None).await;
        assert_eq!(copied.unwrap_err().kind(), ErrorKind::Conflict, "{sql}");
    }
}

#[tokio::test]
async fn a_schema_that_changed_is_told() {
    let local = Local::new("CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    let schema = to_schema(read_schema(&local).await.unwrap().remove(0)).unwrap();
    for sql in ["CREATE TABLE u (a)", "DROP TABLE t"] {
        local.connection.lock().unwrap().execute_batch(sql).unwrap();
        let changed = copy_at_once(&local, schema.clone(), None).await.unwrap().unwrap_err();
        assert_ne!(changed, schema);
    }
}
