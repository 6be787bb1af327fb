//! What is sent for transactions inside transactions, and what is not.

use mt_core::{Driver as _, DriverTransaction, Error, ErrorKind};
use mt_remote::{Decoder, RemoteDriver};
use sea_orm::{AccessMode, DbBackend, DbErr, SqliteTransactionMode, Statement, TransactionOptions};

use crate::scripted::{Scripted, refusal};

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, text)
}

async fn begin() -> (Scripted, Box<dyn DriverTransaction>) {
    let protocol = Scripted::default();
    let driver = RemoteDriver::new(protocol.clone(), Decoder::new(1));
    let transaction = driver.begin(TransactionOptions::default()).await.unwrap();
    protocol.asked();
    (protocol, transaction)
}

fn kind(error: &DbErr) -> ErrorKind {
    Error::in_db_err(error).unwrap().kind()
}

#[tokio::test]
async fn a_transaction_locks_unless_it_says_that_it_need_not() {
    use SqliteTransactionMode::{Deferred, Exclusive, Immediate};

    let protocol = Scripted::default();
    let driver = RemoteDriver::new(protocol.clone(), Decoder::new(1));
    for (mode, access, expected) in [
        (None, None, "begin Immediate"),
        (None, Some(AccessMode::ReadWrite), "begin Immediate"),
        (None, Some(AccessMode::ReadOnly), "begin Deferred"),
        (Some(Deferred), None, "begin Deferred"),
        (Some(Immediate), None, "begin Immediate"),
        (Some(Exclusive), None, "begin Immediate"),
    ] {
        let options = TransactionOptions {
            sqlite_transaction_mode: mode,
            access_mode: access,
            ..Default::default()
        };
        driver.begin(options).await.unwrap();
        assert_eq!(protocol.asked(), [expected]);
    }
}

#[tokio::test]
async fn what_was_dropped_is_rolled_back_first_and_once() {
    let (protocol, outer) = begin().await;
    let inner = outer.begin().await.unwrap();
    let innermost = inner.begin().await.unwrap();
    assert_eq!(protocol.asked(), ["SAVEPOINT mt_1", "SAVEPOINT mt_2"]);
    drop(innermost);
    drop(inner);
    assert_eq!(protocol.asked(), Vec::<String>::new());
    outer.execute(sql("a")).await.unwrap();
    outer.execute(sql("b")).await.unwrap();
    let dropped = ["ROLLBACK TO mt_2", "RELEASE mt_2", "ROLLBACK TO mt_1", "RELEASE mt_1"];
    assert_eq!(protocol.asked(), [&dropped[..], &["a", "b"]].concat());

    // The inner one goes with the one around it, in whatever order they are dropped.
    let inner = outer.begin().await.unwrap();
    let innermost = inner.begin().await.unwrap();
    drop(inner);
    drop(innermost);
    protocol.asked();
    outer.commit().await.unwrap();
    assert_eq!(protocol.asked(), ["ROLLBACK TO mt_3", "RELEASE mt_3", "commit"]);
}

#[tokio::test]
async fn a_nested_transaction_ends_by_its_savepoint() {
    let (protocol, outer) = begin().await;
    outer.begin().await.unwrap().commit().await.unwrap();
    outer.begin().await.unwrap().rollback().await.unwrap();
    let expected =
        ["SAVEPOINT mt_1", "RELEASE mt_1", "SAVEPOINT mt_2", "ROLLBACK TO mt_2", "RELEASE mt_2"];
    assert_eq!(protocol.asked(), expected);
    outer.rollback().await.unwrap();
    assert_eq!(protocol.asked(), ["rollback"]);
}

#[tokio::test]
async fn a_rollback_sends_nothing_before_it() {
    let (protocol, outer) = begin().await;
    drop(outer.begin().await.unwrap());
    let open = outer.begin().await.unwrap();
    protocol.asked();
    outer.rollback().await.unwrap();
    assert_eq!(protocol.asked(), ["rollback"]);
    assert_eq!(kind(&open.execute(sql("late")).await.unwrap_err()), ErrorKind::Statement);
    drop(open);
    assert_eq!(protocol.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn what_outlives_a_dropped_transaction_does_nothing() {
    let (protocol, outer) = begin().await;
    let inner = outer.begin().await.unwrap();
    protocol.asked();
    drop(outer);
    inner.execute(sql("late")).await.unwrap_err();
    inner.begin().await.unwrap_err();
    inner.commit().await.unwrap_err();
    assert_eq!(protocol.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rollback_that_fails_ends_the_transaction() {
    let (protocol, outer) = begin().await;
    drop(outer.begin().await.unwrap());
    protocol.asked();
    protocol.fail("ROLLBACK TO mt_1", refusal("no such savepoint: mt_1", None));
    outer.execute(sql("a")).await.unwrap_err();
    assert_eq!(protocol.asked(), ["ROLLBACK TO mt_1"]);
    assert_eq!(kind(&outer.execute(sql("b")).await.unwrap_err()), ErrorKind::Statement);
    outer.commit().await.unwrap_err();
    assert_eq!(protocol.asked(), ["rollback"]);
}

#[tokio::test]
async fn a_rollback_that_nobody_waited_for_ends_the_transaction() {
    use futures_util::FutureExt as _;

    let (protocol, outer) = begin().await;
    drop(outer.begin().await.unwrap());
    protocol.asked();
    // Given up while the rollback of the dropped one is on its way.
    assert!(outer.execute(sql("a")).now_or_never().is_none());
    outer.execute(sql("b")).await.unwrap_err();
    outer.commit().await.unwrap_err();
    assert_eq!(protocol.asked(), ["rollback"]);
}

#[tokio::test]
async fn a_release_that_fails_takes_the_nested_one_back() {
    let (protocol, outer) = begin().await;
    let inner = outer.begin().await.unwrap();
    protocol.fail("RELEASE mt_1", refusal("database is full", Some("SQLITE_FULL")));
    inner.commit().await.unwrap_err();
    protocol.asked();
    outer.commit().await.unwrap();
    assert_eq!(protocol.asked(), ["ROLLBACK TO mt_1", "RELEASE mt_1", "commit"]);
}

#[tokio::test]
async fn a_savepoint_that_could_not_be_opened_is_not_rolled_back() {
    let (protocol, outer) = begin().await;
    protocol.fail("SAVEPOINT mt_1", Error::new(ErrorKind::Unsupported, "no savepoints").into());
    assert_eq!(kind(&outer.begin().await.unwrap_err()), ErrorKind::Unsupported);
    outer.commit().await.unwrap();
    assert_eq!(protocol.asked(), ["SAVEPOINT mt_1", "commit"]);
}

#[tokio::test]
async fn steps_at_once_settle_once() {
    let (protocol, outer) = begin().await;
    drop(outer.begin().await.unwrap());
    protocol.asked();
    let steps = tokio::join!(outer.execute(sql("a")), outer.execute(sql("b")));
    steps.0.unwrap();
    steps.1.unwrap();
    let asked = protocol.asked();
    assert_eq!(asked[..2], ["ROLLBACK TO mt_1", "RELEASE mt_1"]);
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[tokio::test]
async fn empty_text_sends_nothing() {
    let (protocol, outer) = begin().await;
    outer.execute_unprepared(" -- nothing\n;").await.unwrap();
    assert_eq!(protocol.asked(), Vec::<String>::new());
    outer.execute_unprepared("a; b;").await.unwrap();
    assert_eq!(protocol.asked(), ["a", "b"]);
}
