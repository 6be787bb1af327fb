//! What writes takes effect once, whatever becomes of the columns that are read beside it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mt_core::ErrorKind;
use mt_remote::{Answer, Command, Fault, Protocol as _, Value};

use super::{Fake, command, names};
use crate::raw::{D1Protocol, Effect, RawAnswer, RawStatement, Shapes, Wire};

const COUNT: &str = "UPDATE c SET n = n + 1";

/// What is read beside a write: stars, and names that only the schema tells.
const READS: [&str; 6] = [
    "SELECT * FROM c",
    "SELECT c.*, 1 AS one FROM c",
    "SELECT * FROM c UNION ALL SELECT * FROM c",
    "SELECT * FROM c AS a UNION ALL SELECT * FROM c UNION ALL SELECT * FROM c UNION ALL SELECT * \
     FROM c UNION ALL SELECT * FROM c",
    "WITH a AS (SELECT * FROM c) SELECT * FROM a",
    "SELECT n FROM c",
];

fn tenant(shapes: &Shapes, schema: &str) -> (Arc<Fake>, D1Protocol) {
    let fake = Arc::new(Fake::new());
    fake.connection().execute_batch(schema).unwrap();
    let protocol = D1Protocol::new(Arc::clone(&fake) as _, shapes.clone());
    (fake, protocol)
}

fn count(fake: &Fake) -> i64 {
    fake.connection().query_row("SELECT n FROM c", [], |row| row.get(0)).unwrap()
}

fn batch(read: &str) -> Vec<Command> {
    vec![command(COUNT, vec![]), command(read, vec![])]
}

/// Whether `answer` is the one row that `of` has, as often as it is read.
fn is_of(answer: &Answer, width: usize, n: i64) -> bool {
    let at = answer.columns.iter().position(|column| column.name == "n").unwrap();
    answer.columns.len() == width
        && !answer.rows.is_empty()
        && answer.rows.iter().all(|row| row.len() == width && row[at] == Value::Integer(n))
}

#[tokio::test]
async fn tenants_with_different_columns_take_turns() {
    for read in READS {
        let shapes = Shapes::new();
        let tenants = [
            (tenant(&shapes, "CREATE TABLE c (n INTEGER); INSERT INTO c VALUES (0)"), 1_usize),
            (tenant(&shapes, "CREATE TABLE c (a, n INTEGER); INSERT INTO c VALUES (2.0, 0)"), 2),
            (
                tenant(
                    &shapes,
                    "CREATE TABLE c (n INTEGER, b, d); INSERT INTO c VALUES (0, 1, 1.0)",
                ),
                3,
            ),
        ];
        for round in 1..=20 {
            for ((fake, protocol), columns) in &tenants {
                let width = match read {
                    "SELECT n FROM c" => 1,
                    _ if read.contains("one") => columns + 1,
                    _ => *columns,
                };
                // What several statements in a text become is the same call.
                let answers = if round % 2 == 0 {
                    protocol.batch(batch(read)).await
                } else {
                    protocol.script(batch(read)).await
                };
                let answers = answers.unwrap_or_else(|fault| panic!("{read}: {fault}"));
                assert_eq!(answers[0].rows_affected, 1, "{read}");
                assert!(is_of(&answers[1], width, round), "{read}: {:?}", answers[1]);
                assert_eq!(count(fake), round, "{read}");
            }
        }
    }
}

#[tokio::test]
async fn others_change_the_columns_in_between() {
    for read in READS {
        let shapes = Shapes::new();
        let schema = "CREATE TABLE c (n INTEGER); INSERT INTO c VALUES (0)";
        let (fake, protocol) = tenant(&shapes, schema);
        let mut width = 1;
        for round in 1..=20_i64 {
            let answers = protocol.batch(batch(read)).await.unwrap();
            let expected = match read {
                "SELECT n FROM c" => 1,
                _ if read.contains("one") => width + 1,
                _ => width,
            };
            assert!(is_of(&answers[1], expected, round), "{read}: {:?}", answers[1]);
            assert_eq!(count(&fake), round, "{read}");
            let change = match round % 3 {
                0 => "ALTER TABLE c DROP COLUMN x",
                1 => "ALTER TABLE c ADD COLUMN x DEFAULT 1.0",
                _ => "ALTER TABLE c RENAME COLUMN x TO y; ALTER TABLE c RENAME COLUMN y TO x",
            };
            fake.connection().execute_batch(change).unwrap();
            width = if round % 3 == 0 { 1 } else { 2 };
        }
    }
}

/// Does something to the database before each request that writes, or to its answers.
struct Between<F> {
    inner: Arc<Fake>,
    change: Mutex<F>,
    spoil: bool,
}

impl<F> std::fmt::Debug for Between<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

#[async_trait]
impl<F: FnMut(&Fake) + Send + 'static> Wire for Between<F> {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        if effect == Effect::Writes {
            let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            change(&self.inner);
        }
        let mut answers = self.inner.send(statements, effect).await?;
        if self.spoil && effect == Effect::Writes {
            for answer in &mut answers {
                answer.rows = vec![vec![serde_json::Value::Bool(true)]];
            }
        }
        Ok(answers)
    }
}

