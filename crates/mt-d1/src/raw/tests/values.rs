//! Long lists, large values, and what is refused.

use std::time::Instant;

use mt_core::ErrorKind;
use mt_remote::{Protocol as _, Value};

use super::{command, names, protocol, refused, run};

fn integers(count: i64) -> Vec<Value> {
    (0..count).map(|n| Value::Integer(i64::MAX - n)).collect()
}

#[tokio::test]
async fn five_thousand_ids_pass_in_one_statement() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
    let places = vec!["?"; 5_000].join(", ");
    let insert = format!("INSERT INTO t (id) VALUES {}", vec!["(?)"; 5_000].join(", "));
    let begin = Instant::now();
    let answer = run(&protocol, &insert, integers(5_000)).await;
    println!("an insertion of 5,000 rows took {:?}", begin.elapsed());
    assert_eq!(answer.rows_affected, 5_000);
    let sql = format!("SELECT COUNT(*) AS \"n\" FROM \"t\" WHERE \"t\".\"id\" IN ({places})");
    let begin = Instant::now();
    let answer = run(&protocol, &sql, integers(5_000)).await;
    println!("5,000 ids took {:?}", begin.elapsed());
    assert_eq!(answer.rows, [[Value::Integer(5_000)]]);
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn a_thousand_rows_pass_in_one_statement() {
    let (fake, protocol) = protocol();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL, c BLOB, d)";
    fake.connection().execute_batch(table).unwrap();
    let mut values = Vec::new();
    for n in 0..1_000_i32 {
        values.extend([
            Value::Integer(n.into()),
            Value::Text(format!("note {n} \u{1f980}")),
            Value::Real(f64::from(n) / 7.0),
            Value::Blob(n.to_be_bytes().to_vec()),
            if n % 2 == 0 { Value::Null } else { Value::Text(format!("a\0{n}")) },
        ]);
    }
    let rows = vec!["(?, ?, ?, ?, ?)"; 1_000].join(", ");
    let begin = Instant::now();
    let sql = format!("INSERT INTO t (id, a, b, c, d) VALUES {rows}");
    assert_eq!(run(&protocol, &sql, values.clone()).await.rows_affected, 1_000);
    println!("1,000 rows of 5 columns took {:?}", begin.elapsed());
    let sql = "SELECT id AS a, a AS b, b AS c, c AS d, d AS e FROM t ORDER BY id";
    let answer = run(&protocol, sql, vec![]).await;
    let expected: Vec<_> = values.chunks(5).map(<[Value]>::to_vec).collect();
    assert_eq!(answer.rows, expected);
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn large_values_pass_up_to_the_limit() {
    let (_, protocol) = protocol();
    for value in [Value::Text("x".repeat(1_999_998)), Value::Blob(vec![7; 1_999_999])] {
        let answer = run(&protocol, "SELECT ? AS a", vec![value.clone()]).await;
        assert!(answer.rows == [[value]]);
    }
    for value in [Value::Text("x".repeat(2_000_001)), Value::Blob(vec![7; 2_000_001])] {
        let error = refused(&protocol, "SELECT ? AS a", vec![value]).await;
        assert_eq!(error.kind(), ErrorKind::Statement);
    }
}

#[tokio::test]
async fn what_is_refused_is_not_sent() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch("CREATE TABLE t (a)").unwrap();
    for (sql, kind) in [
        ("BEGIN", ErrorKind::Unsupported),
        ("PRAGMA foreign_keys = OFF", ErrorKind::Unsupported),
        ("INSERT INTO t VALUES (1) RETURNING *", ErrorKind::Unsupported),
        ("INSERT INTO t VALUES (1) RETURNING t.*", ErrorKind::Unsupported),
        ("INSERT INTO t VALUES (1) RETURNING random() AS r", ErrorKind::Unsupported),
        ("INSERT INTO t VALUES (1) RETURNING rowid", ErrorKind::Unsupported),
        ("INSERT INTO t VALUES (1) RETURNING a b", ErrorKind::Unsupported),
        ("SELECT :a", ErrorKind::Statement),
        ("SELECT ?", ErrorKind::Statement),
        ("SELECT 1; SELECT 2", ErrorKind::Statement),
        ("", ErrorKind::Statement),
        (&format!("SELECT '{}'", "x".repeat(100_000)), ErrorKind::Statement),
    ] {
        assert_eq!(refused(&protocol, sql, vec![]).await.kind(), kind, "{sql:.60}");
        let batch = vec![command("INSERT INTO t VALUES (1)", vec![]), command(sql, vec![])];
        assert!(protocol.batch(batch).await.is_err(), "{sql:.60}");
    }
    let begin = protocol.begin(mt_remote::TransactionMode::Immediate).await.unwrap_err();
    assert_eq!(mt_core::Error::from(begin).kind(), ErrorKind::Unsupported);
    assert_eq!(fake.requests(), 0);
}

#[tokio::test]
async fn a_result_may_have_a_hundred_columns() {
    let (_, protocol) = protocol();
    let columns: Vec<_> = (0..100).map(|n| format!("{n}.0")).collect();
    let sql = format!("SELECT {}", columns.join(", "));
    let answer = run(&protocol, &sql, vec![]).await;
    assert_eq!(names(&answer), columns);
    let expected: Vec<_> = (0..100).map(|n| Value::Real(n.into())).collect();
    assert_eq!(answer.rows, [expected]);
}

/// SQLite's own doing, as soon as such a statement stands in another; D1 would not tell otherwise.
#[tokio::test]
async fn a_real_column_makes_integers_of_a_union_real() {
    let (fake, protocol) = protocol();
    fake.connection().execute_batch("CREATE TABLE t (r REAL)").unwrap();
    let answer = run(&protocol, "SELECT r AS a FROM t UNION SELECT 3", vec![]).await;
    assert_eq!(answer.rows, [[Value::Real(3.0)]]);
    let answer = run(&protocol, "SELECT r AS a FROM t UNION ALL SELECT 3", vec![]).await;
    assert_eq!(answer.rows, [[Value::Integer(3)]]);
}
