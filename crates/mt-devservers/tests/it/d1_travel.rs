//! Time travel, exports and imports of D1.

use std::time::Duration;

use mt_devservers::D1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::d1::{Site, code};

/// Values that JSON, JavaScript or SQL text would bend, and what depends on them.
const HARD: [&str; 8] = [
    "create table parent (id integer primary key autoincrement, v)",
    "create table child (id integer references parent(id) on delete cascade, v text unique)",
    "create table \"odd \"\"name\" (\"a b\" blob, k text primary key) without rowid",
    "insert into parent (id, v) values (5, 9223372036854775807), (6, 1.0), (7, 9e999), \
     (8, -0.5), (9, cast(X'61006262' as text)), (10, X'00ff'), (11, null), (12, 'O''Re'), \
     (13, cast(X'ff' as text)), (14, ''), (15, X''), (16, '7'), \
     (17, -0.0)",
    "insert into child values (5, 'x'), (null, 'y')",
    "insert into \"odd \"\"name\" values (X'', 'k')",
    "create trigger doubles after insert on child begin delete from parent; end",
    "create virtual table words using fts5(w)",
];

const SHOWN: &str = "select id, typeof(v), quote(v), hex(v) from parent order by id";

async fn bookmark(site: &Site, id: &str, query: &str) -> String {
    let (status, answer) = site.get(&format!("/{id}/time_travel/bookmark{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["result"]["bookmark"].as_str().unwrap().to_owned()
}

async fn restore(site: &Site, id: &str, query: &str) -> Value {
    let (status, answer) =
        site.post(&format!("/{id}/time_travel/restore{query}"), Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer["result"].clone()
}

/// A time between two others.
async fn now() -> String {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    tokio::time::sleep(Duration::from_millis(5)).await;
    now
}

#[tokio::test]
async fn what_was_is_restored_exactly_and_back_again() {
    let site = Site::start().await;
    let id = site.create("one").await;
    for sql in HARD {
        site.rows(&id, sql).await;
    }
    site.rows(&id, "insert into words values ('hello')").await;
    let before = site.rows(&id, SHOWN).await;
    let schema = "select type, name, sql from sqlite_master where name not like 'words%'";
    let schema_before = site.rows(&id, schema).await;
    let first = bookmark(&site, &id, "").await;
    assert_eq!(bookmark(&site, &id, "").await, first, "nothing was written");
    site.rows(&id, "drop trigger doubles").await;
    site.rows(&id, "delete from parent where id > 5").await;
    let second = bookmark(&site, &id, "").await;
    assert!(second > first);
    let answer = restore(&site, &id, &format!("?bookmark={first}")).await;
    assert_eq!(answer["previous_bookmark"], second.as_str());
    assert!(answer["bookmark"].as_str().unwrap() > second.as_str());
    assert_eq!(site.rows(&id, SHOWN).await, before);
    assert_eq!(site.rows(&id, schema).await, schema_before);
    let found = site.rows(&id, "select w from words where words match 'hello'").await;
    assert_eq!(found, json!([["hello"]]));
    assert_eq!(site.rows(&id, "select seq from sqlite_sequence").await, json!([[17]]));
    restore(&site, &id, &format!("?bookmark={second}")).await;
    assert_eq!(site.rows(&id, "select count(*) from parent").await, json!([[1]]));
    restore(&site, &id, &format!("?bookmark={}", answer["bookmark"].as_str().unwrap())).await;
    assert_eq!(site.rows(&id, SHOWN).await, before);
}

#[tokio::test]
async fn a_time_finds_what_was_then() {
    let site = Site::start().await;
    let too_early = now().await;
    let id = site.create("one").await;
    site.rows(&id, "create table t (x)").await;
    let mut times = Vec::new();
    for x in 0..3 {
        site.rows(&id, &format!("insert into t values ({x})")).await;
        times.push(now().await);
    }
    for (count, time) in [(2, &times[1]), (1, &times[0])] {
        restore(&site, &id, &format!("?timestamp={time}")).await;
        assert_eq!(site.rows(&id, "select count(*) from t").await, json!([[count]]));
    }
    assert_eq!(bookmark(&site, &id, "").await, bookmark(&site, &id, "").await);
    let last = bookmark(&site, &id, &format!("?timestamp={}", times[2])).await;
    assert!(last < bookmark(&site, &id, "").await);
    for query in [format!("?timestamp={too_early}"), "?bookmark=nonsense".to_owned()] {
        let path = format!("/{id}/time_travel/restore{query}");
        let (status, answer) = site.post(&path, Value::Null).await;
        assert_eq!((status.as_u16(), code(&answer)), (400, 7500), "{query}");
    }
    for query in ["", "?timestamp=yesterday", "?timestamp=2026-01-01&bookmark=x"] {
        let path = format!("/{id}/time_travel/restore{query}");
        let (status, answer) = site.post(&path, Value::Null).await;
        assert_eq!((status.as_u16(), code(&answer)), (400, 7400), "{query}");
    }
}

#[tokio::test]
async fn bookmarks_outlive_workerd_and_what_is_not_known_is_not_made_up() {
    let site = Site::start().await;
    let id = site.create("one").await;
    site.rows(&id, "create table t (x)").await;
    let kept = bookmark(&site, &id, "").await;
    site.rows(&id, "insert into t values (1)").await;
    let between = now().await;
    site.rows(&id, "insert into t values (2)").await;
    site.d1.workerd().restart().await.unwrap();
    let path = format!("/{id}/time_travel/restore?timestamp={between}");
    let (status, answer) = site.post(&path, Value::Null).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7500));
    assert!(bookmark(&site, &id, "").await > kept);
    restore(&site, &id, &format!("?bookmark={kept}")).await;
    assert_eq!(site.rows(&id, "select count(*) from t").await, json!([[0]]));
    site.d1.workerd().restart().await.unwrap();
    assert_eq!(site.rows(&id, "select count(*) from t").await, json!([[0]]));
}

/// What objects of workerd tell each other is 32 MiB at most, and a value in SQLite 2 MB.
#[tokio::test]
async fn a_large_database_travels_too() {
    let site = Site::start().await;
    let id = site.create("one").await;
    site.rows(&id, "create table t (a text, b default '😀 ů')").await;
    let fill = "with recursive c(n) as (select 1 union all select n + 1 from c where n < 20) \
                insert into t (a) select hex(randomblob(500000)) from c";
    site.rows(&id, fill).await;
    let sum = "select count(*), sum(length(a)), max(a) = min(a), min(b) from t";
    let before = site.rows(&id, sum).await;
    let kept = bookmark(&site, &id, "").await;
    site.rows(&id, "delete from t").await;
    restore(&site, &id, &format!("?bookmark={kept}")).await;
    assert_eq!(site.rows(&id, sum).await, before);
    assert_eq!(before, json!([[20, 20_000_000, 0, "😀 ů"]]));
    let started = export(&site, &id, json!({"output_format": "polling"})).await;
    let poll = json!({"output_format": "polling", "current_bookmark": started["at_bookmark"]});
    assert_eq!(export(&site, &id, poll).await["status"], "complete");
}

async fn export(site: &Site, id: &str, body: Value) -> Value {
    let (status, answer) = site.post(&format!("/{id}/export"), body).await;
    assert_eq!((status.as_u16(), &answer["success"]), (200, &json!(true)), "{answer}");
    answer["result"].clone()
}

#[tokio::test]
async fn an_export_is_asked_for_until_it_is_complete() {
    let site = Site::of(D1::builder().job_polls(2).start().await.unwrap());
    let id = site.create("one").await;
    site.rows(&id, "create table t (a integer primary key, b text)").await;
    site.rows(&id, "insert into t values (1, 'it''s'), (9007199254740993, null)").await;
    let started = export(&site, &id, json!({"output_format": "polling"})).await;
    assert_eq!((&started["success"], &started["status"]), (&json!(true), &Value::Null));
    let (status, answer) = site.raw(&id, json!({"sql": "select 1"})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7500));
    let message = "Currently processing a long-running export.";
    assert_eq!(answer["errors"][0]["message"], message);
    let poll = json!({"output_format": "polling", "current_bookmark": started["at_bookmark"]});
    assert_eq!(export(&site, &id, poll.clone()).await["status"], Value::Null);
    let complete = export(&site, &id, poll).await;
    assert_eq!(complete["status"], "complete");
    let url = complete["result"]["signed_url"].as_str().unwrap();
    assert!(!url.contains("/client/v4") && url.contains("/r2/"));
    let with_token = site.client.get(url).bearer_auth(site.d1.api_token()).send().await.unwrap();
    assert_eq!(with_token.status(), 403, "the token is not for the bucket");
    let unsigned = url.split_once('?').unwrap().0;
    assert_eq!(site.client.get(unsigned).send().await.unwrap().status(), 403);
    let text = site.client.get(url).send().await.unwrap().text().await.unwrap();
    let expected = "PRAGMA defer_foreign_keys=TRUE;\n\
         CREATE TABLE t (a integer primary key, b text);\n\
         INSERT INTO \"t\" (\"a\",\"b\") VALUES(1,'it''s');\n\
         INSERT INTO \"t\" (\"a\",\"b\") VALUES(9007199254740992,NULL);\n";
    assert_eq!(text.to_lowercase(), expected.to_lowercase());
    site.rows(&id, "select 1").await;
}

