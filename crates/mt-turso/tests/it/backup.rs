//! Copies, and moving tenants between this provider and SQLite files.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mt_core::{BackupManifest, DatabaseFactory, ErrorKind, RestoreOptions, Result, TenantId};
use mt_devservers::turso::{Fault, Rule};
use mt_sqlite::SqliteFactory;
use mt_turso::TursoFactory;
use sea_orm::{DbBackend, Statement};

use crate::support::{context, count, execute, factory, server, tenant};

pub(crate) struct Copy {
    pub(crate) manifest: BackupManifest,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) async fn copy_of(factory: &dyn DatabaseFactory, tenant: &TenantId) -> Copy {
    let mut bytes = Vec::new();
    let manifest = factory.backup(tenant, &mut bytes).await.unwrap();
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

    /// Every object and every row but the stamp's, reals by their bits.
    fn inside(&self) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.bytes).unwrap();
        let connection = rusqlite::Connection::open(file.path()).unwrap();
        let mut inside = rows(&connection, "SELECT type, name, tbl_name, sql FROM sqlite_master");
        inside.sort();
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> '_mt_tenant' ORDER BY name";
        let mut query = connection.prepare(tables).unwrap();
        let names = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for name in names.map(|name| name.unwrap()) {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            inside.extend(rows(&connection, &format!("SELECT '{name}', * FROM {quoted}")));
        }
        let numbers = "SELECT rowid, value FROM unnumbered";
        inside.extend(rows(&connection, numbers));
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

const EVERYTHING: &[&str] = &[
    "CREATE TABLE plain (id INTEGER PRIMARY KEY, value, note TEXT DEFAULT 'x')",
    "CREATE TABLE \"odd \"\"name\" (\"select\" INT, rowid TEXT)",
    "CREATE TABLE unnumbered (value TEXT UNIQUE)",
    "CREATE TABLE keyed (a TEXT, b INT, PRIMARY KEY (b, a)) WITHOUT ROWID",
    "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, value)",
    "CREATE TABLE made (a INT, b INT AS (a * 2) VIRTUAL, c TEXT AS (a || '!') STORED)",
    "CREATE TABLE strict (i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT",
    "CREATE TABLE log (text TEXT)",
    "CREATE VIRTUAL TABLE words USING fts5 (title, body)",
    "CREATE INDEX by_value ON plain (value DESC) WHERE value IS NOT NULL",
    "CREATE UNIQUE INDEX by_lower ON plain (lower(note), id)",
    "CREATE VIEW \"a view\" AS SELECT id, value FROM plain",
    "CREATE TRIGGER logged AFTER INSERT ON plain BEGIN INSERT INTO log VALUES (new.id || ' came'); END",
    "INSERT INTO plain (id, value) VALUES (-9223372036854775808, NULL), (3, 9223372036854775807), (4, -0.0), (5, 5e-324), (6, 0.1), (7, 1e300), (9, x'00ff'), (10, 'a' || char(0) || 'b'), (11, ''), (12, x''), (13, 9e999), (14, -9e999), (15, char(1) || '+'), (9223372036854775807, '9')",
    "INSERT INTO \"odd \"\"name\" VALUES (1, 'x'), ('text', 'y')",
    "INSERT INTO unnumbered (rowid, value) VALUES (5, 'b'), (2, 'c'), (900, 'a')",
    "INSERT INTO keyed VALUES ('z', 1), ('a', 2), ('a', 1)",
    "INSERT INTO counted VALUES (1, 'a'), (1000, 'z')",
    "DELETE FROM counted WHERE id = 1000",
    "INSERT INTO made (a) VALUES (1), (2)",
    "INSERT INTO strict VALUES (1, 1, 'x', x'ff', '1'), (NULL, NULL, NULL, NULL, 1)",
    "INSERT INTO words (rowid, title, body) VALUES (4, 'one', 'running fast'), (9, 'two', 'slow')",
];

