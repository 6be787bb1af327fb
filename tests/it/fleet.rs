//! One schema for all tenants.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_control::{AccessControl, FleetReport, MigrateAll, MultiTenancy, Outcome};
use mt_core::{DatabaseFactory as _, ErrorKind, TenantId, TenantState};
use mt_migration::Runner;
use mt_tests::Installation;

use crate::support::{
    NOTES, Process, Sql, add, all_closed, bytes, column, dump, embedded, eventually, file_of,
    kind_in, notes, outside, runner, sql, tenant,
};

/// Fails where two notes are the same.
const UNIQUE: Sql = sql(
    "m2_unique",
    "CREATE TABLE half_way (x); CREATE UNIQUE INDEX notes_text ON notes (text); DROP TABLE half_way",
);

/// Each counts itself, so that one that ran twice shows.
const COUNTING: [Sql; 3] = [
    sql("m2_make", "CREATE TABLE runs (name text); INSERT INTO runs VALUES ('m2_make')"),
    sql("m3_count", "INSERT INTO runs VALUES ('m3_count')"),
    sql("m4_count", "INSERT INTO runs VALUES ('m4_count')"),
];

const RUNS: &str = "SELECT name FROM runs ORDER BY rowid";

fn with(more: impl IntoIterator<Item = Sql>) -> Runner {
    runner([NOTES].into_iter().chain(more))
}

/// Makes tenants `t0`, `t1`, … with notes as their schema.
async fn fleet(installation: &Installation, count: usize) -> Vec<TenantId> {
    let tenants = Process::of(installation).open().await;
    let ids: Vec<TenantId> = (0..count).map(|number| tenant(&format!("t{number}"))).collect();
    for id in &ids {
        tenants.provision(id).await.unwrap();
    }
    tenants.shutdown().await.unwrap();
    all_closed(&installation.tenants_path()).await;
    ids
}

async fn newer<const N: usize>(installation: &Installation, more: [Sql; N]) -> MultiTenancy {
    Process::of(installation).schema(with(more)).open().await
}

async fn migrate(tenants: &MultiTenancy) -> FleetReport {
    tenants.migrate_all(MigrateAll::default()).await.unwrap()
}

fn files(installation: &Installation, ids: &[TenantId]) -> Vec<PathBuf> {
    ids.iter().map(|id| file_of(installation, id.as_str(), 1)).collect()
}