#[tokio::test]
async fn an_export_that_nobody_asks_for_is_cancelled() {
    let patience = Duration::from_millis(100);
    let site = Site::of(D1::builder().job_patience(patience).start().await.unwrap());
    let id = site.create("one").await;
    let started = export(&site, &id, json!({"output_format": "polling"})).await;
    tokio::time::sleep(patience * 2).await;
    site.rows(&id, "select 1").await;
    let poll = json!({"output_format": "polling", "current_bookmark": started["at_bookmark"]});
    let answer = export(&site, &id, poll).await;
    assert_eq!((&answer["success"], &answer["status"]), (&json!(false), &json!("error")));
}

#[tokio::test]
async fn a_virtual_table_makes_an_export_fail_inside_a_success() {
    let site = Site::start().await;
    let id = site.create("one").await;
    site.rows(&id, "create virtual table words using fts5(w)").await;
    let started = export(&site, &id, json!({"output_format": "polling"})).await;
    let poll = json!({"output_format": "polling", "current_bookmark": started["at_bookmark"]});
    let answer = export(&site, &id, poll).await;
    assert_eq!(answer["status"], "error");
    assert!(answer["error"].as_str().unwrap().contains("Virtual Tables"));
    site.rows(&id, "select 1").await;
}

/// Uploads and imports a file; what the last answer says.
async fn import(site: &Site, id: &str, sql: &str, etag: &str) -> Value {
    let path = format!("/{id}/import");
    let (status, answer) = site.post(&path, json!({"action": "init", "etag": etag})).await;
    assert_eq!(status, 200, "{answer}");
    let mut state = answer["result"].clone();
    if let Some(url) = state["upload_url"].as_str() {
        let put = site.client.request(Method::PUT, url).body(sql.to_owned()).send().await.unwrap();
        assert_eq!(put.headers()["etag"], format!("\"{etag}\"").as_str());
        let filename = &state["filename"];
        let body = json!({"action": "ingest", "etag": etag, "filename": filename});
        state = site.post(&path, body).await.1["result"].clone();
    }
    let (_, busy) = site.raw(id, json!({"sql": "select 1"})).await;
    assert_eq!(busy["errors"][0]["message"], "Currently processing a long-running import.");
    let poll = json!({"action": "poll", "current_bookmark": state["at_bookmark"]});
    site.post(&path, poll).await.1["result"].clone()
}

