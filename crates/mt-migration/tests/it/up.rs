use std::sync::Arc;

use futures_util::future;
use mt_core::{ErrorKind, MaintenanceMode};
use mt_migration::Migrator;
use sea_orm::DbErr;
use sea_orm_migration::MigratorTrait as _;

use crate::{
    factory::{OneFile, acme},
    migrations::{Sql, runner, sql},
};

const PARENTS: &str = "CREATE TABLE parents (id integer PRIMARY KEY, name text);
    CREATE TABLE children (id integer PRIMARY KEY,
        parent_id integer NOT NULL REFERENCES parents (id) ON DELETE CASCADE)";

const FAMILY: &str = "INSERT INTO parents VALUES (1, 'ann'), (2, 'bob');
    INSERT INTO children VALUES (1, 1), (2, 1), (3, 2)";

const REBUILD: &str = "CREATE TABLE new_parents (id integer PRIMARY KEY, name text NOT NULL);
    INSERT INTO new_parents SELECT id, name FROM parents;
    DROP TABLE parents;
    ALTER TABLE new_parents RENAME TO parents";

const CHILDREN: &str = "SELECT COUNT(*) AS n FROM children";

fn rebuilding() -> [Sql; 2] {
    [sql("m1_parents", PARENTS), sql("m2_rebuild", REBUILD)]
}

/// Three migrations that each count themselves.
fn counting() -> [Sql; 3] {
    [
        sql("m1_make", "CREATE TABLE runs (name text); INSERT INTO runs VALUES ('m1_make')"),
        sql("m2_count", "INSERT INTO runs VALUES ('m2_count')"),
        sql("m3_count", "INSERT INTO runs VALUES ('m3_count')"),
    ]
}

#[tokio::test]
async fn it_applies_everything_once() {
    let factory = OneFile::new();
    let runner = runner(counting());
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, runner.names());
    assert_eq!(report.schema_version.as_deref(), runner.latest());
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM runs").await, 3);
    assert_eq!(factory.modes(), [MaintenanceMode::Shared]);
    assert!(runner.status(&factory, &acme()).await.unwrap().is_current());
}

#[tokio::test]
async fn with_nothing_pending_it_opens_nothing() {
    let factory = OneFile::new();
    let runner = runner(counting());
    runner.up(&factory, &acme()).await.unwrap();
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, [""; 0]);
    assert_eq!(report.schema_version.as_deref(), Some("m3_count"));
    assert_eq!(factory.modes().len(), 1);
}

#[tokio::test]
async fn what_is_known_to_be_behind_is_opened_without_a_look() {
    let factory = OneFile::new();
    let [first, ..] = counting();
    runner([first]).up(&factory, &acme()).await.unwrap();
    let looks = factory.described().len();
    let all = runner(counting());
    let report = all.up_behind(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m2_count", "m3_count"]);
    assert_eq!(report.schema_version.as_deref(), all.latest());
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM runs").await, 3);
    assert_eq!(factory.described().len(), looks);
    assert_eq!(factory.modes(), [MaintenanceMode::Shared; 2]);
    // Where that was a mistake, nothing is done, and looking tells.
    let report = all.up_behind(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, [""; 0]);
    assert_eq!(report.schema_version.as_deref(), all.latest());
}

#[tokio::test]
async fn what_is_known_to_be_behind_closes_nobody_out_for_what_it_has() {
    let factory = OneFile::new();
    let [first, second, third] = counting();
    let second = second.alone();
    runner([first.clone(), second.clone()]).up(&factory, &acme()).await.unwrap();
    let before = factory.modes().len();
    let report = runner([first, second, third]).up_behind(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m3_count"]);
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM runs").await, 3);
    assert_eq!(factory.modes()[before..], [MaintenanceMode::Shared; 2]);
}

#[tokio::test]
async fn a_failure_leaves_the_database_as_it_was() {
    let factory = OneFile::new();
    let [first, second, third] = counting();
    runner([first.clone()]).up(&factory, &acme()).await.unwrap();
    let broken = sql("m4_broken", "CREATE TABLE half (id integer); INSERT INTO nowhere VALUES (1)");
    let error = runner([first, second, third, broken]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert_eq!(error.tenant(), Some(&acme()));
    assert!(error.to_string().contains("m4_broken"), "{error}");
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<DbErr>()));
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM runs").await, 1);
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM seaql_migrations").await, 1);
    assert_eq!(factory.tables().await, 2);
}

#[tokio::test]
async fn a_first_failure_leaves_no_ledger_either() {
    let factory = OneFile::new();
    let broken = sql("m1_broken", "INSERT INTO nowhere VALUES (1)");
    runner([broken]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(factory.tables().await, 0);
}

#[tokio::test]
async fn rebuilding_a_parent_keeps_every_child() {
    let factory = OneFile::new();
    let [parents, rebuild] = rebuilding();
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    factory.execute(FAMILY).await;
    runner([parents, rebuild]).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count(CHILDREN).await, 3);

    // What it is kept from: on an ordinary connection, the same statements take the children along.
    factory.execute(REBUILD).await;
    assert_eq!(factory.count(CHILDREN).await, 0);
}

#[tokio::test]
async fn a_rebuild_outside_of_a_transaction_keeps_every_child_too() {
    let factory = OneFile::new();
    let [parents, rebuild] = rebuilding();
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    factory.execute(FAMILY).await;
    runner([parents, rebuild.alone()]).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count(CHILDREN).await, 3);
}

