use std::sync::Arc;

use futures_util::future;
use mt_core::ErrorKind;

use crate::{
    factory::{OneFile, acme},
    migrations::{Sql, runner, sql},
};

fn reversible() -> [Sql; 3] {
    [
        sql("m1_a", "CREATE TABLE a (id integer)").with_down("DROP TABLE a"),
        sql("m2_b", "CREATE TABLE b (id integer)").with_down("DROP TABLE b"),
        sql("m3_c", "CREATE TABLE c (id integer)").with_down("DROP TABLE c"),
    ]
}

#[tokio::test]
async fn it_rolls_the_newest_back_first() {
    let factory = OneFile::new();
    let runner = runner(reversible());
    runner.up(&factory, &acme()).await.unwrap();
    let report = runner.down(&factory, &acme(), 2).await.unwrap();
    assert_eq!(report.ran, ["m3_c", "m2_b"]);
    assert_eq!(report.schema_version.as_deref(), Some("m1_a"));
    assert_eq!(runner.status(&factory, &acme()).await.unwrap().applied, ["m1_a"]);
    assert_eq!(factory.tables().await, 2);

    let rest = runner.down(&factory, &acme(), 9).await.unwrap();
    assert_eq!(rest.ran, ["m1_a"]);
    assert_eq!(rest.schema_version, None);
    assert_eq!(runner.up(&factory, &acme()).await.unwrap().ran, runner.names());
}

#[tokio::test]
async fn no_steps_open_nothing() {
    let factory = OneFile::new();
    let runner = runner(reversible());
    runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(runner.down(&factory, &acme(), 0).await.unwrap().ran, [""; 0]);
    assert_eq!(factory.modes().len(), 1);
}

#[tokio::test]
async fn a_failure_takes_the_other_steps_back() {
    let factory = OneFile::new();
    let [first, second, third] = reversible();
    let runner = runner([first, second.with_down("DROP TABLE nothing"), third]);
    runner.up(&factory, &acme()).await.unwrap();
    let error = runner.down(&factory, &acme(), 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert!(runner.status(&factory, &acme()).await.unwrap().is_current());
    assert_eq!(factory.tables().await, 4);
}

#[tokio::test]
async fn what_a_newer_program_built_upon_is_not_rolled_back() {
    let factory = OneFile::new();
    runner(reversible()).up(&factory, &acme()).await.unwrap();
    let [first, second, _] = reversible();
    let error = runner([first, second]).down(&factory, &acme(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.tenant(), Some(&acme()));
    assert_eq!(factory.modes().len(), 1);
    assert_eq!(factory.tables().await, 4);
}

#[tokio::test]
async fn one_that_opts_out_of_transactions_is_rolled_back_alone() {
    let factory = OneFile::new();
    let [first, second, third] = reversible();
    let runner = runner([first, second.with_down("DROP TABLE b; VACUUM").alone(), third]);
    runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(runner.down(&factory, &acme(), 3).await.unwrap().ran, ["m3_c", "m2_b", "m1_a"]);
    assert_eq!(factory.tables().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_roll_the_same_migration_back_once() {
    let factory = OneFile::new();
    let runner = runner(reversible());
    runner.up(&factory, &acme()).await.unwrap();
    let factory = Arc::new(factory.look_together(2));
    let runs = (0..2).map(|_| {
        let (runner, factory) = (runner.clone(), Arc::clone(&factory));
        tokio::spawn(async move { runner.down(&*factory, &acme(), 1).await })
    });
    let mut ran = Vec::new();
    for run in future::join_all(runs).await {
        ran.extend(run.unwrap().unwrap().ran);
    }
    assert_eq!(ran, ["m3_c"]);
    assert_eq!(factory.tables().await, 3);
}
