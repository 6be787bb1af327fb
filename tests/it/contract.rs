//! A tenant's handle reaches the tenant's database and nothing else, whatever SQL it is given.

use std::path::{Path, PathBuf};

use mt_control::MultiTenancy;
use mt_core::{DataAdapters, ErrorKind};
use mt_tests::Installation;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement, StreamTrait as _, TransactionSession as _,
    TransactionTrait as _,
};

use crate::support::{Process, add, dump, file_of, kind_in, names, notes, tenant};

/// Statements that no handle runs. `{other}` is another tenant's file, `{new}` one that is not there.
const REFUSED: [&str; 34] = [
    "ATTACH '{other}' AS x",
    "ATTACH DATABASE '{new}' AS x",
    "attach '{new}' as x",
    "\u{feff}ATTACH '{new}' AS x",
    "/* SELECT */ ATTACH '{new}' AS x",
    "-- SELECT\nATTACH '{new}' AS x",
    "EXPLAIN ATTACH '{new}' AS x; ATTACH '{new}' AS x",
    "SELECT 1; ATTACH '{new}' AS x; CREATE TABLE x.stolen AS SELECT * FROM notes",
    "SELECT $a('); ATTACH '{new}' AS x; --')",
    "SELECT ':a('; ATTACH '{new}' AS x",
    "SELECT '\\'; ATTACH '{new}' AS x; --'",
    "SELECT \"; \"; ATTACH '{new}' AS x",
    "SELECT [;]; ATTACH '{new}' AS x",
    "SELECT `;`; ATTACH '{new}' AS x",
    "SELECT 1 /* ; */; ATTACH '{new}' AS x",
    "CREATE TRIGGER t AFTER INSERT ON notes BEGIN SELECT 1; END; ATTACH '{new}' AS x",
    "DETACH main",
    "VACUUM INTO '{new}'",
    "VACUUM main INTO '{new}'",
    "SELECT 1;\n\tVACUUM\n\tINTO '{new}'",
    "BEGIN",
    "BEGIN IMMEDIATE; INSERT INTO notes (text) VALUES ('x'); COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "END",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA main.journal_mode = DELETE",
    "PRAGMA journal_mode(OFF)",
    "PRAGMA writable_schema = ON",
    "CREATE TEMP TABLE notes (text)",
    "CREATE TEMPORARY VIEW notes AS SELECT 1 AS text",
    "CREATE TABLE temp.notes (text)",
];

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

async fn through_every_door<C: ConnectionTrait>(db: &C, sql: &str) -> [Result<(), DbErr>; 4] {
    [
        db.execute_unprepared(sql).await.map(drop),
        db.execute_raw(statement(sql)).await.map(drop),
        db.query_one_raw(statement(sql)).await.map(drop),
        db.query_all_raw(statement(sql)).await.map(drop),
    ]
}

fn refused(outcome: Result<(), DbErr>, sql: &str) {
    let error = outcome.map_err(|e| kind_in(&e));
    assert_eq!(error, Err(Some(ErrorKind::Unsupported)), "{sql:?}");
}

struct Site {
    installation: Installation,
    #[expect(dead_code, reason = "keeps the catalog open, so that its files stay as they are")]
    tenants: MultiTenancy,
    data: DataAdapters,
    new: PathBuf,
    other: PathBuf,
}

/// A tenant beside another, whose file is not open.
async fn site() -> Site {
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    for id in ["acme", "globex"] {
        tenants.provision(&tenant(id)).await.unwrap();
        add(&tenants.get_adapters(&tenant(id)).await.unwrap(), id).await.unwrap();
    }
    tenants.shutdown().await.unwrap();
    let tenants = Process::of(&installation).open().await;
    let data = tenants.get_adapters(&tenant("acme")).await.unwrap();
    notes(&data).await.unwrap();
    notes(&data.read()).await.unwrap();
    let (new, other) =
        (installation.path().join("new.sqlite"), file_of(&installation, "globex", 1));
    Site { installation, tenants, data, new, other }
}

