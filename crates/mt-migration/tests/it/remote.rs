//! Migrations on a database that is reached by a driver.

use std::{error::Error as _, sync::Arc};

use futures_util::future;
use mt_core::{Connection, ErrorKind, SchemaTemplate as _};
use mt_migration::{Migrator, Runner};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr, Statement};

use crate::{
    factory::{OneFile, acme},
    migrations::{Sql, runner, sql},
    wire::{Request, bare, faster, stamped},
};

const PARENTS: &str = "CREATE TABLE parents (id integer PRIMARY KEY, name text);
    CREATE TABLE children (id integer PRIMARY KEY,
        parent_id integer NOT NULL REFERENCES parents (id) ON DELETE CASCADE);
    INSERT INTO parents VALUES (1, 'ann'), (2, 'bob');
    INSERT INTO children VALUES (1, 1), (2, 1), (3, 2)";

const REBUILD: &str = "CREATE TABLE new_parents (id integer PRIMARY KEY, name text NOT NULL);
    INSERT INTO new_parents SELECT id, name FROM parents;
    DROP TABLE parents;
    ALTER TABLE new_parents RENAME TO parents";

/// Three migrations that each count themselves.
fn counting() -> [Sql; 3] {
    [
        sql("m1_make", "CREATE TABLE runs (name text); INSERT INTO runs VALUES ('m1_make')")
            .with_down("DROP TABLE runs"),
        sql("m2_count", "INSERT INTO runs VALUES ('m2_count')")
            .with_down("DELETE FROM runs WHERE name = 'm2_count'"),
        sql("m3_count", "INSERT INTO runs VALUES ('m3_count')")
            .with_down("DELETE FROM runs WHERE name = 'm3_count'"),
    ]
}

const RUNS: &str = "SELECT COUNT(*) AS n FROM runs";
const LEDGER: &str = "SELECT COUNT(*) AS n FROM seaql_migrations";

async fn schema(db: &DatabaseConnection) -> Vec<(String, Option<String>)> {
    let select = "SELECT name, sql FROM sqlite_master WHERE name <> '_mt_tenant' ORDER BY name";
    let statement = Statement::from_string(db.get_database_backend(), select);
    let rows = db.query_all_raw(statement).await.unwrap();
    let columns = |row: &sea_orm::QueryResult| (row.try_get("", "name"), row.try_get("", "sql"));
    rows.iter().map(columns).map(|(name, sql)| (name.unwrap(), sql.unwrap())).collect()
}

#[tokio::test]
async fn the_whole_reference_schema_is_one_request() {
    let (factory, wire) = stamped().await;
    let runner = Runner::of::<Migrator>().unwrap();
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, runner.names());
    assert_eq!(report.not_atomic, [""; 0]);
    assert_eq!(report.schema_version.as_deref(), runner.latest());
    assert!(matches!(wire.requests().as_slice(), [Request::Batch(_)]));
    // The runner said what it had seen instead of having it read again.
    assert_eq!(factory.described(), [[""; 0]]);
    assert!(runner.status(&factory, &acme()).await.unwrap().is_current());
}

#[tokio::test]
async fn it_makes_what_sea_orm_makes() {
    let (factory, wire) = stamped().await;
    let runner = Runner::of::<Migrator>().unwrap();
    runner.up(&factory, &acme()).await.unwrap();
    let local = OneFile::new();
    runner.up(&local, &acme()).await.unwrap();
    assert_eq!(schema(wire.db()).await, schema(&local.connect().await).await);

    use sea_orm_migration::MigratorTrait as _;
    let models = Migrator::get_migration_models(wire.db()).await.unwrap();
    assert!(models.iter().all(|model| model.applied_at > 1_700_000_000), "{models:?}");
    assert_eq!(models.len(), runner.names().len());
}

#[tokio::test]
async fn with_nothing_pending_it_asks_nothing() {
    let (factory, wire) = stamped().await;
    let runner = runner(counting());
    runner.up(&factory, &acme()).await.unwrap();
    wire.requests();
    assert_eq!(runner.up(&factory, &acme()).await.unwrap().ran, [""; 0]);
    assert_eq!(wire.requests(), []);
}

