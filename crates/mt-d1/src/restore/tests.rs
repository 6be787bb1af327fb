//! The statements that fill a database, on SQLite itself with the service's limits.

use rusqlite::{Connection, limits::Limit};
use tokio::sync::mpsc;

use super::{
    plan::Plan,
    steps::{Step, read},
};
use crate::{
    backup::tests::{EVERYTHING, Local, inside},
    raw::{Effect, Wire as _},
};

const STAMP: &str = "CREATE TABLE _mt_tenant (one INTEGER PRIMARY KEY, tenant TEXT);
    INSERT INTO _mt_tenant VALUES (1, 'acme');";

fn copy(sql: &str) -> Connection {
    let copy = Connection::open_in_memory().unwrap();
    copy.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    copy.execute_batch(&format!("{STAMP} {sql}")).unwrap();
    copy
}

/// A copy and all its steps.
fn steps(copy: Connection) -> (Connection, Vec<Step>) {
    let (sender, mut steps) = mpsc::channel(1_000);
    let reading = std::thread::spawn(move || {
        let plan = Plan::new(&copy).unwrap();
        read(&copy, plan, &sender).unwrap();
        copy
    });
    (reading.join().unwrap(), std::iter::from_fn(|| steps.try_recv().ok()).collect())
}

/// Every row, without what virtual tables keep for themselves.
fn rows(connection: &Connection) -> Vec<String> {
    let is_own = |row: &String| !row.starts_with("words_") && !row.starts_with("boxes_");
    inside(connection).into_iter().filter(is_own).collect()
}

/// What comes of them, each check included.
async fn filled(steps: Vec<Step>) -> Local {
    let local = Local::new("PRAGMA foreign_keys = ON");
    for step in steps {
        let begin = super::reading("PRAGMA defer_foreign_keys = ON");
        local.send(vec![super::reading("BEGIN"), begin], Effect::Writes).await.unwrap();
        local.send(step.statements, Effect::Writes).await.unwrap();
        for check in step.checks {
            let question = vec![super::reading(check.sql)];
            let answer = local.send(question, Effect::Reads).await.unwrap().remove(0);
            let (rows, values) = check.expected;
            assert_eq!(answer.rows, [[rows, values]], "{}", check.table);
        }
        local.send(vec![super::reading("COMMIT")], Effect::Writes).await.unwrap();
    }
    local.connection.lock().unwrap().set_limit(Limit::SQLITE_LIMIT_COLUMN, 2_000).unwrap();
    local
}

#[tokio::test]
async fn every_value_arrives_exactly() {
    let copy = copy(EVERYTHING);
    let (copy, steps) = steps(copy);
    assert_eq!(steps.len(), 1);
    let local = filled(steps).await;
    let filled = local.connection.lock().unwrap();
    assert_eq!(rows(&filled), rows(&copy));
    for query in
        ["SELECT group_concat(rowid || title || body) FROM words", "SELECT sum(x1 - x0) FROM boxes"]
    {
        let value = |connection: &Connection| {
            connection.query_row(query, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        assert_eq!(value(&filled), value(&copy));
    }
}

#[tokio::test]
async fn rows_as_long_as_they_can_be_arrive() {
    let columns = |n: usize| (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(",");
    let values = |n: usize, of: &str| vec![of; n].join(",");
    let copy = copy(&format!(
        "CREATE TABLE long (a, b); CREATE TABLE wide ({}); CREATE TABLE names ({});
         INSERT INTO long VALUES (1, randomblob(1999000)), (2, replace(hex(zeroblob(990000)), '0', 'x')),
             (3, replace(hex(zeroblob(400000)), '0', char(233))), (4, hex(zeroblob(300000)) || char(0)),
             (5, randomblob(450000)), (6, replace(hex(zeroblob(450000)), '0', '\"'));
         INSERT INTO wide (rowid, {}) VALUES (7, {}), (9, {});
         INSERT INTO names VALUES ({});",
        columns(100),
        (0..100).map(|i| format!("\"{}{i}\"", "n".repeat(300))).collect::<Vec<_>>().join(","),
        columns(100),
        values(100, "randomblob(19000)"),
        values(100, "0.1"),
        values(100, "x'00'"),
    ));
    let (copy, steps) = steps(copy);
    assert!(steps.len() > 1);
    assert!(
        steps
            .iter()
            .all(|step| step.is_last == (step.checks.iter().any(|c| c.table == "_mt_tenant")))
    );
    let local = filled(steps).await;
    // Too long to be shown.
    assert!(rows(&local.connection.lock().unwrap()) == rows(&copy));
}

#[tokio::test]
async fn many_rows_come_in_several_steps_in_the_order_of_their_references() {
    let copy = copy(
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent TEXT REFERENCES zz_parent (name), up INT REFERENCES child);
         CREATE TABLE zz_parent (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
         CREATE UNIQUE INDEX by_name ON zz_parent (name);
         CREATE TABLE x (id INTEGER PRIMARY KEY, y INT NOT NULL REFERENCES y);
         CREATE TABLE y (id INTEGER PRIMARY KEY, x INT NOT NULL REFERENCES x);
         CREATE TRIGGER grown AFTER INSERT ON child BEGIN DELETE FROM zz_parent; END;
         INSERT INTO x VALUES (1, 1), (2, 1); INSERT INTO y VALUES (1, 2);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO zz_parent SELECT 2 * i, 'name ' || i FROM n;
         DROP TRIGGER grown;
         INSERT INTO child SELECT id, name, nullif(id / 2, 0) - (id / 2) % 2 FROM zz_parent WHERE id % 4 = 0;
         UPDATE child SET up = NULL WHERE up NOT IN (SELECT id FROM child);
         CREATE TRIGGER grown AFTER INSERT ON child BEGIN DELETE FROM zz_parent; END;
         DELETE FROM zz_parent WHERE id = 120000 AND 0;",
    );
    require_filled(copy, 2).await;
}

/// It comes in `least` steps or more, and all of it.
async fn require_filled(copy: Connection, least: usize) {
    let (copy, steps) = steps(copy);
    assert!(steps.len() >= least, "{}", steps.len());
    let local = filled(steps).await;
    let connection = local.connection.lock().unwrap();
    assert!(rows(&connection) == rows(&copy));
    let broken =
        connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0));
    assert_eq!(broken, Ok(0_i64));
}

#[tokio::test]
async fn rows_that_refer_ahead_may_be_more_than_one_step_takes() {
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)";
    // Every row refers to the next one; and rows of two tables to each other, and to the next ones.
    let copy = copy(&format!(
        "CREATE TABLE chain (id INTEGER PRIMARY KEY, next TEXT REFERENCES chain (name), name TEXT UNIQUE, value BLOB);
         CREATE TABLE team (owner INT NOT NULL REFERENCES person, name TEXT PRIMARY KEY, value BLOB);
         CREATE TABLE person (id INTEGER PRIMARY KEY, team TEXT NOT NULL REFERENCES team, next INT REFERENCES Person);
         INSERT INTO chain {numbers} SELECT i, CASE WHEN i < 3000 THEN 'name ' || (i + 1) END, 'name ' || i, zeroblob(1000) FROM n;
         INSERT INTO team (rowid, owner, name, value) {numbers} SELECT 7000 - i, i, 'team ' || i, zeroblob(1200) FROM n;
         INSERT INTO person {numbers} SELECT i, 'team ' || i, nullif(i + 1, 3001) FROM n;"
    ));
    require_filled(copy, 4).await;
}