#[tokio::test]
async fn leaving_rows_without_their_parent_is_refused_and_taken_back() {
    let factory = OneFile::new();
    let [parents, _] = rebuilding();
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    factory.execute(FAMILY).await;
    let orphaning = sql("m2_orphaning", "DELETE FROM parents WHERE id = 1");
    let error = runner([parents, orphaning]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert!(error.to_string().contains("`children`"), "{error}");
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM parents").await, 2);
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM seaql_migrations").await, 1);
}

#[tokio::test]
async fn rows_that_had_no_parent_before_are_in_nobodys_way() {
    let factory = OneFile::new();
    let [parents, rebuild] = rebuilding();
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    factory.execute("PRAGMA foreign_keys = OFF; INSERT INTO children VALUES (9, 99)").await;
    runner([parents, rebuild]).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count(CHILDREN).await, 1);
}

#[tokio::test]
async fn foreign_keys_that_do_not_fit_can_be_mended_and_not_made() {
    let factory = OneFile::new();
    // Nothing says that `name` is unique, so SQLite cannot tell who the parent is.
    let misfit = "CREATE TABLE parents (id integer PRIMARY KEY, name text);
        CREATE TABLE children (name text REFERENCES parents (name))";
    let error = runner([sql("m1_misfit", misfit)]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert_eq!(factory.tables().await, 0);

    factory.execute(misfit).await;
    let mend = sql("m1_mend", "CREATE UNIQUE INDEX mended ON parents (name)");
    runner([mend]).up(&factory, &acme()).await.unwrap();
}

#[tokio::test]
async fn one_that_opts_out_of_transactions_runs_alone() {
    let factory = OneFile::new();
    let [first, second, third] = counting();
    // SQLite refuses this inside a transaction.
    let vacuum = sql("m2_alone", "VACUUM").alone();
    let runner = runner([first, vacuum, second, third]);
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, runner.names());
    assert_eq!(report.schema_version.as_deref(), Some("m3_count"));
    assert_eq!(report.not_atomic, ["m2_alone"]);
    let (shared, exclusive) = (MaintenanceMode::Shared, MaintenanceMode::Exclusive);
    assert_eq!(factory.modes(), [shared, exclusive, shared]);
}

