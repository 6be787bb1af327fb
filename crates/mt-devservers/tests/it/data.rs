//! What a database holds: limits, copies, uploads and dumps.

use std::path::Path;

use mt_devservers::Turso;
use reqwest::{Method, StatusCode};
use rusqlite::{Connection, types::Value as Cell};
use serde_json::{Value, json};

use crate::support::{Database, Site};

#[tokio::test]
async fn a_blocked_database_says_so() {
    let site = Site::start().await;
    let database = site.create("one").await;
    database.rows("create table t (x)").await;
    let configuration = "/databases/one/configuration";
    for (change, reads) in
        [(json!({"block_writes": true}), true), (json!({"block_reads": true}), false)]
    {
        assert_eq!(site.api(Method::PATCH, configuration, change).await.0, 200);
        assert_eq!(database.code("insert into t values (1)").await, "BLOCKED");
        if reads {
            database.rows("select * from t").await;
        } else {
            assert_eq!(database.code("select * from t").await, "BLOCKED");
        }
    }
    let free = json!({"block_writes": false, "block_reads": false});
    assert_eq!(site.api(Method::PATCH, configuration, free).await.0, 200);
    database.rows("insert into t values (1)").await;
}

#[tokio::test]
async fn a_database_grows_up_to_its_limit() {
    let site = Site::start().await;
    let wish = json!({"name": "one", "group": "default", "size_limit": "64kb"});
    let database = site.create_with(wish).await;
    database.rows("create table t (x)").await;
    let mut codes = Vec::new();
    for _ in 0..40 {
        let (_, answer) = database.answer("insert into t values (zeroblob(4000))").await;
        codes.extend(answer["results"][0]["error"]["code"].as_str().map(str::to_owned));
    }
    assert!(!codes.is_empty() && codes.iter().all(|code| code == "SQLITE_FULL"), "{codes:?}");
    let wider = json!({"size_limit": null});
    site.api(Method::PATCH, "/databases/one/configuration", wider).await;
    database.rows("insert into t values (zeroblob(4000))").await;
}

