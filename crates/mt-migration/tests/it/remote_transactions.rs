//! Migrations that cannot be one batch, on a driver with transactions and on one without.

use std::sync::Arc;

use futures_util::future;
use mt_core::ErrorKind;
use mt_migration::Runner;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use sea_orm_migration::MigrationTrait;

use crate::{
    factory::acme,
    migrations::{Code, code, runner_of, sql},
    wire::{Fault, Request, Step, faster, stamped, without_transactions},
};

const TALLY: &str = "CREATE TABLE tally (n integer NOT NULL); INSERT INTO tally VALUES (0)";
const N: &str = "SELECT n FROM tally";
const LEDGER: &str = "SELECT COUNT(*) AS n FROM seaql_migrations";

fn with_tally(migration: Code) -> Runner {
    let migrations: Vec<Box<dyn MigrationTrait>> =
        vec![Box::new(sql("m1_tally", TALLY)), Box::new(migration)];
    runner_of(migrations)
}

fn add() -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, "UPDATE tally SET n = n + ?", [1.into()])
}

/// Wants the count of an update, which no text tells.
fn counts() -> Code {
    code("m2_counts", |manager| {
        Box::pin(async move {
            let updated = manager.get_connection().execute_raw(add()).await?;
            assert_eq!(updated.rows_affected(), 1);
            Ok(())
        })
    })
}

/// Fails after an update.
fn fails() -> Code {
    code("m2_fails", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_raw(add()).await?;
            db.execute_unprepared("CREATE TABLE half (id integer)").await?;
            assert!(manager.has_table("half").await?);
            db.execute_raw(Statement::from_string(DbBackend::Sqlite, "DELETE FROM nowhere"))
                .await?;
            manager.has_table("half").await.map(drop)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_update_once() {
    let (factory, _wire) = stamped().await;
    let factory = Arc::new(factory.look_together(4));
    let runner = with_tally(counts());
    let runs = (0..4).map(|_| {
        let (runner, factory) = (runner.clone(), Arc::clone(&factory));
        tokio::spawn(async move { runner.up(&*factory, &acme()).await })
    });
    let mut ran = Vec::new();
    for run in future::join_all(runs).await {
        let report = run.unwrap().unwrap();
        assert_eq!(report.not_atomic, [""; 0]);
        ran.extend(report.ran);
    }
    ran.sort_unstable();
    assert_eq!(ran, runner.names());
    assert_eq!(factory.count(N).await, 1);
}

#[tokio::test]
async fn whoever_gets_the_lock_later_finds_it_done() {
    let (factory, wire) = stamped().await;
    let runner = with_tally(counts());
    wire.next_of(Step::Begin, faster(&runner, &wire));
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_tally"]);
    assert_eq!(report.schema_version.as_deref(), Some("m2_counts"));
    assert!(wire.requests().ends_with(&[Request::Rollback, Request::Query, Request::Query]));
    assert_eq!(factory.count(N).await, 1);
}

#[tokio::test]
async fn a_failure_after_a_live_statement_leaves_nothing() {
    let (factory, wire) = stamped().await;
    let runner = with_tally(fails());
    let first = runner.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::MigrationFailed);
    assert!(first.to_string().contains("kept: `m1_tally`"), "{first}");
    wire.requests();
    let second = runner.up(&factory, &acme()).await.unwrap_err();
    let text = second.to_string();
    assert!(text.contains("`m2_fails`") && text.contains("the database is as it was"), "{text}");
    assert_eq!(wire.requests().last(), Some(&Request::Rollback));
    assert_eq!(factory.count(N).await, 0);
    assert_eq!(factory.count(LEDGER).await, 1);
    // The stamp, the ledger, and the tally.
    assert_eq!(factory.tables().await, 3);
}

#[tokio::test]
async fn without_transactions_it_stays_and_says_so() {
    let (factory, _wire) = without_transactions().await;
    let report = with_tally(counts()).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_tally", "m2_counts"]);
    assert_eq!(report.not_atomic, ["m2_counts"]);

    let (factory, _wire) = without_transactions().await;
    let error = with_tally(fails()).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert!(error.to_string().contains("stays"), "{error}");
    assert_eq!(factory.count(N).await, 1);
}

#[tokio::test]
async fn a_transaction_that_the_server_ends_is_no_half_migration() {
    // At the ledger's table, at the update, at the record, and at the commit.
    for (step, earlier) in
        [(Step::Inside, 0), (Step::Inside, 1), (Step::Inside, 2), (Step::Commit, 0)]
    {
        let (factory, wire) = stamped().await;
        for _ in 0..earlier {
            wire.next_of(step, Fault::Behind(Box::pin(async {})));
        }
        wire.next_of(step, Fault::Refuse(ErrorKind::Unavailable));
        // It would go on whatever it is answered.
        let stubborn = code("m2_stubborn", |manager| {
            Box::pin(async move {
                drop(manager.get_connection().execute_raw(add()).await);
                Ok(())
            })
        });
        let runner = with_tally(stubborn);
        let error = runner.up(&factory, &acme()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("split"), "{error}");
        assert_eq!(factory.count(N).await, 0);
        assert_eq!(runner.status(&factory, &acme()).await.unwrap().pending, ["m2_stubborn"]);
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_commit_is_looked_up() {
    let (factory, wire) = stamped().await;
    let runner = with_tally(counts());
    wire.next_of(Step::Commit, Fault::LoseAnswer);
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_tally", "m2_counts"]);
    assert_eq!(factory.count(N).await, 1);

    let (factory, wire) = stamped().await;
    wire.next_of(Step::Commit, Fault::LoseRequest);
    let error = runner.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(runner.up(&factory, &acme()).await.unwrap().ran, ["m2_counts"]);
    assert_eq!(factory.count(N).await, 1);
}

#[tokio::test]
async fn a_transaction_that_cannot_begin_did_nothing() {
    let (factory, wire) = stamped().await;
    let runner = with_tally(counts());
    for fault in [Fault::Refuse(ErrorKind::Unavailable), Fault::LoseRequest] {
        wire.next_of(Step::Begin, fault);
        let error = runner.up(&factory, &acme()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(runner.up(&factory, &acme()).await.unwrap().ran, ["m2_counts"]);
    assert_eq!(factory.count(N).await, 1);
}

#[tokio::test]
async fn texts_that_end_in_comments_and_triggers_are_kept_apart() {
    let (factory, wire) = stamped().await;
    let texts = code("m2_texts", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_unprepared("CREATE TABLE a (id integer) -- the first").await?;
            db.execute_unprepared(
                "CREATE TRIGGER again AFTER INSERT ON a BEGIN
                    UPDATE tally SET n = n + 1; UPDATE tally SET n = n + 1;
                END",
            )
            .await?;
            db.execute_unprepared("INSERT INTO a VALUES (1); INSERT INTO a VALUES (2)").await?;
            assert!(manager.has_table("a").await?);
            Ok(())
        })
    });
    with_tally(texts).up(&factory, &acme()).await.unwrap();
    assert_eq!(wire.requests().iter().filter(|request| **request == Request::Text).count(), 1);
    assert_eq!(factory.count(N).await, 4);
}
