//! Copies, and moving tenants between this provider and SQLite files.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mt_core::{
    BackupManifest, DataAdapters, DatabaseFactory, ErrorKind, RestoreOptions, Result, TenantId,
};
use mt_d1::D1Factory;
use mt_devservers::d1::{Fault, Kind, Rule};
use mt_sqlite::SqliteFactory;
use sea_orm::ConnectionTrait as _;

use crate::support::{
    context, count, execute, factory, query, requests, select, server, tenant, uuid,
};

pub(crate) struct Copy {
    pub(crate) manifest: BackupManifest,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) async fn copy_of(factory: &dyn DatabaseFactory, tenant: &TenantId) -> Copy {
    let mut bytes = Vec::new();
    let manifest =
        factory.backup(tenant, &mut bytes).await.unwrap_or_else(|e| panic!("{}", e.to_chain()));
    Copy { manifest, bytes }
}

impl Copy {
    pub(crate) async fn restore(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
    ) -> Result<()> {
        let options = RestoreOptions::default().with_restamp(true);
        factory.restore(tenant, &self.manifest, &mut self.bytes.as_slice(), options).await
    }

    /// As a file that SQLite opens.
    pub(crate) fn open(&self) -> (tempfile::NamedTempFile, rusqlite::Connection) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.bytes).unwrap();
        let connection = rusqlite::Connection::open(file.path()).unwrap();
        (file, connection)
    }

    /// Every object and every row but the stamp's and what virtual tables keep for themselves; reals
    /// by their bits.
    fn inside(&self) -> Vec<String> {
        let (_file, connection) = self.open();
        let shadows = "name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow')";
        let mut inside = rows(
            &connection,
            &format!("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE {shadows}"),
        );
        inside.sort();
        let tables = format!(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> '_mt_tenant' AND {shadows} ORDER BY name"
        );
        let mut query = connection.prepare(&tables).unwrap();
        let names = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for name in names.map(|name| name.unwrap()) {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            inside.extend(rows(&connection, &format!("SELECT '{name}', * FROM {quoted}")));
        }
        let has = |name| mt_sqlite_copy::has_table(&connection, name).unwrap();
        if has("unnumbered") {
            inside.extend(rows(&connection, "SELECT rowid, value FROM unnumbered"));
        }
        if has("words") {
            inside.extend(rows(&connection, "SELECT rowid FROM words WHERE words MATCH 'running'"));
        }
        inside
    }
}

fn rows(connection: &rusqlite::Connection, query: &str) -> Vec<String> {
    use rusqlite::types::Value;
    let mut statement = connection.prepare(query).unwrap();
    let width = statement.column_count();
    let text = |value: Value| match value {
        Value::Real(real) => format!("Real({:x})", real.to_bits()),
        value => format!("{value:?}"),
    };
    let rows = statement.query_map([], |row| {
        (0..width).map(|i| row.get(i).map(text)).collect::<rusqlite::Result<Vec<_>>>()
    });
    rows.unwrap().map(|row| row.unwrap().join(", ")).collect()
}