fn between(change: impl FnMut(&Fake) + Send + 'static, spoil: bool) -> (Arc<Fake>, D1Protocol) {
    let (inner, _) = tenant(&Shapes::new(), "CREATE TABLE c (n INTEGER); INSERT INTO c VALUES (0)");
    let wire = Between { inner: Arc::clone(&inner), change: Mutex::new(change), spoil };
    (inner, D1Protocol::new(Arc::new(wire), Shapes::new()))
}

#[tokio::test]
async fn columns_that_never_rest_are_an_error_that_did_nothing() {
    let mut added = 0;
    let add = move |fake: &Fake| {
        added += 1;
        let add = format!("ALTER TABLE c ADD COLUMN x{added}");
        fake.connection().execute_batch(&add).unwrap();
    };
    let (fake, protocol) = between(add, false);
    let error: mt_core::Error = protocol.batch(batch(READS[0])).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(count(&fake), 0);
    // Three times to write, and a look before each.
    assert_eq!(fake.requests(), 6);
}

#[tokio::test]
async fn columns_that_the_batch_itself_changes_are_an_error_that_did_nothing() {
    for change in ["ALTER TABLE c ADD COLUMN x", "CREATE VIEW v AS SELECT * FROM c"] {
        let (fake, protocol) = between(|_| {}, false);
        let read = if change.contains("VIEW") { "SELECT * FROM v" } else { "SELECT * FROM c" };
        let mut commands = batch(read);
        commands.insert(1, command(change, vec![]));
        let error: mt_core::Error = protocol.batch(commands).await.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::Statement, "{error:?}");
        assert!(error.to_string().contains("`AS`"), "{error:?}");
        assert_eq!(count(&fake), 0);
    }
}

#[tokio::test]
async fn what_is_refused_for_another_reason_is_told_as_it_is() {
    let (fake, protocol) = between(|_| {}, false);
    for read in ["SELECT * FROM c", "SELECT count(*) AS n FROM c"] {
        let mut commands = batch(read);
        commands.push(command("UPDATE c SET", vec![]));
        match protocol.batch(commands).await {
            Err(Fault::Statement(error)) => {
                assert_eq!(error.message, "incomplete input: SQLITE_ERROR", "{read}");
            }
            other => panic!("{read}: {other:?}"),
        }
        assert_eq!(count(&fake), 0);
    }
}

/// The exact form of what is read has to fit, because the plain one might not be readable.
#[tokio::test]
async fn what_is_too_long_to_be_read_exactly_is_not_written_for() {
    let (fake, protocol) = between(|_| {}, false);
    let long = format!("SELECT * FROM c WHERE '{}' > ''", "-".repeat(99_900));
    let error: mt_core::Error = protocol.batch(batch(&long)).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Statement, "{error:?}");
    assert_eq!(count(&fake), 0);
    assert!(fake.take().iter().all(|(_, effect)| *effect == Effect::Reads));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_of_something_that_was_done() {
    for calls in [
        batch("SELECT * FROM c"),
        batch("SELECT n FROM c"),
        batch("PRAGMA table_info(c)"),
        vec![command(COUNT, vec![])],
        vec![command("UPDATE c SET n = n + 1 RETURNING n", vec![])],
    ] {
        let (fake, protocol) = between(|_| {}, true);
        let error: mt_core::Error = protocol.batch(calls.clone()).await.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{calls:?}: {error:?}");
        assert_eq!(count(&fake), 1, "{calls:?}");
    }
}

#[tokio::test]
async fn a_returning_list_follows_the_schema() {
    let shapes = Shapes::new();
    let one = tenant(&shapes, "CREATE TABLE c (n INTEGER, b REAL); INSERT INTO c VALUES (0, 1.0)");
    let other =
        tenant(&shapes, "CREATE TABLE c (b TEXT, n INTEGER); INSERT INTO c VALUES ('t', 0)");
    let sql = r#"UPDATE c SET n = n + 1 RETURNING "n", b"#;
    for round in 1..=20 {
        for ((fake, protocol), b) in
            [(&one, Value::Real(1.0)), (&other, Value::Text("t".to_owned()))]
        {
            let answer = protocol.execute(command(sql, vec![])).await.unwrap();
            assert_eq!(names(&answer), ["n", "b"]);
            assert_eq!(answer.rows, [[Value::Integer(round), b]]);
            assert_eq!(count(fake), round);
        }
    }
    // A column that is gone is the engine's to refuse, and nothing was done.
    let (fake, protocol) = one;
    fake.connection().execute_batch("ALTER TABLE c DROP COLUMN b").unwrap();
    let fault = protocol.execute(command(sql, vec![])).await.unwrap_err();
    assert!(matches!(fault, Fault::Statement(_)), "{fault}");
    let reads = vec![command(COUNT, vec![]), command("SELECT b FROM c", vec![])];
    let error: mt_core::Error = protocol.batch(reads).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Statement, "{error:?}");
    assert_eq!(count(&fake), 20);
}
