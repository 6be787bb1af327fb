use mt_core::ErrorKind;
use mt_sqlite_copy::{FileBuilder, SchemaObject};
use rusqlite::{Connection, functions::FunctionFlags, params, types::Value};

use crate::{rebuild, rows, schema, scratch};

/// Objects, then rows as they can only be with checks and foreign keys off.
const EVERYTHING: &str = r#"
CREATE TABLE plain (id INTEGER PRIMARY KEY, value, note TEXT DEFAULT 'x');
CREATE TABLE "odd ""name""" ("select" INT, "a""b", 'single' TEXT);
CREATE TABLE unnumbered (value TEXT UNIQUE ON CONFLICT REPLACE);
CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, value);
CREATE TABLE named (rowid TEXT, _ROWID_ BLOB, value);
CREATE TABLE hidden (rowid TEXT, _rowid_ TEXT, oid TEXT);
CREATE TABLE keyed (a TEXT, b INT, value REAL, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value);
CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE made (a INT, b INT AS (a * 2) VIRTUAL, c TEXT AS (a || '!') STORED, d INT);
CREATE TABLE strict (i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT;
CREATE TABLE checked (value INT NOT NULL CHECK (value > 0));
CREATE TABLE child (id INTEGER PRIMARY KEY, parent INT NOT NULL REFERENCES plain (id) ON DELETE CASCADE);
CREATE TABLE itself (id INT PRIMARY KEY, above INT REFERENCES itself (id));
CREATE TABLE log (text TEXT);
CREATE TABLE empty (a);
CREATE VIRTUAL TABLE words USING fts5 (title, body, tokenize = 'porter');
CREATE TABLE words_more (value TEXT);
CREATE TABLE articles (id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE articles_index USING fts5 (body, content = 'articles', content_rowid = 'id');
CREATE VIRTUAL TABLE old_words USING fts4 (content="articles");
CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1);
ALTER TABLE plain ADD COLUMN later INT NOT NULL DEFAULT 7;
CREATE INDEX by_value ON plain (value DESC) WHERE value IS NOT NULL;
CREATE UNIQUE INDEX by_lower ON plain (lower(note), id);
CREATE INDEX covering ON unnumbered (value COLLATE NOCASE);
CREATE VIEW "a view" AS SELECT id, value FROM plain;
CREATE TRIGGER logged AFTER INSERT ON plain BEGIN INSERT INTO log VALUES (new.id || ' came'); END;
CREATE TRIGGER instead INSTEAD OF INSERT ON "a view" BEGIN INSERT INTO plain (id, value) VALUES (new.id, new.value); END;

PRAGMA foreign_keys = OFF;
PRAGMA ignore_check_constraints = ON;
INSERT INTO plain (id, value, note) VALUES
    (-9223372036854775808, NULL, 'least'), (3, 9223372036854775807, 'gap'),
    (7, 9e999, 'infinite'), (8, -9e999, 'infinite'), (9, 1.0, 'whole'),
    (9223372036854775807, '9', 'most');
INSERT INTO "odd ""name""" VALUES (1, 'x', x'00'), ('text', 2.5, 'y');
INSERT INTO unnumbered (rowid, value) VALUES (5, 'b'), (2, 'c'), (900, 'a');
INSERT INTO descending (rowid, id, value) VALUES (10, 2, 'x'), (11, 1, 'y');
INSERT INTO named (oid, rowid, value) VALUES (40, 'a', 1), (20, 'b', 2);
INSERT INTO hidden VALUES ('c', 'x', 1), ('a', 'y', 2);
INSERT INTO keyed VALUES ('z', 1, 1), ('a', 2, 0.5), ('a', 1, NULL);
INSERT INTO counted VALUES (1, 'a'), (1000, 'z');
DELETE FROM counted WHERE id = 1000;
DROP TABLE gone;
INSERT INTO made (a, d) VALUES (1, 10), (2, 20);
INSERT INTO strict VALUES (1, 1, 'x', x'ff', '1'), (NULL, NULL, NULL, NULL, 1);
INSERT INTO checked VALUES (-1);
INSERT INTO child VALUES (1, 3), (2, 12345);
INSERT INTO itself VALUES (2, 1), (1, 2);
INSERT INTO words (rowid, title, body) VALUES (4, 'one', 'running fast'), (9, 'two', 'slow');
INSERT INTO words_more VALUES ('not a part of it');
INSERT INTO articles VALUES (1, 'hello world'), (5, 'other words');
INSERT INTO articles_index (articles_index) VALUES ('rebuild');
INSERT INTO old_words (old_words) VALUES ('rebuild');
INSERT INTO boxes VALUES (1, 0, 10), (2, 20, 30);
"#;

fn everything() -> Connection {
    let source = Connection::open_in_memory().unwrap();
    source.execute_batch(EVERYTHING).unwrap();
    let insert = "INSERT INTO plain (id, value) VALUES (?1, ?2)";
    let values = [
        Value::Real(-0.0),
        Value::Real(5e-324),
        Value::Text("a\0b\u{1f600}".to_owned()),
        Value::Text(String::new()),
        Value::Text("\u{1}".to_owned()),
        Value::Text("\u{1}+".to_owned()),
        Value::Text("\u{1}\u{1}-\0".to_owned()),
        Value::Blob(vec![0, 255, 0]),
        Value::Blob(Vec::new()),
    ];
    for (id, value) in (100_i64..).zip(values) {
        source.execute(insert, params![id, value]).unwrap();
    }
    source
}

/// Every row with its number, where that can be read, in the order in which they are stored; reals
/// by their bits.
fn everything_in(connection: &Connection) -> Vec<(String, String)> {
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut all = Vec::new();
    for name in rows(connection, tables).unwrap() {
        let [Value::Text(name)] = name.as_slice() else { unreachable!("a name is text") };
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        for first in ["'no number'", "rowid", "_rowid_", "oid"] {
            // Without rowids there is no such column.
            let query = format!("SELECT {first}, * FROM {quoted}");
            let found = rows(connection, &query).unwrap_or_default();
            let text = |value: &Value| match value {
                Value::Real(real) => format!("Real({:x})", real.to_bits()),
                value => format!("{value:?}"),
            };
            let found = found.iter().map(|row| row.iter().map(text).collect::<Vec<_>>());
            all.push((query, format!("{:#?}", found.collect::<Vec<_>>())));
        }
    }
    all
}

#[test]
fn a_database_is_rebuilt_object_by_object_and_row_by_row() {
    let source = everything();
    let built = rebuild(&source).unwrap();
    let copy = Connection::open(built.file.path()).unwrap();
    let sorted = |connection| {
        let mut objects = schema(connection);
        objects.sort();
        objects
    };
    assert_eq!(sorted(&copy), sorted(&source));
    for (copied, original) in everything_in(&copy).into_iter().zip(everything_in(&source)) {
        assert_eq!(copied, original);
    }
    assert_eq!(built.contents.rows["plain"], 15);
    assert_eq!(built.contents.rows["empty"], 0);
    assert!(!built.contents.rows.contains_key("words"));
    assert!(built.contents.rows["words_data"] > 0);
}

#[test]
fn a_rebuilt_database_goes_on_where_the_other_was() {
    let source = everything();
    let built = rebuild(&source).unwrap();
    let copy = Connection::open(built.file.path()).unwrap();
    for connection in [&source, &copy] {
        connection
            .execute_batch(
                "INSERT INTO counted (value) VALUES ('next');
                 INSERT INTO \"a view\" VALUES (50, 'through the view');
                 INSERT INTO words (title, body) VALUES ('three', 'runs');",
            )
            .unwrap();
    }
    for query in [
        "SELECT max(id) FROM counted",
        "SELECT text FROM log",
        "SELECT rowid, title FROM words WHERE words MATCH 'run' ORDER BY rowid",
        "SELECT rowid FROM articles_index WHERE articles_index MATCH 'words'",
        "SELECT docid FROM old_words WHERE old_words MATCH 'hello'",
        "SELECT id FROM boxes WHERE x0 < 15",
        "SELECT id FROM plain INDEXED BY by_value WHERE value IS NOT NULL ORDER BY value",
    ] {
        let found = rows(&copy, query).unwrap();
        assert!(!found.is_empty(), "{query}");
        assert_eq!(found, rows(&source, query).unwrap(), "{query}");
    }
    for check in ["words", "articles_index"] {
        let check = format!("INSERT INTO {check} ({check}) VALUES ('integrity-check')");
        copy.execute(&check, []).unwrap();
    }
    // A violated check is told too, so it is not a part of this.
    copy.execute("DELETE FROM checked", []).unwrap();
    assert_eq!(rows(&copy, "PRAGMA integrity_check").unwrap(), [[Value::Text("ok".to_owned())]]);
}

#[test]
fn a_rebuilt_file_is_what_a_service_takes() {
    let source = Connection::open_in_memory().unwrap();
    source
        .execute_batch("PRAGMA page_size = 8192; PRAGMA auto_vacuum = 1; CREATE TABLE t (a);")
        .unwrap();
    let built = rebuild(&source).unwrap();
    let bytes = std::fs::read(built.file.path()).unwrap();
    // https://www.sqlite.org/fileformat2.html#the_database_header
    assert_eq!(bytes[16..20], [0x10, 0, 1, 1], "pages of 4096 bytes and a rollback journal");
    assert_eq!(bytes[52..60], [0, 0, 0, 0, 0, 0, 0, 1], "no auto-vacuum, UTF-8");
    let mut log = built.file.path().as_os_str().to_owned();
    log.push("-wal");
    assert!(!std::path::Path::new(&log).exists());
}

#[test]
fn tables_come_before_and_behind_the_virtual_ones_they_belong_to() {
    let source = Connection::open_in_memory().unwrap();
    source
        .execute_batch(
            "CREATE VIRTUAL TABLE words USING fts5 (body); INSERT INTO words VALUES ('hello');",
        )
        .unwrap();
    // As `VACUUM` leaves it: virtual tables come last.
    let mut turned = schema(&source);
    turned.rotate_left(1);
    let mut builder = FileBuilder::create(scratch(), &turned).unwrap();
    for (query, sql) in builder.queries().iter().enumerate() {
        for row in rows(&source, sql).unwrap() {
            builder.insert(query, row).unwrap();
        }
    }
    let built = builder.finish(None).unwrap();
    let copy = Connection::open(built.file.path()).unwrap();
    let found = rows(&copy, "SELECT rowid FROM words WHERE words MATCH 'hello'").unwrap();
    assert_eq!(found, [[Value::Integer(1)]]);
}

#[test]
fn no_query_answers_an_infinite_number() {
    let source = everything();
    let builder = FileBuilder::create(scratch(), &schema(&source)).unwrap();
    let found = builder.queries().into_iter().flat_map(|sql| rows(&source, &sql).unwrap());
    let found: Vec<Value> = found.flatten().collect();
    assert!(found.contains(&Value::Text("\u{1}-".to_owned())));
    assert!(found.iter().all(|value| !matches!(value, Value::Real(r) if r.is_infinite())));
}

fn object(kind: &str, name: &str, sql: &str) -> SchemaObject {
    SchemaObject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        table: if kind == "index" { "t" } else { name }.to_owned(),
        sql: Some(sql.to_owned()),
    }
}