/// In SQL that both engines run.
const EVERYTHING: &[&str] = &[
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, value, note TEXT DEFAULT 'x')",
    "CREATE TABLE \"odd \"\"name\" (\"select\" INT, rowid TEXT)",
    "CREATE TABLE unnumbered (value TEXT UNIQUE)",
    "CREATE TABLE keyed (a TEXT, b INT, PRIMARY KEY (b, a)) WITHOUT ROWID",
    "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value)",
    "CREATE TABLE made (a INT, b INT AS (a * 2) VIRTUAL, c TEXT AS (a || '!') STORED)",
    "CREATE TABLE strict (i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, up INT REFERENCES child, mail TEXT REFERENCES zz_parent (mail) ON DELETE CASCADE)",
    "CREATE TABLE zz_parent (id INTEGER PRIMARY KEY, mail TEXT)",
    "CREATE TABLE log (text TEXT)",
    "CREATE TABLE articles (id INTEGER PRIMARY KEY, body TEXT)",
    "CREATE VIRTUAL TABLE words USING fts5 (title, body, tokenize = 'porter')",
    "CREATE VIRTUAL TABLE articles_index USING fts5 (body, content = 'articles', content_rowid = 'id')",
    "CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1)",
    "CREATE UNIQUE INDEX by_mail ON zz_parent (mail)",
    "CREATE INDEX by_value ON plain (value DESC) WHERE value IS NOT NULL",
    "CREATE UNIQUE INDEX by_lower ON plain (lower(note), id)",
    "CREATE VIEW \"a view\" AS SELECT id, value FROM plain",
    "CREATE TRIGGER logged AFTER INSERT ON plain BEGIN INSERT INTO log VALUES (new.id || ' came'); END",
    "INSERT INTO plain (id, value) VALUES (-9223372036854775807, NULL), (3, 9223372036854775807), (4, -0.0), (5, 5e-324), (6, 0.1), (7, 1e300), (9, x'00ff'), (10, 'a' || char(0) || 'b'), (11, ''), (12, x''), (13, 9e999), (14, -9e999), (15, char(1) || '+'), (16, char(65533)), (17, 9007199254740993), (18, 2.0), (19, '2'), (20, 2.2250738585072014e-308), (21, zeroblob(700000)), (22, replace(hex(zeroblob(400000)), '00', char(233))), (9223372036854775807, '9')",
    "INSERT INTO \"odd \"\"name\" VALUES (1, 'x'), ('text', 'y')",
    "INSERT INTO unnumbered (rowid, value) VALUES (5, 'b'), (2, 'c'), (900, 'a')",
    "INSERT INTO keyed VALUES ('z', 1), ('a', 2), ('a', 1)",
    "INSERT INTO counted VALUES (1, 'a'), (1000, 'z')",
    "DELETE FROM counted WHERE id = 1000",
    "INSERT INTO made (a) VALUES (1), (2)",
    "INSERT INTO strict VALUES (1, 1, 'x', x'ff', '1'), (NULL, NULL, NULL, NULL, 1)",
    "INSERT INTO zz_parent VALUES (1, 'a@example.com')",
    "INSERT INTO child VALUES (1, 2, 'a@example.com'), (2, NULL, NULL)",
    "INSERT INTO articles VALUES (1, 'hello world'), (5, 'other words')",
    "INSERT INTO words (rowid, title, body) VALUES (4, 'one', 'running fast'), (9, 'two', 'slow')",
    "INSERT INTO words (words, rank) VALUES ('rank', 'bm25(10.0, 5.0)')",
    "INSERT INTO articles_index (articles_index) VALUES ('rebuild')",
    "INSERT INTO boxes VALUES (1, 0, 10), (2, 20, 30)",
];

