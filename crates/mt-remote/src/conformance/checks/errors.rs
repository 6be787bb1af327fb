use mt_core::{DataAdapters, DeploymentId, Error, ErrorKind, TenantId};
use sea_orm::{DbErr, SqlErr, TransactionOptions};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Fault, Outcome, ensure, ensure_eq, expect_kind, expect_sql_err},
    probe,
};

const TABLES: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, age CHECK (age > 0));
    CREATE TABLE \"odd, \"\"table\"\"\" (\"a.b\" PRIMARY KEY, \"c d\", e, UNIQUE (\"c d\", e));
    CREATE UNIQUE INDEX \"lower's\" ON users (lower(email) || age);
    CREATE TABLE logs (id INTEGER PRIMARY KEY, user INTEGER NOT NULL REFERENCES users (id));
    INSERT INTO users VALUES (1, 'a@example.com', 1);
    INSERT INTO \"odd, \"\"table\"\"\" VALUES (1, 2, 3);
    INSERT INTO logs VALUES (1, 1)";

pub(crate) async fn a_unique_violation_is_told(subject: &DriverSubject) -> Outcome {
    subject.driver().execute_unprepared(TABLES).await.doing("making tables")?;
    for (text, message) in [
        (
            "INSERT INTO users VALUES (2, 'a@example.com', 2)",
            "UNIQUE constraint failed: users.email",
        ),
        ("INSERT INTO users VALUES (1, 'b@example.com', 2)", "UNIQUE constraint failed: users.id"),
        (
            "INSERT INTO users VALUES (2, 'A@example.com', 1)",
            "UNIQUE constraint failed: index 'lower''s'",
        ),
        (
            "INSERT INTO \"odd, \"\"table\"\"\" VALUES (1, 1, 1)",
            "UNIQUE constraint failed: odd, \"table\".a.b",
        ),
        (
            "INSERT INTO \"odd, \"\"table\"\"\" VALUES (2, 2, 3)",
            "UNIQUE constraint failed: odd, \"table\".c d, odd, \"table\".e",
        ),
    ] {
        let expected = SqlErr::UniqueConstraintViolation(message.to_owned());
        every_door(subject, text, &expected).await?;
    }
    Ok(())
}

pub(crate) async fn a_foreign_key_violation_is_told(subject: &DriverSubject) -> Outcome {
    subject.driver().execute_unprepared(TABLES).await.doing("making tables")?;
    let message = "FOREIGN KEY constraint failed".to_owned();
    let expected = SqlErr::ForeignKeyConstraintViolation(message);
    for text in [
        "INSERT INTO logs VALUES (2, 9)",
        "UPDATE logs SET user = 9",
        "DELETE FROM users WHERE id = 1",
    ] {
        every_door(subject, text, &expected).await?;
    }
    Ok(())
}

/// Fails unless `text` fails as `expected`, however it is run.
async fn every_door(subject: &DriverSubject, text: &str, expected: &SqlErr) -> Outcome {
    let driver = subject.driver().as_ref();
    let statement = || probe::sql(text);
    let told = |door: &str| format!("{door} of `{text}`");
    let error = expect_sql_err(driver.execute(statement()).await, expected, &told("execute"))?;
    ensure!(matches!(error, DbErr::Exec(_)), "{} is {error:?}, no Exec", told("execute"));
    let error = expect_sql_err(driver.query(statement()).await, expected, &told("query"))?;
    ensure!(matches!(error, DbErr::Query(_)), "{} is {error:?}, no Query", told("query"));
    let script = driver.execute_unprepared(text).await;
    expect_sql_err(script, expected, &told("execute_unprepared"))?;
    let batch = driver.batch(vec![probe::sql("SELECT 1"), statement()]).await;
    expect_sql_err(batch, expected, &told("batch"))?;
    if subject.abilities().transactions {
        let transaction = driver.begin(TransactionOptions::default()).await.doing("begin")?;
        let inside = transaction.execute(statement()).await;
        expect_sql_err(inside, expected, &told("execute in a transaction"))?;
        transaction.rollback().await.doing("rollback")?;
    }
    Ok(())
}

pub(crate) async fn other_violations_are_statement_errors(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    driver.execute_unprepared(TABLES).await.doing("making tables")?;
    let trigger = "CREATE TRIGGER refuses BEFORE DELETE ON logs
        BEGIN SELECT RAISE(ABORT, 'logs are kept for a year'); END";
    driver.execute_unprepared(trigger).await.doing("making a trigger")?;
    for (text, words) in [
        ("INSERT INTO users VALUES (2, NULL, 1)", "NOT NULL constraint failed: users.email"),
        ("INSERT INTO users VALUES (2, 'c@example.com', 0)", "CHECK constraint failed"),
        ("DELETE FROM logs", "logs are kept for a year"),
    ] {
        says(driver.execute(probe::sql(text)).await, words, text)?;
    }
    Ok(())
}

pub(crate) async fn a_wrong_statement_is_a_statement_error(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    for (text, words) in [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM missing", "no such table: missing"),
        ("SELECT missing FROM (SELECT 1 AS a)", "no such column: missing"),
    ] {
        says(driver.query(probe::sql(text)).await, words, text)?;
        says(driver.execute(probe::sql(text)).await, words, text)?;
        says(driver.execute_unprepared(text).await, words, text)?;
        says(driver.batch(vec![probe::sql(text)]).await, words, text)?;
    }
    Ok(())
}

/// Fails unless `got` is an error of kind `Statement` that says `words`.
fn says<T>(got: Result<T, DbErr>, words: &str, what: &str) -> Outcome {
    let error = expect_kind(got, ErrorKind::Statement, what)?;
    let message = Error::in_db_err(&error).map(Error::to_chain).unwrap_or_default();
    ensure!(message.contains(words), "`{what}` failed with `{message}`, not with `{words}`");
    ensure_eq!(error.sql_err(), None, "what SeaORM takes the error of `{what}` for");
    Ok(())
}

pub(crate) async fn a_missing_stamp_is_told(subject: &DriverSubject) -> Outcome {
    let tenant = TenantId::new("acme").doing("a tenant id")?;
    let driver = std::sync::Arc::clone(subject.driver());
    let connection = mt_core::Connection::Driver(driver);
    match DataAdapters::open(&tenant, DeploymentId::random(), connection).await {
        Err(error) if error.kind() == ErrorKind::ForeignDatabase => Ok(()),
        other => Err(Fault::new(format!("opening a database without a stamp answered {other:?}"))),
    }
}