pub(crate) async fn provisioned(factory: &TursoFactory, tenant: &TenantId, statements: &[&str]) {
    factory.provision(tenant).await.unwrap();
    let data = factory.get_adapters(tenant).await.unwrap();
    for sql in statements {
        execute(&data, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

#[tokio::test]
async fn a_tenant_moves_to_sqlite_files_and_back() {
    let server = server().await;
    let turso = factory(&server, &context());
    let acme = tenant("acme");
    provisioned(&turso, &acme, EVERYTHING).await;
    let first = copy_of(&turso, &acme).await;

    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteFactory::builder().with_directory(folder.path()).with_context(context());
    let sqlite = sqlite.build().unwrap();
    let moved = tenant("moved");
    first.restore(&sqlite, &moved).await.unwrap();
    let data = sqlite.get_adapters(&moved).await.unwrap();
    assert_eq!(count(&data, "plain").await, 14);
    assert_eq!(count(&data, "words WHERE words MATCH 'running'").await, 1);
    drop(data);
    let second = copy_of(&sqlite, &moved).await;
    assert_eq!(second.inside(), first.inside());
    assert_eq!(second.manifest.rows, first.manifest.rows);

    let back = tenant("back");
    second.restore(&turso, &back).await.unwrap();
    let third = copy_of(&turso, &back).await;
    assert_eq!(third.inside(), first.inside());
    assert_eq!(third.manifest.tenant, back);
    let data = turso.get_adapters(&back).await.unwrap();
    assert_eq!(count(&data, "words WHERE words MATCH 'running'").await, 1);
    execute(&data, "INSERT INTO counted (value) VALUES ('next')").await.unwrap();
    assert_eq!(count(&data, "counted WHERE id = 1001").await, 1);
}

/// As a SQLite file of pages of another size has it.
#[tokio::test]
async fn a_file_of_other_pages_is_taken_too() {
    let server = server().await;
    let turso = factory(&server, &context());
    let acme = tenant("acme");
    provisioned(
        &turso,
        &acme,
        &[
            "CREATE TABLE unnumbered (value)",
            "INSERT INTO unnumbered (rowid, value) VALUES (7, 'x')",
        ],
    )
    .await;
    let mut copy = copy_of(&turso, &acme).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &copy.bytes).unwrap();
    let connection = rusqlite::Connection::open(file.path()).unwrap();
    connection.execute_batch("PRAGMA page_size = 8192; VACUUM").unwrap();
    connection.close().unwrap();
    let before = std::mem::replace(&mut copy.bytes, std::fs::read(file.path()).unwrap());
    assert_ne!(before[16..18], copy.bytes[16..18]);
    copy.manifest.size_bytes = copy.bytes.len() as u64;
    copy.manifest.sha256 = sha256(&copy.bytes);
    copy.restore(&turso, &acme).await.unwrap();
    let again = copy_of(&turso, &acme).await;
    assert_eq!(again.bytes[16..18], before[16..18]);
    let data = turso.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "unnumbered").await, 1);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_while_others_write_is_of_one_moment() {
    const TOTAL: i64 = 8 * 100;
    let server = server().await;
    let turso = factory(&server, &context());
    let acme = tenant("acme");
    let mut statements = vec![
        "CREATE TABLE here (id INTEGER PRIMARY KEY, amount INT)",
        "CREATE TABLE there (id INTEGER PRIMARY KEY, amount INT)",
    ];
    statements.extend([
        "INSERT INTO here VALUES (0, 100), (1, 100), (2, 100), (3, 100)",
        "INSERT INTO there VALUES (0, 100), (1, 100), (2, 100), (3, 100)",
    ]);
    provisioned(&turso, &acme, &statements).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for id in 0..4 {
        let data = turso.get_adapters(&acme).await.unwrap();
        let is_over = Arc::clone(&is_over);
        writers.push(tokio::spawn(async move {
            let mut moves = 0;
            while !is_over.load(Ordering::Relaxed) {
                // Tables are read one after the other; what is between them must not be seen.
                let statement = |sql: String| Statement::from_string(DbBackend::Sqlite, sql);
                data.batch([
                    statement(format!("UPDATE here SET amount = amount - 1 WHERE id = {id}")),
                    statement(format!("UPDATE there SET amount = amount + 1 WHERE id = {id}")),
                ])
                .await
                .unwrap();
                moves += 1;
            }
            moves
        }));
    }
    let mut seen = Vec::new();
    let data = turso.get_adapters(&acme).await.unwrap();
    for _ in 0..5 {
        let copy = copy_of(&turso, &acme).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &copy.bytes).unwrap();
        let connection = rusqlite::Connection::open(file.path()).unwrap();
        let sums = "SELECT (SELECT sum(amount) FROM here), (SELECT sum(amount) FROM there)";
        let (here, there): (i64, i64) =
            connection.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(here + there, TOTAL);
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

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_copy() {
    let server = server().await;
    let turso = factory(&server, &context());
    let acme = tenant("acme");
    provisioned(&turso, &acme, EVERYTHING).await;
    let hits = server.data_faults().add(Rule::new(Fault::Torn).path("/cursor"));
    let mut bytes = Vec::new();
    let error = turso.backup(&acme, &mut bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.to_chain());
    assert!(hits.count() > 0 && bytes.is_empty());
    server.data_faults().clear();
    assert_eq!(copy_of(&turso, &acme).await.manifest.rows["plain"], 14);
}