pub(crate) async fn provisioned(
    factory: &dyn DatabaseFactory,
    tenant: &TenantId,
    statements: &[&str],
) -> DataAdapters {
    factory.provision(tenant).await.unwrap();
    let data = factory.get_adapters(tenant).await.unwrap();
    for sql in statements {
        execute(&data, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    data
}

fn files(folder: &tempfile::TempDir) -> SqliteFactory {
    let files = SqliteFactory::builder().with_directory(folder.path()).with_context(context());
    files.build().unwrap()
}

#[tokio::test]
async fn a_tenant_moves_to_sqlite_files_and_back() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    drop(provisioned(&d1, &acme, EVERYTHING).await);
    let ([raw], first) = requests(&server, [Kind::Raw], copy_of(&d1, &acme)).await;
    assert_eq!(raw, 2);

    let folder = tempfile::tempdir().unwrap();
    let sqlite = files(&folder);
    let moved = tenant("moved");
    first.restore(&sqlite, &moved).await.unwrap();
    let data = sqlite.get_adapters(&moved).await.unwrap();
    assert_eq!(count(&data, "plain").await, 21);
    assert_eq!(count(&data, "words WHERE words MATCH 'running'").await, 1);
    drop(data);
    let second = copy_of(&sqlite, &moved).await;
    assert_eq!(second.inside(), first.inside());
    assert_eq!(second.manifest.rows, first.manifest.rows);

    let back = tenant("back");
    let kinds = [Kind::Create, Kind::Raw, Kind::Get];
    let ([created, raw, _], restored) = requests(&server, kinds, second.restore(&d1, &back)).await;
    restored.unwrap_or_else(|e| panic!("{}", e.to_chain()));
    assert_eq!((created, raw), (1, 1));
    let third = copy_of(&d1, &back).await;
    assert_eq!(third.inside(), first.inside());
    assert_eq!(third.manifest.tenant, back);
    let data = d1.get_adapters(&back).await.unwrap();
    assert_eq!(count(&data, "words WHERE words MATCH 'running'").await, 1);
    assert_eq!(count(&data, "articles_index WHERE articles_index MATCH 'hello'").await, 1);
    assert_eq!(count(&data, "boxes WHERE x0 >= 20").await, 1);
    execute(&data, "INSERT INTO counted (value) VALUES ('next')").await.unwrap();
    assert_eq!(count(&data, "counted WHERE id = 1001").await, 1);
    execute(&data, "DELETE FROM zz_parent").await.unwrap();
    assert_eq!(count(&data, "child").await, 1);
}

#[tokio::test]
async fn a_row_of_a_hundred_columns_has_a_number_beside_them() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let columns: Vec<_> = (0..100).map(|i| format!("c{i}")).collect();
    let values: Vec<_> = (0..100).map(|i| format!("zeroblob({})", 200 * i)).collect();
    let create = format!("CREATE TABLE wide ({})", columns.join(","));
    let insert = format!(
        "INSERT INTO wide (rowid, {}) VALUES (77, {})",
        columns.join(","),
        values.join(",")
    );
    drop(provisioned(&d1, &acme, &[&create, &insert]).await);
    let copy = copy_of(&d1, &acme).await;
    copy.restore(&d1, &acme).await.unwrap();
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "wide WHERE rowid = 77 AND length(c99) = 19800").await, 1);
    assert_eq!(copy_of(&d1, &acme).await.manifest.rows, copy.manifest.rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_while_others_write_is_of_one_moment() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let statements = [
        "CREATE TABLE here (id INTEGER PRIMARY KEY, amount INT)",
        "CREATE TABLE there (id INTEGER PRIMARY KEY, amount INT)",
        "INSERT INTO here VALUES (0, 100), (1, 100), (2, 100), (3, 100)",
        "INSERT INTO there VALUES (0, 100), (1, 100), (2, 100), (3, 100)",
    ];
    let data = provisioned(&d1, &acme, &statements).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for id in 0..4 {
        let data = d1.get_adapters(&acme).await.unwrap();
        let is_over = Arc::clone(&is_over);
        writers.push(tokio::spawn(async move {
            let mut moves = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Tables are read one after the other; what is between them must not be seen.
                data.batch([
                    select(&format!("UPDATE here SET amount = amount - 1 WHERE id = {id}")),
                    select(&format!("UPDATE there SET amount = amount + 1 WHERE id = {id}")),
                ])
                .await
                .unwrap();
                moves += 1;
            }
            moves
        }));
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        let copy = copy_of(&d1, &acme).await;
        let (_file, connection) = copy.open();
        let sums = "SELECT (SELECT sum(amount) FROM here), (SELECT sum(amount) FROM there)";
        let (here, there): (i64, i64) =
            connection.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(here + there, 800);
        seen.push(here);
        // Nothing proves anything unless they really write meanwhile.
        let until = format!("here WHERE (SELECT sum(amount) FROM here) < {here}");
        while count(&data, &until).await == 0 {}
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
}

/// More than is read by one request.
const LARGE: &[&str] = &[
    "CREATE TABLE note (id INTEGER PRIMARY KEY, text BLOB)",
    "CREATE TABLE other (key TEXT PRIMARY KEY, value REAL) WITHOUT ROWID",
    "INSERT INTO note WITH n AS (SELECT value FROM json_each('[' || rtrim(replace(hex(zeroblob(1200)), '00', '0,'), ',') || ']')) SELECT row_number() OVER (), randomblob(9000) FROM n",
    "INSERT INTO other SELECT 'k' || id, id / 3.0 FROM note",
];