impl Site {
    fn sql(&self, text: &str) -> String {
        let show = |path: &Path| path.to_str().unwrap().to_owned();
        text.replace("{new}", &show(&self.new)).replace("{other}", &show(&self.other))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_out_is_refused_through_every_door_and_writes_no_file() {
    let site = site().await;
    let before = names(site.installation.path());
    let content = dump(&site.other);
    for text in REFUSED {
        let sql = site.sql(text);
        for outcome in through_every_door(&site.data, &sql).await {
            refused(outcome, &sql);
        }
        for outcome in through_every_door(&site.data.read(), &sql).await {
            refused(outcome, &sql);
        }
        refused(site.data.stream_raw(statement(&sql)).await.map(drop), &sql);
        refused(site.data.batch([statement("SELECT 1"), statement(&sql)]).await.map(drop), &sql);
        let transaction = site.data.begin().await.unwrap();
        for outcome in through_every_door(&transaction, &sql).await {
            refused(outcome, &sql);
        }
        transaction.rollback().await.unwrap();
    }
    assert_eq!(names(site.installation.path()), before);
    assert_eq!(dump(&site.other), content);
    // Nothing was left behind for whoever comes next.
    assert_eq!(notes(&site.data).await.unwrap(), ["acme"]);
    add(&site.data, "on").await.unwrap();
    let on = site.data.query_one_raw(statement("PRAGMA foreign_keys")).await.unwrap().unwrap();
    assert_eq!(on.try_get_by_index::<i32>(0).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_character_is_refused_wherever_it_stands() {
    let site = site().await;
    for sql in [
        "SELECT 1\0".to_owned(),
        "\0SELECT 1".to_owned(),
        site.sql("SELECT 1; \0 ATTACH '{new}' AS x"),
        "INSERT INTO notes (text) VALUES ('a\0b')".to_owned(),
    ] {
        for outcome in through_every_door(&site.data, &sql).await {
            refused(outcome, &sql);
        }
    }
    // As a value it is a character like any other.
    add(&site.data, "a\0b").await.unwrap();
    assert_eq!(notes(&site.data).await.unwrap(), ["acme", "a\0b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_it_and_is_not_passes() {
    let site = site().await;
    for text in [
        "SELECT 'ATTACH ''x'' AS y; VACUUM INTO ''z'''",
        "SELECT 1 -- ; ATTACH 'x' AS y",
        "SELECT 1 /* ; VACUUM INTO 'x' */",
        "CREATE TABLE attach_log (\"begin\" text, [commit] text)",
        "INSERT INTO attach_log VALUES ('BEGIN; COMMIT', 'ATTACH')",
        "CREATE TRIGGER t AFTER INSERT ON notes BEGIN
             INSERT INTO attach_log VALUES ('a', 'b'); SELECT CASE 1 WHEN 1 THEN 2 END; END",
        "INSERT INTO notes (text) VALUES ('x; ATTACH ''y''')",
        "VACUUM",
        "PRAGMA table_info(notes)",
        "PRAGMA user_version",
    ] {
        site.data.execute_unprepared(text).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    assert!(!site.new.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_handle_does_not_write() {
    let site = site().await;
    let read = site.data.read();
    for sql in [
        "INSERT INTO notes (text) VALUES ('x')",
        "UPDATE notes SET text = 'x'",
        "DELETE FROM notes",
        "DROP TABLE notes",
        "CREATE TABLE more (x)",
        "WITH x AS (SELECT 1) INSERT INTO notes (text) SELECT 'x' FROM x",
        "SELECT 1; DELETE FROM notes",
    ] {
        assert!(read.execute_unprepared(sql).await.is_err(), "{sql}");
    }
    let transaction = read.begin().await.unwrap();
    assert!(add(&transaction, "x").await.is_err());
    drop(transaction);
    assert_eq!(notes(&read).await.unwrap(), ["acme"]);
}