#[tokio::test]
async fn nothing_runs_alone_where_others_cannot_be_kept_out() {
    let factory = OneFile::new();
    let shared = factory.connect().await;
    let factory = factory.instead(shared.into());
    let [first, ..] = counting();
    let error = runner([first.alone()]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(factory.tables().await, 0);
}

#[tokio::test]
async fn one_that_fails_alone_keeps_what_came_before_and_can_be_repeated() {
    let factory = OneFile::new();
    let [first, second, third] = counting();
    let alone = sql("m1_next", "CREATE TABLE half (id integer); INSERT INTO later VALUES (1)");
    let broken = runner([first.clone(), alone.alone(), second.clone(), third.clone()]);
    let error = broken.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    let text = error.to_string();
    assert!(text.contains("`m1_next`") && text.contains("`m1_make`"), "{text}");
    let status = broken.status(&factory, &acme()).await.unwrap();
    assert_eq!(status.applied, ["m1_make"]);
    assert_eq!(status.pending.len(), 3);
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM half").await, 0);

    let mended = sql("m1_next", "DROP TABLE half").alone();
    let report = runner([first, mended, second, third]).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_next", "m2_count", "m3_count"]);
}

#[tokio::test]
async fn one_that_orphans_rows_alone_is_not_recorded() {
    let factory = OneFile::new();
    let [parents, _] = rebuilding();
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    factory.execute(FAMILY).await;
    let orphaning = sql("m2_orphaning", "DELETE FROM parents WHERE id = 1").alone();
    let runner = runner([parents, orphaning]);
    let error = runner.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert_eq!(runner.status(&factory, &acme()).await.unwrap().pending, ["m2_orphaning"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_apply_each_migration_once() {
    let [first, second, third] = counting();
    let together = runner([first.clone(), second.clone(), third.clone()]);
    let with_one_alone = runner([first, second.alone(), third]);
    for runner in [together, with_one_alone] {
        // All see an empty database before any of them begins.
        let factory = Arc::new(OneFile::new().look_together(4));
        let runs = (0..4).map(|_| {
            let (runner, factory) = (runner.clone(), Arc::clone(&factory));
            tokio::spawn(async move { runner.up(&*factory, &acme()).await })
        });
        let mut ran = Vec::new();
        for run in future::join_all(runs).await {
            let report = run.unwrap().unwrap();
            assert_eq!(report.schema_version.as_deref(), runner.latest());
            ran.extend(report.ran);
        }
        ran.sort_unstable();
        assert_eq!(ran, runner.names());
        assert_eq!(factory.count("SELECT COUNT(*) AS n FROM runs").await, 3);
    }
}

#[tokio::test]
async fn what_a_newer_program_applied_is_left_alone() {
    let factory = OneFile::new();
    let [first, second, third] = counting();
    let newer = sql("m9_newer", "CREATE TABLE newer (id integer)");
    runner([first.clone(), second.clone(), newer]).up(&factory, &acme()).await.unwrap();

    let older = runner([first.clone(), second.clone()]);
    let status = older.status(&factory, &acme()).await.unwrap();
    assert_eq!(status.unknown, ["m9_newer"]);
    assert!(status.is_current());
    assert_eq!(older.up(&factory, &acme()).await.unwrap().ran, [""; 0]);

    let sideways = runner([first, second, third]);
    let report = sideways.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m3_count"]);
    assert_eq!(report.schema_version.as_deref(), Some("m9_newer"));
}

#[tokio::test]
async fn a_connection_that_forgets_its_settings_is_refused() {
    let [first, ..] = counting();
    for migration in [first.clone(), first.alone()] {
        let factory = OneFile::new().forgetful();
        let error = runner([migration]).up(&factory, &acme()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(factory.tables().await, 0);
    }
}

#[tokio::test]
async fn sea_orm_reads_what_it_wrote_and_it_goes_on_where_sea_orm_stopped() {
    let factory = OneFile::new();
    let db = factory.connect().await;
    Migrator::up(&db, Some(2)).await.unwrap();

    let runner = mt_migration::Runner::of::<Migrator>().unwrap();
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, runner.names()[2..]);

    let applied = Migrator::get_applied_migrations(&db).await.unwrap();
    let names: Vec<&str> = applied.iter().map(|migration| migration.name()).collect();
    assert_eq!(names, runner.names());
    let models = Migrator::get_migration_models(&db).await.unwrap();
    assert!(models.iter().all(|model| model.applied_at > 1_700_000_000), "{models:?}");
    Migrator::down(&db, Some(1)).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(runner.status(&factory, &acme()).await.unwrap().pending.len(), 1);
}