#[tokio::test]
async fn a_large_database_is_read_in_pages_when_nobody_writes() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, LARGE).await;
    let kinds = [Kind::Raw, Kind::Bookmark];
    let ([raw, bookmarks], copy) = requests(&server, kinds, copy_of(&d1, &acme)).await;
    assert_eq!(bookmarks, 2);
    assert!((4..=8).contains(&raw), "{raw}");
    assert_eq!((copy.manifest.rows["note"], copy.manifest.rows["other"]), (1200, 1200));
    let sum = "SELECT sum(octet_length(text) + instr(text, x'00')) || '' FROM note";
    let (_file, connection) = copy.open();
    let copied: String = connection.query_row(sum, [], |row| row.get(0)).unwrap();
    let row = data.query_one_raw(select(sum)).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), copied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_database_that_is_written_to_is_no_copy() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, LARGE).await;
    // Every page takes its time, and a write gets in.
    let slow = Rule::new(Fault::Slow(std::time::Duration::from_millis(100))).kind(Kind::Raw);
    server.faults().add(slow);
    let writing = async {
        for _ in 0..20 {
            execute(&data, "INSERT INTO other VALUES (hex(randomblob(8)), 1)").await.unwrap();
        }
    };
    let mut bytes = Vec::new();
    let (copied, ()) = tokio::join!(d1.backup(&acme, &mut bytes), writing);
    let error = copied.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.to_chain());
    assert!(bytes.is_empty());
    server.faults().clear();
    assert!(copy_of(&d1, &acme).await.manifest.rows["other"] > 1200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_copy() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    drop(provisioned(&d1, &acme, EVERYTHING).await);
    let hits = server.faults().add(Rule::new(Fault::Torn).kind(Kind::Raw));
    let mut bytes = Vec::new();
    let error = d1.backup(&acme, &mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_chain());
    assert!(hits.count() > 0 && bytes.is_empty());
    server.faults().clear();
    assert_eq!(copy_of(&d1, &acme).await.manifest.rows["plain"], 21);
}

#[tokio::test]
async fn somebody_elses_database_is_not_copied() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    drop(provisioned(&d1, &acme, &["CREATE TABLE note (text TEXT)"]).await);
    let name = d1.describe(&acme).await.unwrap().name;
    let uuid = uuid(&d1, name.as_str()).await;
    for change in ["UPDATE _mt_tenant SET tenant = 'other'", "DROP TABLE _mt_tenant"] {
        query(&server, &uuid, change).await;
        let mut bytes = Vec::new();
        let error = d1.backup(&acme, &mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{}", error.to_chain());
        assert!(bytes.is_empty());
    }
    let nobody = D1Factory::backup(&d1, &tenant("nobody"), &mut Vec::new()).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::TenantNotFound);
}

/// More rows than go in one request.
const MANY: &str = "INSERT INTO note WITH n AS (SELECT value FROM json_each('[' || rtrim(replace(hex(zeroblob(600)), '00', '0,'), ',') || ']')) SELECT row_number() OVER (), randomblob(9000) FROM n";

