//! Errors as SeaORM and callers of ours are told them.

use futures_util::StreamExt as _;
use mt_core::{Driver as _, Error, ErrorKind};
use mt_remote::{Column, Decoder, Fault, Part, RemoteDriver, StatementError, Value};
use sea_orm::{DbBackend, DbErr, RuntimeErr, SqlErr, Statement, sqlx};

use crate::scripted::{Scripted, refusal};

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, text)
}

/// What `execute` answers where the protocol answers `fault`.
async fn told(driver: &RemoteDriver<Scripted>, fault: Fault) -> DbErr {
    driver.protocol().fail("x", fault);
    driver.execute(sql("x")).await.unwrap_err()
}

fn code(error: &DbErr) -> Option<String> {
    let DbErr::Exec(RuntimeErr::SqlxError(error)) = error else { return None };
    let sqlx::Error::Database(error) = error.as_ref() else { return None };
    error.code().map(|code| code.into_owned())
}

#[tokio::test]
async fn servers_words_are_taken_apart() {
    let driver = RemoteDriver::new(Scripted::default(), Decoder::new(1));
    let unique = "UNIQUE constraint failed: t.a";
    let key = "FOREIGN KEY constraint failed";
    let d1 = |words: &str, code: &str| {
        format!("D1_ERROR: {words}: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_{code})")
    };
    for (message, told_code, words, expected) in [
        (unique.to_owned(), None, unique, "2067"),
        (unique.to_owned(), Some("SQLITE_CONSTRAINT"), unique, "2067"),
        (unique.to_owned(), Some("SQLITE_CONSTRAINT_UNIQUE"), unique, "2067"),
        (unique.to_owned(), Some("SQLITE_CONSTRAINT_PRIMARYKEY"), unique, "1555"),
        (format!("SQLite error: {unique}"), Some("SQLITE_CONSTRAINT"), unique, "2067"),
        (format!("D1_ERROR: {unique}: SQLITE_CONSTRAINT"), None, unique, "2067"),
        (d1(unique, "UNIQUE"), None, unique, "2067"),
        (d1(unique, "PRIMARYKEY"), None, unique, "1555"),
        (key.to_owned(), Some("SQLITE_CONSTRAINT"), key, "787"),
        (d1(key, "FOREIGNKEY"), None, key, "787"),
    ] {
        let error = told(&driver, refusal(&message, told_code)).await;
        assert_eq!(code(&error).as_deref(), Some(expected), "{message}");
        let seen = match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(seen)) => seen,
            Some(SqlErr::ForeignKeyConstraintViolation(seen)) => seen,
            other => panic!("{message} is {other:?}"),
        };
        assert_eq!(seen, words, "{message}");
    }
}

#[tokio::test]
async fn names_of_all_kinds_come_through() {
    let driver = RemoteDriver::new(Scripted::default(), Decoder::new(1));
    for names in [
        "users.email",
        "a.b, a.c, a.d",
        "t.c",
        "sqlite.x",
        "we\"ird.na\"\"me",
        "it's.a'b",
        "a.b.c, a.b.d",
        "BEGIN; DROP TABLE t.x); --",
        ".",
        "select.from",
        "é🦀.é",
        "index 'x'",
        "index 'it''s'",
        "index 'a.b'",
    ] {
        let words = format!("UNIQUE constraint failed: {names}");
        // More than once each: nothing is left of the one before.
        for _ in 0..2 {
            let error = told(&driver, refusal(&words, Some("SQLITE_CONSTRAINT"))).await;
            assert_eq!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(words.clone())));
        }
    }
}

#[tokio::test]
async fn what_is_no_such_violation_is_an_error_of_ours() {
    let driver = RemoteDriver::new(Scripted::default(), Decoder::new(1));
    for (message, code) in [
        ("NOT NULL constraint failed: t.a", Some("SQLITE_CONSTRAINT")),
        // SQLite keeps such names to itself, so it cannot be brought to say them.
        ("UNIQUE constraint failed: sqlite_sequence.name", Some("SQLITE_CONSTRAINT")),
        // A trigger of the application's.
        ("UNIQUE constraint failed: t.a", Some("SQLITE_CONSTRAINT_TRIGGER")),
        ("UNIQUE constraint failed: t.a", Some("SQLITE_ERROR")),
        ("near \"UNIQUE constraint failed: t.a\": syntax error", None),
        ("UNIQUE constraint failed: nothing", None),
        ("no such table: users", Some("SQLITE_UNKNOWN")),
        ("", None),
    ] {
        let error = told(&driver, refusal(message, code)).await;
        assert_eq!(error.sql_err(), None, "{message}");
        let ours = Error::in_db_err(&error).unwrap();
        assert_eq!(ours.kind(), ErrorKind::Statement);
        assert!(error.to_string().contains(message), "{error}");
        let source = std::error::Error::source(ours).unwrap().downcast_ref::<StatementError>();
        assert_eq!(source.unwrap().message, message);
        assert_eq!(source.unwrap().code.as_deref(), code);
    }
    // And after those that failed to be provoked, the others still are.
    let words = "UNIQUE constraint failed: t.a";
    let error = told(&driver, refusal(words, None)).await;
    assert_eq!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(words.into())));
}

#[tokio::test]
async fn other_faults_pass_through() {
    let driver = RemoteDriver::new(Scripted::default(), Decoder::new(1));
    let lost = Error::new(ErrorKind::OutcomeUnknown, "the answer was lost");
    let error = told(&driver, lost.into()).await;
    assert_eq!(Error::in_db_err(&error).unwrap().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_stream_that_breaks_its_order_is_an_error() {
    let driver = RemoteDriver::new(Scripted::default(), Decoder::new(1));
    let columns = || Ok(Part::Columns(vec![Column { name: "a".into(), declared: None }]));
    let row = |value| Ok(Part::Row(vec![Value::Integer(value)]));
    let too_long = || Ok(Part::Row(vec![Value::Null, Value::Null]));
    for (parts, rows, fails) in [
        (vec![], 0, false),
        (vec![columns()], 0, false),
        (vec![columns(), row(1), row(2)], 2, false),
        (vec![row(1)], 0, true),
        (vec![columns(), row(1), columns(), row(2)], 1, true),
        (vec![columns(), row(1), Err(refusal("torn", None)), row(2)], 1, true),
        (vec![columns(), too_long()], 0, true),
    ] {
        let told = format!("{parts:?}");
        driver.protocol().stream_of(parts);
        let seen: Vec<_> = driver.stream(sql("x")).collect().await;
        assert_eq!(seen.iter().filter(|row| row.is_ok()).count(), rows, "{told}");
        assert_eq!(seen.last().is_some_and(Result::is_err), fails, "{told}");
        assert_eq!(seen.len(), rows + usize::from(fails), "{told}");
    }
}