#[tokio::test]
async fn a_ledger_that_was_not_read_by_a_look_is_compared_all_the_same() {
    let (factory, wire) = stamped().await;
    let [first, second, third] = counting();
    runner([first.clone()]).up(&factory, &acme()).await.unwrap();
    let runner = runner([first, second, third]);
    // It says that nothing is applied, which is not true any more.
    let outdated = runner.compare(&[]);
    let report = runner.up_from(&factory, &acme(), &outdated).await.unwrap();
    assert_eq!(report.ran, ["m2_count", "m3_count"]);
    assert_eq!(factory.described().len(), 1);
    assert!(wire.requests().contains(&Request::Query), "the ledger was read again");
    assert_eq!(factory.count(RUNS).await, 3);
}

#[tokio::test]
async fn a_failure_leaves_the_database_as_it_was() {
    let (factory, _wire) = stamped().await;
    let [first, second, third] = counting();
    runner([first.clone()]).up(&factory, &acme()).await.unwrap();
    let broken = sql("m4_broken", "CREATE TABLE half (id integer); INSERT INTO nowhere VALUES (1)");
    let error = runner([first, second, third, broken]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert_eq!(error.tenant(), Some(&acme()));
    assert!(error.to_string().contains("m4_broken"), "{error}");
    assert!(error.source().is_some_and(|source| source.is::<DbErr>()));
    assert!(error.to_chain().contains("nowhere"), "{}", error.to_chain());
    assert_eq!(factory.count(RUNS).await, 1);
    assert_eq!(factory.count(LEDGER).await, 1);
    assert_eq!(factory.tables().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_apply_each_migration_once() {
    let (factory, _wire) = stamped().await;
    let factory = Arc::new(factory.look_together(4));
    let runner = runner(counting());
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
    assert_eq!(factory.count(RUNS).await, 3);
}

#[tokio::test]
async fn whoever_is_faster_is_planned_around() {
    let (factory, wire) = stamped().await;
    let [first, second, third] = counting();
    wire.next([faster(&runner([first.clone(), second.clone()]), &wire)]);
    let report = runner([first, second, third]).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m3_count"]);
    assert_eq!(report.schema_version.as_deref(), Some("m3_count"));
    assert_eq!(factory.count(RUNS).await, 3);
}

#[tokio::test]
async fn whoever_is_always_faster_wins_in_the_end() {
    let (factory, wire) = stamped().await;
    let names = ["a1", "a2", "a3", "a4", "a5", "a6"];
    let others = (1..names.len()).map(|count| {
        let some = names[..count].iter().map(|name| sql(name, "SELECT 1"));
        faster(&runner(some), &wire)
    });
    wire.next(others);
    let error = runner([sql("b", "SELECT 1")]).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.is_transient());
    assert_eq!(runner([sql("b", "SELECT 1")]).up(&factory, &acme()).await.unwrap().ran, ["b"]);
}

#[tokio::test]
async fn what_a_newer_program_applied_is_left_alone() {
    let (factory, _wire) = stamped().await;
    let [first, second, third] = counting();
    let newer = sql("m9_newer", "CREATE TABLE newer (id integer)");
    runner([first.clone(), second.clone(), newer]).up(&factory, &acme()).await.unwrap();
    let report = runner([first, second, third]).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m3_count"]);
    assert_eq!(report.schema_version.as_deref(), Some("m9_newer"));
}

#[tokio::test]
async fn it_rolls_the_newest_back_first_as_one() {
    let (factory, wire) = stamped().await;
    let runner = runner(counting());
    runner.up(&factory, &acme()).await.unwrap();
    wire.requests();
    let report = runner.down(&factory, &acme(), 2).await.unwrap();
    assert_eq!(report.ran, ["m3_count", "m2_count"]);
    assert_eq!(report.schema_version.as_deref(), Some("m1_make"));
    assert_eq!(wire.requests(), [Request::Batch(6)]);
    assert_eq!(factory.count(RUNS).await, 1);
    assert_eq!(runner.down(&factory, &acme(), 9).await.unwrap().ran, ["m1_make"]);
    assert_eq!(factory.count(LEDGER).await, 0);
}

#[tokio::test]
async fn the_reference_schema_is_rolled_back_children_first() {
    let (factory, _wire) = stamped().await;
    let runner = Runner::of::<Migrator>().unwrap();
    runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(runner.down(&factory, &acme(), 99).await.unwrap().ran.len(), runner.names().len());
    assert_eq!(runner.up(&factory, &acme()).await.unwrap().ran, runner.names());
}

#[tokio::test]
async fn rebuilding_a_parent_is_refused_and_keeps_every_child() {
    let parents = sql("m1_parents", PARENTS);
    for rebuild in [sql("m2_rebuild", REBUILD), sql("m2_rebuild", REBUILD).alone()] {
        let (factory, wire) = stamped().await;
        runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
        let error = runner([parents.clone(), rebuild]).up(&factory, &acme()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`parents`") && text.contains("`children`"), "{text}");
        assert_eq!(factory.count("SELECT COUNT(*) AS n FROM children").await, 3);
        assert_eq!(factory.count("SELECT COUNT(*) AS n FROM parents").await, 2);
        assert_eq!(factory.count(LEDGER).await, 1);

        // What it is kept from: the engine itself takes the children along.
        let drop = "PRAGMA defer_foreign_keys = ON; DROP TABLE parents";
        wire.db().execute_unprepared(drop).await.unwrap();
        assert_eq!(factory.count("SELECT COUNT(*) AS n FROM children").await, 0);
    }
}

#[tokio::test]
async fn a_refused_rebuild_did_nothing() {
    let (factory, _wire) = stamped().await;
    let migrations = [sql("m1_parents", PARENTS), sql("m2_rebuild", REBUILD)];
    let error = runner(migrations).up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(factory.tables().await, 1);
}

#[tokio::test]
async fn children_may_be_dropped_before_their_parent() {
    let (factory, wire) = stamped().await;
    let parents = sql("m1_parents", PARENTS);
    let drop = sql("m2_drop", "DROP TABLE children; DROP TABLE parents");
    runner([parents.clone()]).up(&factory, &acme()).await.unwrap();
    wire.requests();
    runner([parents, drop]).up(&factory, &acme()).await.unwrap();
    // The look at the foreign keys costs one request.
    assert_eq!(wire.requests(), [Request::Query, Request::Batch(5)]);
    assert_eq!(factory.tables().await, 2);
}

#[tokio::test]
async fn one_that_opts_out_of_transactions_runs_as_it_comes() {
    let (factory, wire) = stamped().await;
    let [first, second, third] = counting();
    let vacuum = sql("m2_alone", "VACUUM; INSERT INTO runs VALUES ('m2_alone')").alone();
    let runner = runner([first, vacuum, second, third]);
    let report = runner.up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, runner.names());
    assert_eq!(report.not_atomic, ["m2_alone"]);
    assert_eq!(factory.count(RUNS).await, 4);
    let (guard, execute) = (Request::Batch(2), Request::Execute);
    let record = Request::Batch(3);
    assert_eq!(
        wire.requests(),
        [Request::Batch(5), guard, execute.clone(), execute, record, Request::Batch(6)]
    );
}

#[tokio::test]
async fn one_that_fails_alone_keeps_what_it_did_and_can_be_repeated() {
    let (factory, _wire) = stamped().await;
    let [first, ..] = counting();
    let alone = sql("m2_alone", "CREATE TABLE half (id integer); INSERT INTO later VALUES (1)");
    let broken = runner([first.clone(), alone.alone()]);
    let error = broken.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    let text = error.to_string();
    assert!(text.contains("`m2_alone`") && text.contains("`m1_make`"), "{text}");
    assert_eq!(broken.status(&factory, &acme()).await.unwrap().pending, ["m2_alone"]);
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM half").await, 0);
    let mended = sql("m2_alone", "DROP TABLE half").alone();
    assert_eq!(runner([first, mended]).up(&factory, &acme()).await.unwrap().ran, ["m2_alone"]);
}

#[tokio::test]
async fn a_template_is_applied_to_a_database_without_a_stamp() {
    let (factory, wire) = bare().await;
    let connection = Connection::from(Arc::clone(&wire));
    let runner = runner(counting());
    runner.apply(&connection).await.unwrap();
    assert_eq!(wire.requests(), [Request::Batch(9)]);
    // A second time it finds everything done.
    runner.apply(&connection).await.unwrap();
    assert_eq!(factory.count(RUNS).await, 3);
}