#[tokio::test]
async fn whatever_tables_are_called_they_are_put_back() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let note = "CREATE TABLE note (id INTEGER PRIMARY KEY, text BLOB)";
    for (name, statements) in [
        (
            "no-ids-any-more",
            &["CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)", "DROP TABLE t"][..],
        ),
        (
            "functions",
            &[
                note,
                "INSERT INTO note WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1203) SELECT i, i / 3.0 FROM n",
                "CREATE TABLE Json_Each (value, b)",
                "INSERT INTO json_each VALUES (1, 0.1), (x'00', 'b'), (NULL, -9007199254740993)",
                "CREATE TABLE pragma_table_list (schema, name, type, wr)",
                "CREATE TABLE pragma_table_xinfo (name, type, hidden, pk)",
                "CREATE TABLE pragma_foreign_key_list (id, seq)",
                "CREATE TABLE pragma_foreign_key_check (\"table\", parent)",
                "INSERT INTO pragma_foreign_key_check VALUES ('a', 'b')",
            ][..],
        ),
        (
            "our-own",
            &[
                note,
                MANY,
                "CREATE TABLE _MT_arrival (step)",
                "CREATE VIEW _mt_ids AS SELECT * FROM _mt_arrival",
                "CREATE INDEX _mt_arrival_2 ON note (id)",
                "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT)",
                "INSERT INTO counted VALUES (7)",
            ][..],
        ),
    ] {
        let whose = tenant(name);
        drop(provisioned(&d1, &whose, statements).await);
        let copy = copy_of(&d1, &whose).await;
        let restored = copy.restore(&d1, &whose).await;
        restored.unwrap_or_else(|e| panic!("{name}: {}", e.to_chain()));
        assert!(copy_of(&d1, &whose).await.inside() == copy.inside(), "{name}");
    }
}

#[tokio::test]
async fn what_could_not_be_put_back_is_not_copied() {
    let server = server().await;
    let d1 = factory(&server, &context());
    for (name, statements, told) in [
        ("textless", &["CREATE VIRTUAL TABLE a USING fts5 (b, content = '')"][..], "`a`"),
        (
            "parentless",
            &[
                "CREATE TABLE parent (id INTEGER PRIMARY KEY, mail TEXT)",
                "CREATE UNIQUE INDEX by_mail ON parent (mail)",
                "CREATE TABLE child (mail TEXT REFERENCES parent (mail))",
                "INSERT INTO parent VALUES (1, 'a@example.com')",
                "INSERT INTO child VALUES ('a@example.com')",
                "DROP INDEX by_mail",
            ][..],
            "foreign key",
        ),
    ] {
        let whose = tenant(name);
        drop(provisioned(&d1, &whose, statements).await);
        let mut bytes = Vec::new();
        let error = d1.backup(&whose, &mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {}", error.to_chain());
        assert!(error.to_chain().contains(told), "{}", error.to_chain());
        assert!(bytes.is_empty());
    }
}

#[tokio::test]
async fn rows_that_refer_to_anything_are_put_back() {
    let server = server().await;
    let d1 = factory(&server, &context());
    for (name, statements) in [
        (
            // More than goes in one request, and every row refers to the next one.
            "ahead",
            &[
                "CREATE TABLE note (id INTEGER PRIMARY KEY, text BLOB, next INT REFERENCES note)",
                "PRAGMA defer_foreign_keys = ON; INSERT INTO note WITH n AS (SELECT value FROM json_each('[' || rtrim(replace(hex(zeroblob(600)), '00', '0,'), ',') || ']')) SELECT row_number() OVER (), randomblob(9000), nullif(row_number() OVER () + 1, 601) FROM n",
            ][..],
        ),
        (
            // What was referred to is gone.
            "gone",
            &[
                "CREATE TABLE Parent (id INTEGER PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a, b), UNIQUE (b))",
                "CREATE TABLE child (id INTEGER PRIMARY KEY, p INT REFERENCES parent, a, b, FOREIGN KEY (a, b) REFERENCES parent (a, b), FOREIGN KEY (b) REFERENCES PARENT (B))",
                "INSERT INTO child VALUES (1, NULL, 'x', NULL), (2, NULL, NULL, NULL)",
                "DROP TABLE parent",
            ][..],
        ),
    ] {
        let whose = tenant(name);
        d1.provision(&whose).await.unwrap();
        let data = d1.get_adapters(&whose).await.unwrap();
        for sql in statements {
            data.execute_unprepared(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        drop(data);
        let copy = copy_of(&d1, &whose).await;
        let restored = copy.restore(&d1, &whose).await;
        restored.unwrap_or_else(|e| panic!("{name}: {}", e.to_chain()));
        assert!(copy_of(&d1, &whose).await.inside() == copy.inside(), "{name}");
    }
}