#[tokio::test]
async fn a_file_is_imported_once_it_is_uploaded_and_all_or_nothing() {
    let site = Site::start().await;
    let [one, two] = [site.create("one").await, site.create("two").await];
    let sql =
        "create table t (x);\r\ninsert into t values (1); -- first\ninsert into t values (2);";
    let etag = "abf94440e3ff14578de71e53a156c479";
    let done = import(&site, &one, sql, etag).await;
    assert_eq!((&done["status"], &done["result"]["num_queries"]), (&json!("complete"), &json!(3)));
    let last = bookmark(&site, &one, "").await;
    assert_eq!(done["result"]["final_bookmark"], last.as_str());
    assert_eq!(site.rows(&one, "select x from t").await, json!([[1], [2]]));
    // The file is there, so nothing is uploaded; the table is there too.
    let again = import(&site, &one, sql, etag).await;
    assert_eq!((&again["status"], &again["success"]), (&json!("error"), &json!(false)));
    assert_eq!(site.rows(&one, "select count(*) from t").await, json!([[2]]));
    let broken = "create table a (x); create table a (x);";
    let failed = import(&site, &two, broken, "abc6fc51076c684cb0fabaa768865ef3").await;
    assert!(failed["error"].as_str().unwrap().contains("already exists"), "{failed}");
    assert_eq!(site.rows(&two, "select name from sqlite_master").await, json!([]));
}