#[test]
fn what_sqlite_cannot_make_is_refused_by_name_before_any_row() {
    let table = object("table", "t", "CREATE TABLE t (a)");
    for wrong in [
        object("table", "vectors", "CREATE VIRTUAL TABLE vectors USING no_such_module (a)"),
        object("index", "nearest", "CREATE INDEX nearest ON t (libsql_vector_idx(a))"),
        object("table", "numbers", "CREATE TABLE numbers (a) RANDOM ROWID"),
        object("table", "other", "CREATE TABLE another (a)"),
        object("table", "more", "CREATE TABLE more (a); CREATE TABLE most (a)"),
        object("view", "attached", "ATTACH ':memory:' AS attached"),
    ] {
        let error = FileBuilder::create(scratch(), &[table.clone(), wrong.clone()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.to_chain());
        let name = if wrong.name == "other" { "another" } else { wrong.name.as_str() };
        assert!(error.to_string().contains(&format!("`{name}`")), "{}", error.to_chain());
    }
}

#[test]
fn a_function_of_the_source_alone_is_told() {
    let source = Connection::open_in_memory().unwrap();
    let twice = |context: &rusqlite::functions::Context<'_>| Ok(context.get::<i64>(0)? * 2);
    let flags = FunctionFlags::SQLITE_DETERMINISTIC;
    source.create_scalar_function("twice", 1, flags, twice).unwrap();
    source.execute_batch("CREATE TABLE t (a INT CHECK (twice(a) > 2), b AS (twice(a)))").unwrap();
    let error = rebuild(&source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("the table `t`"), "{}", error.to_chain());
}

#[test]
fn rows_of_another_shape_are_refused() {
    let schema = [object("table", "t", "CREATE TABLE t (a)")];
    let mut builder = FileBuilder::create(scratch(), &schema).unwrap();
    // The row's number and one column.
    builder.insert(0, vec![Value::Integer(1), Value::Null]).unwrap();
    for (query, width) in [(0, 1), (0, 3), (1, 2)] {
        let error = builder.insert(query, vec![Value::Null; width]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "query {query}, {width} values");
    }
}

#[test]
fn a_table_may_be_called_as_a_function_of_sqlites_is() {
    let source = Connection::open_in_memory().unwrap();
    source
        .execute_batch(
            "CREATE TABLE pragma_table_list (schema, name, type, wr);
             CREATE TABLE pragma_table_xinfo (name, type, hidden, pk);
             CREATE TABLE pragma_index_list (origin);
             CREATE TABLE note (id INTEGER PRIMARY KEY, text);
             INSERT INTO pragma_table_list VALUES ('main', 'gone', 'table', 0);
             INSERT INTO note VALUES (7, 'x');",
        )
        .unwrap();
    let built = rebuild(&source).unwrap();
    assert_eq!((built.contents.rows["note"], built.contents.rows["pragma_table_list"]), (1, 1));
    let copy = Connection::open(built.file.path()).unwrap();
    assert_eq!(rows(&copy, "SELECT * FROM note"), rows(&source, "SELECT * FROM note"));
}
