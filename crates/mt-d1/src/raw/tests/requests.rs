//! How many requests each kind of call takes, and what is sent.

use mt_core::ErrorKind;
use mt_remote::{Fault, Protocol as _, Value};

use super::{command, names, protocol, refused, run};
use crate::raw::Effect;

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)";

#[tokio::test]
async fn most_calls_take_one_request() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch(TABLE).unwrap();
    for (sql, first, later) in [
        ("SELECT 1", 1, 1),
        (r#"SELECT "t"."id", "t"."a" FROM "t" WHERE "t"."id" = 1"#, 1, 1),
        ("SELECT COUNT(*) AS num_items FROM t", 1, 1),
        ("SELECT count(*) FROM t", 1, 1),
        ("INSERT INTO t (a) VALUES (hex(randomblob(8)))", 1, 1),
        ("INSERT INTO t (a) VALUES (hex(randomblob(8))) RETURNING id, a", 1, 1),
        ("UPDATE t SET a = a || '!'", 1, 1),
        ("CREATE TABLE IF NOT EXISTS u (a)", 1, 1),
        ("PRAGMA table_info(t)", 1, 1),
        // Text alone is never mistaken, so the plain answer does.
        ("SELECT a FROM t", 1, 1),
        // Numbers are: its columns are learnt first.
        ("SELECT id FROM t", 2, 1),
        ("SELECT * FROM t", 2, 1),
    ] {
        for expected in [first, later, later] {
            fake.requests();
            run(&protocol, sql, vec![]).await;
            assert_eq!(fake.requests(), expected, "{sql}");
        }
    }
    let batch = vec![
        command("DELETE FROM t", vec![]),
        command("INSERT INTO t VALUES (7, 'a') RETURNING id", vec![]),
        command("SELECT id AS i FROM t", vec![]),
        command("CREATE INDEX i ON t (a)", vec![]),
        command("UPDATE t SET a = 'b'", vec![]),
    ];
    fake.requests();
    let answers = protocol.batch(batch).await.unwrap();
    assert_eq!(fake.requests(), 1);
    assert_eq!(answers[1].rows, [[Value::Integer(7)]]);
    assert_eq!(answers[1].last_insert_rowid, Some(7));
    assert_eq!(answers[2].rows, [[Value::Integer(7)]]);
    assert_eq!(answers[4].rows_affected, 1);
}

#[tokio::test]
async fn all_clones_share_what_was_learnt() {
    let shapes = crate::raw::Shapes::new();
    for expected in [2, 1] {
        let fake = std::sync::Arc::new(super::Fake::new());
        fake.connection().execute_batch(TABLE).unwrap();
        fake.connection().execute_batch("INSERT INTO t VALUES (1, 'a')").unwrap();
        let protocol = super::D1Protocol::new(std::sync::Arc::clone(&fake) as _, shapes.clone());
        run(&protocol, "SELECT id FROM t", vec![]).await;
        assert_eq!(fake.requests(), expected);
    }
}

#[tokio::test]
async fn columns_that_changed_are_learnt_again() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch(TABLE).unwrap();
    let insert = "INSERT INTO t (id, a) VALUES (1, 'a')";
    fake.connection().execute_batch(insert).unwrap();
    let all = "SELECT * FROM t";
    assert_eq!(names(&run(&protocol, all, vec![]).await), ["id", "a"]);
    // As many, with another name; and then one more, which the exact form does not fit.
    for (change, expected) in [
        ("ALTER TABLE t RENAME COLUMN a TO b", vec!["id", "b"]),
        ("ALTER TABLE t ADD COLUMN c REAL DEFAULT 1.0", vec!["id", "b", "c"]),
        ("ALTER TABLE t DROP COLUMN c", vec!["id", "b"]),
    ] {
        fake.connection().execute_batch(change).unwrap();
        fake.requests();
        let answer = run(&protocol, all, vec![]).await;
        assert_eq!(names(&answer), expected);
        assert_eq!(answer.rows[0].len(), expected.len());
        assert_eq!(fake.requests(), 3);
        run(&protocol, all, vec![]).await;
        assert_eq!(fake.requests(), 1);
    }
    // Among writes, too, and they happen once.
    for change in ["ALTER TABLE t RENAME COLUMN b TO d", "ALTER TABLE t ADD COLUMN e DEFAULT 2.0"] {
        fake.connection().execute_batch(change).unwrap();
        let insert = "INSERT INTO t (d) VALUES (hex(randomblob(8)))";
        let before = run(&protocol, "SELECT count(*) FROM t", vec![]).await.rows;
        let batch = vec![command(insert, vec![]), command(all, vec![])];
        let answers = protocol.batch(batch).await.unwrap();
        assert_eq!(names(&answers[1])[1], "d");
        assert_eq!(Value::Integer(answers[1].rows.len().cast_signed() as i64 - 1), before[0][0]);
    }
}

#[tokio::test]
async fn what_reads_among_writes_is_learnt_before() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch(TABLE).unwrap();
    let batch = |sql| vec![command("INSERT INTO t VALUES (1, 'a')", vec![]), command(sql, vec![])];
    let answers = protocol.batch(batch("SELECT * FROM t")).await.unwrap();
    assert_eq!(answers[1].rows, [[Value::Integer(1), Value::Text("a".to_owned())]]);
    let sent = fake.take();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].1, sent[1].1), (Effect::Reads, Effect::Writes));
    // It may be there only when they have run; nothing is sent that cannot be read.
    let batch = vec![command("CREATE TABLE u (a)", vec![]), command("SELECT * FROM u", vec![])];
    let fault = protocol.batch(batch).await.unwrap_err();
    assert_eq!(mt_core::Error::from(fault).kind(), ErrorKind::Statement);
    let missing = refused(&protocol, "SELECT 1 AS a FROM u", vec![]).await;
    assert!(missing.to_chain().contains("no such table: u"));
}

#[tokio::test]
async fn errors_are_of_what_was_written() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch(TABLE).unwrap();
    run(&protocol, "INSERT INTO t VALUES (1, 'a')", vec![]).await;
    for (sql, expected) in [
        ("SELECT absent FROM t WHERE id = ?", "no such column: absent: SQLITE_ERROR"),
        (r#"SELECT "t"."absent" FROM t"#, "no such column: t.absent: SQLITE_ERROR"),
        ("SELECT 1 AS a FROM", "incomplete input: SQLITE_ERROR"),
        ("SELECT 1 AS a FROM missing", "no such table: missing: SQLITE_ERROR"),
        ("SELEC 1", "near \"SELEC\": syntax error: SQLITE_ERROR"),
        (
            "INSERT INTO t VALUES (?, 'b')",
            "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)",
        ),
        (
            "INSERT INTO t (a) VALUES ('a') RETURNING id",
            "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)",
        ),
    ] {
        match protocol.execute(command(sql, vec![Value::Integer(1)])).await {
            Err(Fault::Statement(error)) => assert_eq!(error.message, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn random_values_are_made_once() {
    let (_, protocol) = protocol();
    // If it were made for its type and for its value, one would not fit the other.
    let sql = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
        SELECT CASE abs(random() % 2) WHEN 0 THEN 'text' ELSE 7 END AS a FROM n";
    let answer = run(&protocol, sql, vec![]).await;
    assert_eq!(answer.rows.len(), 50);
    let (seven, text) = (Value::Integer(7), Value::Text("text".to_owned()));
    assert!(answer.rows.iter().all(|row| row[0] == seven || row[0] == text));
    let answer = run(&protocol, "SELECT random() AS a", vec![]).await;
    assert!(matches!(answer.rows[0][0], Value::Integer(_)));
}