/// What ran on whom.
fn ran(report: &FleetReport) -> Vec<(&str, Vec<&str>)> {
    let migrated = report.migrated().map(|one| match &one.outcome {
        Outcome::Migrated { ran, .. } => {
            (one.tenant.as_str(), ran.iter().map(String::as_str).collect())
        }
        other => panic!("{other:?}"),
    });
    migrated.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_five_fails_and_the_others_go_on() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 5).await;
    let files = files(&installation, &ids);
    for text in ["same", "same"] {
        outside(&files[2]).execute("INSERT INTO notes (text) VALUES (?)", [text]).unwrap();
    }
    let before = dump(&files[2]);
    let tenants = newer(&installation, [UNIQUE]).await;

    let first = migrate(&tenants).await;
    let all: Vec<_> = first.tenants.iter().map(|one| one.tenant.clone()).collect();
    assert_eq!(all, ids);
    let done: Vec<_> = ["t0", "t1", "t3", "t4"].map(|id| (id, vec!["m2_unique"])).into();
    assert_eq!(ran(&first), done);
    let failed: Vec<_> = first.failed().collect();
    let [failed] = failed.as_slice() else { panic!("{failed:?}") };
    let Outcome::Failed { error } = &failed.outcome else { panic!("{failed:?}") };
    assert_eq!((failed.tenant.as_str(), error.kind()), ("t2", ErrorKind::MigrationFailed));
    assert_eq!(error.tenant(), Some(&ids[2]));
    assert!(error.to_chain().contains("m2_unique"), "{}", error.to_chain());
    assert!(error.to_chain().contains("UNIQUE constraint failed"), "{}", error.to_chain());
    let json = serde_json::to_value(failed).unwrap();
    assert_eq!(json["outcome"], "failed");
    assert!(json["error"].as_str().unwrap().contains("m2_unique"));
    assert_eq!(dump(&files[2]), before, "its database is as before");
    let record = tenants.catalog().get(&ids[2]).await.unwrap();
    assert!(record.last_error.unwrap().contains("m2_unique"));
    assert_eq!(record.state, TenantState::Active);
    let data = tenants.get_adapters(&ids[2]).await.unwrap();
    assert_eq!(notes(&data).await.unwrap(), ["same", "same"], "it is served on");

    outside(&files[2]).execute("DELETE FROM notes WHERE id = 2", []).unwrap();
    let second = migrate(&tenants).await;
    assert_eq!(ran(&second), [("t2", vec!["m2_unique"])]);
    assert_eq!((second.up_to_date().count(), second.failed().count()), (4, 0));
    assert_eq!(tenants.catalog().get(&ids[2]).await.unwrap().last_error, None);

    tenants.shutdown().await.unwrap();
    all_closed(&installation.tenants_path()).await;
    let bytes_before = bytes(&installation.tenants_path());
    let third = migrate(&newer(&installation, [UNIQUE]).await).await;
    assert_eq!((third.up_to_date().count(), third.tenants.len()), (5, 5));
    assert!(bytes(&installation.tenants_path()) == bytes_before, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_believed_unless_told_to_verify() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 3).await;
    let tenants = newer(&installation, COUNTING).await;
    assert_eq!(migrate(&tenants).await.migrated().count(), 3);
    let file = file_of(&installation, "t1", 1);
    let tampering = "DELETE FROM seaql_migrations WHERE version = 'm4_count';
        DELETE FROM runs WHERE name = 'm4_count'";
    outside(&file).execute_batch(tampering).unwrap();

    let plain = migrate(&tenants).await;
    assert_eq!((plain.up_to_date().count(), plain.tenants.len()), (3, 3));
    assert_eq!(column(&file, RUNS), ["m2_make", "m3_count"]);
    let verify = MigrateAll::default().with_verify(true);
    let dry = tenants.migrate_all(verify.clone().with_dry_run(true)).await.unwrap();
    assert!(
        matches!(&dry.tenants[1].outcome, Outcome::Pending { pending } if *pending == ["m4_count"])
    );
    let verified = tenants.migrate_all(verify.clone()).await.unwrap();
    assert_eq!(ran(&verified), [("t1", vec!["m4_count"])]);
    assert_eq!(verified.up_to_date().count(), 2);
    assert_eq!(column(&file, RUNS), ["m2_make", "m3_count", "m4_count"]);
    assert_eq!(tenants.migrate_all(verify).await.unwrap().up_to_date().count(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_mends_what_the_catalog_says() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 2).await;
    let tenants = newer(&installation, COUNTING).await;
    migrate(&tenants).await;
    let lie = "UPDATE tenant SET schema_version = 'm9_lie' WHERE id = 't0'";
    outside(&installation.path().join("control.db")).execute(lie, []).unwrap();
    let report = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(report.up_to_date().count(), 2);
    let record = tenants.catalog().get(&ids[0]).await.unwrap();
    assert_eq!(record.schema_version.as_deref(), Some("m4_count"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_failed_is_looked_at_until_nothing_is_wrong() {
    let installation = Installation::new().unwrap();
    fleet(&installation, 2).await;
    let tenants = newer(&installation, COUNTING).await;
    migrate(&tenants).await;
    let file = file_of(&installation, "t1", 1);
    let tampering = "DELETE FROM seaql_migrations WHERE version <> 'm1_notes'";
    outside(&file).execute_batch(tampering).unwrap();
    let verified = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(verified.failed().count(), 1);
    let plain = migrate(&tenants).await;
    assert_eq!((plain.failed().count(), plain.up_to_date().count()), (1, 1));
    outside(&file).execute_batch("DROP TABLE runs").unwrap();
    assert_eq!(ran(&migrate(&tenants).await), [("t1", vec!["m2_make", "m3_count", "m4_count"])]);
    assert_eq!(migrate(&tenants).await.up_to_date().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_that_migrate_at_once_apply_each_migration_once() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 12).await;
    let (one, two) = (newer(&installation, COUNTING).await, newer(&installation, COUNTING).await);
    let (first, second) = tokio::join!(migrate(&one), migrate(&two));
    let mut who = 0;
    for report in [&first, &second] {
        assert_eq!(report.failed().count(), 0, "{report:?}");
        assert_eq!(report.tenants.len(), ids.len());
        who += report.migrated().count();
    }
    assert_eq!(who, ids.len(), "each tenant is migrated by one of the two");
    for file in files(&installation, &ids) {
        assert_eq!(column(&file, RUNS), ["m2_make", "m3_count", "m4_count"], "{file:?}");
        let recorded = column(&file, "SELECT version FROM seaql_migrations ORDER BY version");
        assert_eq!(recorded, ["m1_notes", "m2_make", "m3_count", "m4_count"]);
    }
    assert_eq!(migrate(&one).await.up_to_date().count(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilding_a_parent_keeps_every_child_of_a_tenant_that_is_in_use() {
    const FAMILY: Sql = sql(
        "m2_family",
        "CREATE TABLE parents (id integer PRIMARY KEY, name text);
         CREATE TABLE children (id integer PRIMARY KEY,
             parent_id integer NOT NULL REFERENCES parents (id) ON DELETE CASCADE);
         INSERT INTO parents VALUES (1, 'ann'), (2, 'bob');
         INSERT INTO children VALUES (1, 1), (2, 1), (3, 2)",
    );
    const REBUILD: Sql = sql(
        "m3_rebuild",
        "CREATE TABLE new_parents (id integer PRIMARY KEY, name text NOT NULL);
         INSERT INTO new_parents SELECT id, name FROM parents;
         DROP TABLE parents;
         ALTER TABLE new_parents RENAME TO parents",
    );
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 3).await;
    let service = newer(&installation, [FAMILY]).await;
    migrate(&service).await;
    let tenants = newer(&installation, [FAMILY, REBUILD]).await;
    let mut handles = Vec::new();
    for id in &ids {
        for process in [&service, &tenants] {
            let data = process.get_adapters(id).await.unwrap();
            add(&data, "in use").await.unwrap();
            handles.push(data);
        }
    }
    let report = migrate(&tenants).await;
    assert_eq!(report.migrated().count(), 3, "{report:?}");
    for file in files(&installation, &ids) {
        let children = column(&file, "SELECT id || ':' || parent_id FROM children ORDER BY id");
        assert_eq!(children, ["1:1", "2:1", "3:2"]);
        assert_eq!(column(&file, "SELECT name FROM parents ORDER BY id"), ["ann", "bob"]);
    }
    for data in &handles {
        use sea_orm::ConnectionTrait as _;
        add(data, "and on").await.unwrap();
        let orphan = "INSERT INTO children (parent_id) VALUES (99)";
        assert!(data.execute_unprepared(orphan).await.is_err(), "foreign keys are watched again");
    }
    handles[0].close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_migrated_is_served_and_not_rewritten() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 2).await;
    let new = newer(&installation, COUNTING).await;
    migrate(&new).await;
    new.shutdown().await.unwrap();
    let before: Vec<_> = files(&installation, &ids).iter().map(|file| dump(file)).collect();

    let old = newer(&installation, [COUNTING[0]]).await;
    let data = old.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(data.schema_version(), Some("m4_count"));
    assert!(notes(&data).await.unwrap().is_empty());
    for verify in [false, true] {
        let report = old.migrate_all(MigrateAll::default().with_verify(verify)).await.unwrap();
        assert_eq!(report.up_to_date().count(), 2, "{report:?}");
    }
    let status = old.status(&ids[1]).await.unwrap();
    assert_eq!(status.schema.unwrap().unknown, ["m3_count", "m4_count"]);
    assert_eq!(status.record.schema_version.as_deref(), Some("m4_count"));
    let after: Vec<_> = files(&installation, &ids).iter().map(|file| dump(file)).collect();
    assert_eq!(after, before);
    let new = newer(&installation, COUNTING).await;
    assert_eq!(migrate(&new).await.up_to_date().count(), 2);
}

const ALONE: Sql = sql("m2_alone", "CREATE TABLE alone (x)").alone();

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_outside_of_transactions_revokes_who_is_served_here() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 1).await;
    let tenants = newer(&installation, [ALONE]).await;
    let data = tenants.get_adapters(&ids[0]).await.unwrap();
    add(&data, "before").await.unwrap();
    assert_eq!(ran(&migrate(&tenants).await), [("t0", vec!["m2_alone"])]);
    assert!(data.is_revoked());
    let error = add(&data, "late").await.unwrap_err();
    assert_eq!(kind_in(&error), Some(ErrorKind::TenantNotActive));
    let fresh = tenants.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(fresh.schema_version(), Some("m2_alone"));
    assert_eq!(notes(&fresh).await.unwrap(), ["before"]);
}

/// The service asks for adapters all the time; each time it would open the database anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_migration_outside_of_transactions_gets_its_turn_under_load() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 1).await;
    let tenants =
        Process::of(&installation).schema(with([ALONE])).drain(Duration::from_secs(5)).open().await;
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let users: Vec<_> = (0..8)
        .map(|_| {
            let (tenants, id) = (tenants.clone(), ids[0].clone());
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let outcome = match tenants.get_adapters(&id).await {
                        Ok(data) => add(&data, "x").await.map_err(|e| kind_in(&e)),
                        Err(error) => Err(Some(error.kind())),
                    };
                    match outcome {
                        Ok(()) => drop(served.fetch_add(1, Ordering::SeqCst)),
                        Err(kind) => assert!(
                            [Some(ErrorKind::TenantNotActive), Some(ErrorKind::InUse)]
                                .contains(&kind),
                            "{kind:?}"
                        ),
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    eventually("service", || async { served.load(Ordering::SeqCst) > 20 }).await;
    let report = migrate(&tenants).await;
    let then = served.load(Ordering::SeqCst);
    eventually("service again", || async { served.load(Ordering::SeqCst) > then }).await;
    over.store(true, Ordering::SeqCst);
    join_all(users).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
    assert_eq!(ran(&report), [("t0", vec!["m2_alone"])], "{report:?}");
    let written = column(&file_of(&installation, "t0", 1), "SELECT text FROM notes").len();
    assert_eq!(written, served.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_outside_of_transactions_waits_for_nobody_elsewhere() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 2).await;
    let service = Process::of(&installation).open().await;
    let data = service.get_adapters(&ids[0]).await.unwrap();
    let tenants = Process::of(&installation)
        .schema(with([ALONE]))
        .drain(Duration::from_millis(100))
        .open()
        .await;
    let report = migrate(&tenants).await;
    assert_eq!(ran(&report), [("t1", vec!["m2_alone"])]);
    let failed: Vec<_> = report.failed().collect();
    let Outcome::Failed { error } = &failed[0].outcome else { panic!("{failed:?}") };
    assert_eq!((failed[0].tenant.as_str(), error.kind()), ("t0", ErrorKind::InUse));
    add(&data, "served on").await.unwrap();
    drop(data);
    service.shutdown().await.unwrap();
    assert_eq!(ran(&migrate(&tenants).await), [("t0", vec!["m2_alone"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_too_old_is_not_served_until_it_is_migrated() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 1).await;
    let tenants = Process::of(&installation)
        .schema(with(COUNTING))
        .settings(|builder| builder.with_min_schema_version("m3_count"))
        .open()
        .await;
    for _ in 0..2 {
        let error = tenants.get_adapters(&ids[0]).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::SchemaOutdated, Some(&ids[0])));
    }
    migrate(&tenants).await;
    let data = tenants.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(data.schema_version(), Some("m4_count"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_is_pending_and_changes_nothing() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 3).await;
    let tenants = newer(&installation, COUNTING).await;
    let before = bytes(&installation.tenants_path());
    let records = tenants.list().await.unwrap();
    let report = tenants.migrate_all(MigrateAll::default().with_dry_run(true)).await.unwrap();
    for one in &report.tenants {
        let Outcome::Pending { pending } = &one.outcome else { panic!("{one:?}") };
        assert_eq!(*pending, ["m2_make", "m3_count", "m4_count"]);
    }
    assert_eq!(report.tenants.len(), ids.len());
    assert!(bytes(&installation.tenants_path()) == before, "nothing is written");
    assert_eq!(tenants.list().await.unwrap(), records);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_left_out_is_reported_with_the_reason() {
    let installation = Installation::new().unwrap();
    fleet(&installation, 3).await;
    let broken = Process::of(&installation)
        .hooks(|isolation| isolation.seed(|_| async { Err::<(), _>("no seed") }))
        .open()
        .await;
    broken.provision(&tenant("broken")).await.unwrap_err();
    broken.suspend(&tenant("t1")).await.unwrap();
    let tenants = newer(&installation, COUNTING).await;
    let report = migrate(&tenants).await;
    let Outcome::Skipped { reason } = &report.tenants[0].outcome else { panic!("{report:?}") };
    assert_eq!(report.tenants[0].tenant.as_str(), "broken");
    assert!(reason.contains("failed"), "{reason}");
    let migrated: Vec<_> = report.migrated().map(|one| one.tenant.as_str()).collect();
    assert_eq!(migrated, ["t0", "t1", "t2"], "a suspended tenant is migrated too");
    assert_eq!(tenants.catalog().get(&tenant("t1")).await.unwrap().state, TenantState::Suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_that_are_named_are_migrated() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 4).await;
    let tenants = newer(&installation, COUNTING).await;
    let some = MigrateAll::default()
        .with_tenants(vec![ids[1].clone(), ids[2].clone()])
        .with_skip(vec![ids[2].clone()]);
    let report = tenants.migrate_all(some).await.unwrap();
    assert_eq!(report.tenants.len(), 1);
    assert_eq!(ran(&report)[0].0, "t1");
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let rest = MigrateAll::default().with_jobs(2).with_progress(move |_, total| {
        assert_eq!(total, 4);
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let report = tenants.migrate_all(rest).await.unwrap();
    assert_eq!((report.migrated().count(), seen.load(Ordering::SeqCst)), (3, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_is_refused_before_anything_is_done() {
    let installation = Installation::new().unwrap();
    let ids = fleet(&installation, 2).await;
    let tenants = newer(&installation, COUNTING).await;
    let before = bytes(&installation.tenants_path());
    let nobody = tenant("nobody");
    for options in [
        MigrateAll::default().with_tenants(vec![ids[0].clone(), nobody.clone()]),
        MigrateAll::default().with_skip(vec![nobody.clone()]),
    ] {
        let error = tenants.migrate_all(options).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::TenantNotFound, Some(&nobody)));
    }
    let none = tenants.migrate_all(MigrateAll::default().with_jobs(0)).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    assert!(bytes(&installation.tenants_path()) == before, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_tenant_is_migrated_first() {
    let installation = Installation::new().unwrap();
    fleet(&installation, 3).await;
    let tenants = Process::of(&installation)
        .schema(with(COUNTING))
        .settings(|builder| {
            builder.with_access_control(AccessControl { main_tenant_id: tenant("t2") })
        })
        .open()
        .await;
    let order: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&order);
    let options = MigrateAll::default().with_jobs(1).with_progress(move |one, _| {
        noted.lock().unwrap().push(one.tenant.to_string());
    });
    let report = tenants.migrate_all(options).await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["t2", "t0", "t1"]);
    assert_eq!(report.tenants[0].tenant.as_str(), "t2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_over_a_factory_that_was_given_another_schema_is_a_setting_to_mend() {
    let installation = Installation::new().unwrap();
    let factory = embedded(&installation);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let other = Runner::new("other_ledger", Vec::new()).unwrap();
    assert_eq!(other.up(&factory, &acme).await.unwrap_err().kind(), ErrorKind::Config);
}

/// What `sea-orm-cli migrate` calls, on a file that was provisioned here.
#[tokio::test(flavor = "multi_thread")]
async fn sea_orms_own_migrator_works_on_a_tenants_file() {
    use mt_migration::Migrator;
    use sea_orm_migration::MigratorTrait as _;

    let installation = Installation::new().unwrap();
    let tenants = installation.open().await.unwrap();
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    tenants.shutdown().await.unwrap();
    let file = file_of(&installation, "acme", 1);
    let url = format!("sqlite://{}", file.display());
    let connection = sea_orm::Database::connect(url).await.unwrap();
    let all = Migrator::migrations().len();
    assert_eq!(Migrator::get_applied_migrations(&connection).await.unwrap().len(), all);
    Migrator::down(&connection, Some(2)).await.unwrap();
    assert_eq!(Migrator::get_pending_migrations(&connection).await.unwrap().len(), 2);
    connection.close().await.unwrap();

    // The catalog believes what it knew; a look finds the two and applies them.
    let tenants = installation.open().await.unwrap();
    let verified = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(verified.migrated().count(), 1);
    tenants.shutdown().await.unwrap();
    let url = format!("sqlite://{}", file.display());
    let connection = sea_orm::Database::connect(url).await.unwrap();
    Migrator::up(&connection, None).await.unwrap();
    assert_eq!(Migrator::get_pending_migrations(&connection).await.unwrap().len(), 0);
}
