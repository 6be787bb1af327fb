//! What becomes of a run over a driver that is cut short.

use std::sync::{Arc, mpsc};

use mt_core::{Connection, ErrorKind, Generation, SchemaTemplate as _, Stamp, TenantId};
use sea_orm::ConnectionTrait as _;

use crate::{
    factory::acme,
    migrations::{code, runner, runner_of, sql},
    wire::{Fault, Request, Step, bare, faster, stamped, without_transactions, write_stamp},
};

const TWO: [(&str, &str); 2] =
    [("m1_make", "CREATE TABLE runs (id integer)"), ("m2_run", "INSERT INTO runs VALUES (1)")];

fn two() -> mt_migration::Runner {
    runner(TWO.map(|(name, text)| sql(name, text)))
}

const RUNS: &str = "SELECT COUNT(*) AS n FROM runs";

#[tokio::test]
async fn an_answer_lost_after_the_commit_is_a_success() {
    let (factory, wire) = stamped().await;
    wire.next([Fault::LoseAnswer]);
    let report = two().up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_make", "m2_run"]);
    assert_eq!(report.schema_version.as_deref(), Some("m2_run"));
    assert_eq!(factory.count(RUNS).await, 1);

    wire.next([Fault::LoseAnswer]);
    let down = runner([sql("m1_make", "").with_down("DROP TABLE runs"), sql("m2_run", "")]);
    assert_eq!(down.down(&factory, &acme(), 2).await.unwrap().ran, ["m2_run", "m1_make"]);
    assert_eq!(factory.tables().await, 2);
}

#[tokio::test]
async fn an_answer_lost_before_it_is_unknown_and_up_can_be_repeated() {
    let (factory, wire) = stamped().await;
    wire.next([Fault::LoseRequest]);
    let error = two().up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(!error.is_transient());
    assert_eq!(two().up(&factory, &acme()).await.unwrap().ran, ["m1_make", "m2_run"]);
    assert_eq!(factory.count(RUNS).await, 1);
}

#[tokio::test]
async fn no_connection_is_unavailable_and_nothing_was_done() {
    let (factory, wire) = stamped().await;
    wire.next([Fault::Refuse(ErrorKind::Unavailable)]);
    let error = two().up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient());
    assert_eq!(wire.requests(), [Request::Batch(6)]);
    assert_eq!(factory.tables().await, 1);
}

#[tokio::test]
async fn a_database_of_somebody_else_is_not_migrated() {
    let (factory, wire) = bare().await;
    let missing = two().up(&factory, &acme()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::ForeignDatabase);
    let mine = factory.stamp(&acme());
    let bob = TenantId::new("bob").unwrap();
    write_stamp(&wire, &Stamp::new(mine.deployment, &bob, Generation::FIRST)).await;
    let error = two().up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    assert!(error.to_chain().contains("`bob`"), "{}", error.to_chain());
    assert_eq!(factory.tables().await, 1);
}

#[tokio::test]
async fn a_lost_answer_is_not_looked_up_in_a_database_of_somebody_else() {
    let (factory, wire) = bare().await;
    let bob = TenantId::new("bob").unwrap();
    let theirs = Stamp::new(factory.stamp(&acme()).deployment, &bob, Generation::FIRST);
    write_stamp(&wire, &theirs).await;
    // All of it is applied there.
    two().apply(&Connection::from(Arc::clone(&wire))).await.unwrap();
    wire.next([Fault::LoseRequest]);
    let error = two().up_from(&factory, &acme(), &two().compare(&[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
}

#[tokio::test]
async fn another_generation_is_not_migrated_either() {
    let (factory, wire) = stamped().await;
    wire.db().execute_unprepared("UPDATE _mt_tenant SET generation = 2").await.unwrap();
    let error = two().up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    assert_eq!(factory.tables().await, 1);
}

#[tokio::test]
async fn a_migration_that_is_overtaken_half_way_is_not_done_again() {
    let (factory, wire) = without_transactions().await;
    let half = code("m1_half", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_unprepared("CREATE TABLE half (id integer)").await?;
            manager.has_table("half").await?;
            db.execute_unprepared("INSERT INTO half VALUES (1)").await.map(drop)
        })
    });
    let other = runner([sql("m0_other", "CREATE TABLE other (id integer)")]);
    let nothing = Fault::Behind(Box::pin(async {}));
    wire.next([nothing, faster(&other, &wire)]);
    let error = runner_of(vec![Box::new(half)]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert!(error.to_string().contains("stays"), "{error}");
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM half").await, 0);
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).unwrap_or_default();
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_its_thread() {
    let (factory, _wire) = stamped().await;
    let (sender, dropped) = mpsc::channel();
    let (started, starts) = tokio::sync::mpsc::unbounded_channel();
    let endless = code("m1_endless", move |_manager| {
        let held = Dropped(sender.clone());
        let started = started.clone();
        Box::pin(async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
            Ok(())
        })
    });
    let runner = runner_of(vec![Box::new(endless)]);
    let mut starts = starts;
    let tenant = acme();
    tokio::select! {
        _ = runner.up(&factory, &tenant) => panic!("it ended"),
        _ = starts.recv() => {}
    }
    let ended = tokio::task::spawn_blocking(move || dropped.recv()).await.unwrap();
    assert!(ended.is_ok(), "what the migration held is dropped with it");
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_asks_gets_an_error() {
    let (factory, wire) = stamped().await;
    let (sender, heard) = mpsc::channel();
    let asking = code("m1_asking", move |manager| {
        let sender = sender.clone();
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_unprepared("CREATE TABLE a (id integer)").await?;
            sender.send(manager.has_table("a").await).unwrap();
            Ok(())
        })
    });
    let runner = runner_of(vec![Box::new(asking)]);
    let (reached, reaches) = tokio::sync::oneshot::channel();
    let forever = Fault::Behind(Box::pin(async move {
        reached.send(()).unwrap();
        std::future::pending::<()>().await;
    }));
    wire.next_of(Step::Begin, forever);
    let tenant = acme();
    tokio::select! {
        _ = runner.up(&factory, &tenant) => panic!("it ended"),
        _ = reaches => {}
    }
    let answer = tokio::task::spawn_blocking(move || heard.recv()).await.unwrap();
    assert!(answer.unwrap().is_err());
}

#[tokio::test]
async fn a_panic_is_a_failed_migration() {
    let (factory, _wire) = stamped().await;
    let panics = code("m2_panics", |_manager| Box::pin(async { panic!("at the disco") }));
    let make = sql("m1_make", "CREATE TABLE runs (id integer)");
    let error =
        runner_of(vec![Box::new(make), Box::new(panics)]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    let text = error.to_string();
    assert!(text.contains("m2_panics") && text.contains("at the disco"), "{text}");
    assert_eq!(factory.tables().await, 1);
}