#[tokio::test]
async fn a_copy_has_the_data_and_keys_of_its_own() {
    let site = Site::start().await;
    let one = site.create("one").await;
    one.rows("create table t (x)").await;
    one.rows("insert into t values (1)").await;
    let at = site.turso.keep_restore_point("one").await.unwrap();
    one.rows("insert into t values (2)").await;
    let seed =
        |timestamp: Value| json!({"type": "database", "name": "one", "timestamp": timestamp});
    let now = json!({"name": "now", "group": "default", "seed": seed(Value::Null)});
    let now = site.create_with(now).await;
    let then = json!({"name": "then", "group": "default", "seed": seed(json!(at))});
    let then = site.create_with(then).await;
    assert_eq!(now.rows("select count(*) from t").await[0][0]["value"], "2");
    assert_eq!(then.rows("select count(*) from t").await[0][0]["value"], "1");
    now.rows("insert into t values (3)").await;
    assert_eq!(one.rows("select count(*) from t").await[0][0]["value"], "2");
    assert_eq!(one.with_token(&now.token).status("select 1").await, StatusCode::UNAUTHORIZED);
    assert_eq!(now.with_token(&one.token).status("select 1").await, StatusCode::UNAUTHORIZED);

    let early = json!({"type": "database", "name": "one", "timestamp": "2020-01-01T00:00:00Z"});
    let early = json!({"name": "early", "group": "default", "seed": early});
    assert_eq!(site.post("/databases", early).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_deleted_database_is_gone_and_comes_back_empty() {
    let site = Site::start().await;
    let first = site.create("one").await;
    first.rows("create table t (x)").await;
    let (_, shown) = site.get("/databases/one").await;
    site.delete("/databases/one").await;
    assert_eq!(first.status("select 1").await, StatusCode::NOT_FOUND);
    let second = site.create("one").await;
    assert_eq!(second.code("select * from t").await, "SQLITE_UNKNOWN");
    assert_eq!(first.status("select 1").await, StatusCode::UNAUTHORIZED);
    let (_, again) = site.get("/databases/one").await;
    assert_ne!(shown["database"]["DbId"], again["database"]["DbId"]);
}

#[tokio::test]
async fn direct_databases_are_reached_without_the_gateway() {
    let site = Site::of(Turso::builder().direct().start().await.unwrap());
    let database = site.create("one").await;
    assert!(database.host.ends_with(&format!(":{}", site.turso.sqld().port())));
    database.rows("select 1").await;
    assert_eq!(site.turso.requests().total(), 0);
}

/// Whatever a schema and a row can be.
const EVERYTHING: &str = r#"
    CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
    CREATE TABLE "odd ""name" (
        any, -- untyped; a comment
        number INTEGER, ratio REAL, word TEXT, bytes BLOB, amount NUMERIC,
        parent REFERENCES parent (id), /* and;
        another */ doubled AS (number * 2) STORED, text_ DEFAULT 'it''s; --no comment'
    );
    CREATE TABLE keyed (a TEXT, b INT, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE strict_ (i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT;
    CREATE TABLE no_names (rowid TEXT, _rowid_ TEXT);
    CREATE INDEX by_word ON "odd ""name" (word COLLATE NOCASE, -- why;
        number DESC) WHERE word IS NOT NULL;
    CREATE UNIQUE INDEX by_bytes ON "odd ""name" (hex(bytes)) WHERE bytes IS NOT NULL;
    CREATE VIEW words AS
        SELECT word, ';' AS semicolon FROM "odd ""name";
    CREATE VIRTUAL TABLE search USING fts5 (body, tokenize = 'porter');
    CREATE VIRTUAL TABLE places USING rtree (id, x0, x1);
    INSERT INTO parent VALUES (3, 'three'), (77, 'gone');
    DELETE FROM parent WHERE id = 77;
    INSERT INTO "odd ""name" (rowid, any, number, ratio, word, bytes, amount, parent) VALUES
        (5, NULL, 9223372036854775807, 0.1, 'it''s', x'00ff', 12.5, 3),
        (9, 1.0, -9223372036854775807 - 1, 1e300 * 1e10, 'a' || char(10) || 'b;' || char(10), x'', '1e3', NULL),
        (12, 'x' || char(0) || 'y', 0, 2.2250738585072014e-308, '', zeroblob(70000), -7, NULL),
        (40, x'c3', 7, 0.30000000000000004, char(13, 10, 129408), NULL, 1e23, NULL);
    INSERT INTO keyed VALUES ('a', 1, NULL), ('a', 2, x'01');
    INSERT INTO strict_ VALUES (1, 2, 'three', x'04', 5), (1, 2.5, '', x'', '5');
    INSERT INTO no_names VALUES ('r', 's');
    INSERT INTO search VALUES ('running dogs; bark'), ('quiet cats');
    INSERT INTO places VALUES (1, 0.5, 1.5);
    CREATE TRIGGER count_ AFTER INSERT ON parent WHEN new.id > 0 BEGIN
        -- A comment; with a semicolon;
        INSERT INTO keyed VALUES ('counted', new.id, 'x;');
        UPDATE keyed SET c = 'y' WHERE a = 'none';
    END;
    PRAGMA user_version = 42;
"#;

/// Creates a file that the service would take.
fn file(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL;").unwrap();
    connection.execute_batch(EVERYTHING).unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    connection
}

async fn upload(database: &Database, bytes: Vec<u8>) -> (StatusCode, String) {
    let request = database.request(Method::POST, "/v1/upload").body(bytes);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn create_for_upload(site: &Site, name: &str) -> Database {
    let seed = json!({"type": "database_upload"});
    site.create_with(json!({"name": name, "group": "default", "seed": seed})).await
}

#[tokio::test]
async fn an_uploaded_file_is_there_to_the_last_bit() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.db");
    let local = file(&path);
    let remote = create_for_upload(&site, "one").await;
    let (status, said) = upload(&remote, std::fs::read(&path).unwrap()).await;
    assert_eq!(status, 200, "{said}");

    for sql in [
        "SELECT rowid, any, number, ratio, word, bytes, amount, parent, doubled, text_ FROM \"odd \"\"name\" ORDER BY rowid",
        "SELECT typeof(any), typeof(number), typeof(ratio), typeof(word), typeof(bytes), typeof(amount), hex(any), hex(word) FROM \"odd \"\"name\" ORDER BY rowid",
        "SELECT oid, * FROM no_names",
        "SELECT * FROM keyed ORDER BY a, b",
        "SELECT *, typeof(r), typeof(a) FROM strict_ ORDER BY rowid",
        "SELECT * FROM sqlite_sequence",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
        "SELECT rowid, body FROM search WHERE search MATCH 'run'",
        "SELECT * FROM places WHERE x0 < 1",
        "SELECT * FROM words ORDER BY word",
        "SELECT user_version FROM pragma_user_version",
    ] {
        assert_eq!(remote.rows(sql).await, rows(&local, sql), "{sql}");
    }
    remote.rows("INSERT INTO parent (name) VALUES ('next')").await;
    let counted = "SELECT b, c FROM keyed WHERE a = 'counted'";
    local.execute_batch("INSERT INTO parent (name) VALUES ('next')").unwrap();
    assert_eq!(remote.rows(counted).await, rows(&local, counted));
    remote.rows("INSERT INTO search VALUES ('he runs')").await;
    let found = remote.rows("SELECT count(*) FROM search WHERE search MATCH 'run'").await;
    assert_eq!(found[0][0]["value"], "2");
    let checked = remote.rows("SELECT * FROM pragma_integrity_check").await;
    assert_eq!(checked[0][0]["value"], "ok");
}

/// Of plain values only: the README tells what sqld's dump loses.
#[tokio::test]
async fn the_dump_of_plain_rows_makes_them_again() {
    let site = Site::start().await;
    let database = site.create("one").await;
    for sql in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, bytes BLOB, ratio REAL)",
        "INSERT INTO t VALUES (1, 'it''s' || char(10) || 'so;', x'00ff', 0.1), (2, NULL, x'', 2)",
        "CREATE TRIGGER copy AFTER INSERT ON t BEGIN UPDATE t SET word = 'x;' WHERE id = 0; END",
    ] {
        database.rows(sql).await;
    }
    let again = Connection::open_in_memory().unwrap();
    again.execute_batch(&dump(&database).await.unwrap()).unwrap();
    for sql in ["SELECT * FROM t ORDER BY id", "SELECT type, name FROM sqlite_schema ORDER BY 2"] {
        assert_eq!(database.rows(sql).await, rows(&again, sql), "{sql}");
    }
    assert_eq!(dump(&database.with_token("")).await, None);
}

/// What `/dump` says, if it says all of it.
async fn dump(database: &Database) -> Option<String> {
    let answer = database.request(Method::GET, "/dump").send().await.unwrap();
    let is_done = answer.status().is_success();
    answer.text().await.ok().filter(|_| is_done)
}

/// As the protocol writes them.
fn rows(connection: &Connection, sql: &str) -> Value {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|at| row.get::<_, Cell>(at).map(cell)).collect::<Result<Value, _>>()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn cell(cell: Cell) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

    match cell {
        Cell::Null => json!({"type": "null"}),
        Cell::Integer(number) => json!({"type": "integer", "value": number.to_string()}),
        Cell::Real(number) => json!({"type": "float", "value": number}),
        Cell::Text(text) => json!({"type": "text", "value": text}),
        Cell::Blob(bytes) => json!({"type": "blob", "base64": STANDARD_NO_PAD.encode(bytes)}),
    }
}

#[tokio::test]
async fn only_what_the_service_takes_is_uploaded() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.db");
    drop(file(&path));
    let good = std::fs::read(&path).unwrap();
    let ordinary = site.create("ordinary").await;
    assert_eq!(upload(&ordinary, good.clone()).await.0, StatusCode::BAD_REQUEST);

    let database = create_for_upload(&site, "one").await;
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let wrong = [
        ("magic", changed(0, b"sqlite")),
        ("journal", changed(18, &[1, 1])),
        ("page size", changed(16, &[0x20, 0])),
        ("auto_vacuum", changed(52, &[0, 0, 0, 3])),
        ("encoding", changed(56, &[0, 0, 0, 2])),
        ("length", good[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ];
    for (what, bytes) in wrong {
        let (status, said) = upload(&database, bytes).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}: {said}");
    }
    for token in ["", "garbage", &ordinary.token, site.turso.api_token()] {
        let (status, _) = upload(&database.with_token(token), good.clone()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?}");
    }
    let reader = site.token("/databases/one/auth/tokens?authorization=read-only").await;
    assert_eq!(upload(&database.with_token(reader), good.clone()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(upload(&database, good.clone()).await.0, 200);
    assert_eq!(upload(&database, good).await.0, StatusCode::BAD_REQUEST);
}
