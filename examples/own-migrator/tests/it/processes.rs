//! Processes that work on the same data at once, that are killed, and that run out of room.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use multi_tenancy::{Catalog, TenantId, TenantState};
use own_migrator::Migrator;
use sea_orm::{ConnectionTrait, Database, EntityTrait as _, PaginatorTrait as _, Statement};
use sea_orm_migration::{MigratorTrait as _, seaql_migrations};
use serde_json::Value;

use crate::{FirstRelease, PROGRAM, answer, close, command, open, project, run};

/// Only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn file_of(data: &Path, tenant: &str) -> PathBuf {
    data.join(format!("tenants/tenant_{tenant}.sqlite"))
}

fn spawn(data: &Path, args: &[&str]) -> Child {
    let mut command = command(Command::new(PROGRAM), data, args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command that can write no file longer than `blocks` of 512 bytes. It is told so as it is
/// told that a disk is full, and not killed for trying.
fn run_limited(data: &Path, blocks: u32, args: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -f "$1" && trap '' XFSZ && shift && exec "$@""#, "sh"]);
    shell.arg(blocks.to_string()).arg(PROGRAM);
    command(shell, data, args).output().unwrap()
}

/// The kind of the error a command ended with.
fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["error"]["kind"].as_str().unwrap().to_owned()
}

/// What is in the tenants' folder, but for locks and what SQLite keeps beside a database.
fn databases(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("tenants")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_beside = |name: &String| ["-wal", "-shm", ".lock"].iter().any(|end| name.ends_with(end));
    names.filter(|name| !is_beside(name)).collect()
}

#[tokio::test]
async fn two_migrate_alls_at_once_apply_each_migration_once() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let tenants: Vec<TenantId> =
        (0..24).map(|number| TenantId::new(format!("t{number}")).unwrap()).collect();
    let first = open::<FirstRelease>(data).await;
    for tenant in &tenants {
        first.provision(tenant).await.unwrap();
        let db = first.get_adapters(tenant).await.unwrap();
        let insert = format!("INSERT INTO projects (name) VALUES ('{tenant}')");
        db.execute_unprepared(&insert).await.unwrap();
    }
    close(first).await;

    let both = [(); 2].map(|()| spawn(data, &["migrate-all", "--verify"]));
    let mut applied: Vec<String> = Vec::new();
    for child in both {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let seen = report["tenants"].as_array().unwrap();
        assert_eq!(seen.len(), tenants.len(), "{text}");
        for one in seen {
            let ran = one["ran"].as_array().into_iter().flatten();
            applied.extend(ran.map(|name| format!("{}: {name}", one["tenant"])));
        }
    }
    let mut expected: Vec<String> = tenants
        .iter()
        .map(|tenant| format!("\"{tenant}\": \"m20260612_000001_archive_projects\""))
        .collect();
    applied.sort();
    expected.sort();
    assert_eq!(applied, expected, "by one of the two");

    let names: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let second = open::<Migrator>(data).await;
    for tenant in &tenants {
        let db = second.get_adapters(tenant).await.unwrap();
        let ledger = seaql_migrations::Entity::find().all(&db).await.unwrap();
        let recorded: Vec<String> = ledger.into_iter().map(|row| row.version).collect();
        assert_eq!(recorded, names, "{tenant}");
        assert_eq!(project::Entity::find().all(&db).await.unwrap().len(), 1);
    }
    close(second).await;
}

/// Kills a `provision` once `is_time`, or lets it end before, and looks what is left and whether
/// the next one goes on. Answers the state in which the tenant was left, and whether it had a
/// database then.
async fn provision_killed(is_time: impl Fn(&Path) -> bool) -> (Option<TenantState>, bool) {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let mut child = spawn(data, &["provision", "acme"]);
    let began = Instant::now();
    while !is_time(data) && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE);
        thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let file = file_of(data, "acme");
    let is_there = file.exists();
    if is_there {
        assert_whole(&file).await;
    }
    let catalog = Catalog::open(data.join("control.db")).await.unwrap();
    let state = catalog.find(&acme()).await.unwrap().map(|record| record.state);
    catalog.close().await.unwrap();
    let possible = [None, Some(TenantState::Provisioning), Some(TenantState::Active)];
    assert!(possible.contains(&state), "{state:?}");
    assert!(is_there || state != Some(TenantState::Active), "no tenant without a database");

    if state == Some(TenantState::Active) {
        assert_eq!(failure(&run(data, &["provision", "acme"])), "tenant_exists");
    } else {
        answer(data, &["provision", "acme"]);
    }
    let app = open::<Migrator>(data).await;
    let record = app.catalog().get(&acme()).await.unwrap();
    assert_eq!((record.state, record.last_error), (TenantState::Active, None));
    let db = app.get_adapters(&acme()).await.unwrap();
    assert_eq!(project::Entity::find().count(&db).await.unwrap(), 0);
    drop(db);
    close(app).await;
    assert_whole(&file).await;
    (state, is_there)
}

/// A sound database, stamped and migrated, as SQLite itself sees it.
async fn assert_whole(file: &Path) {
    let db = Database::connect(format!("sqlite://{}?mode=rw", file.display())).await.unwrap();
    let text = async |query: &str| -> String {
        let statement = Statement::from_string(db.get_database_backend(), query);
        db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    };
    assert_eq!(text("PRAGMA integrity_check").await, "ok");
    assert_eq!(text("SELECT tenant FROM _mt_tenant").await, "acme");
    let applied = seaql_migrations::Entity::find().count(&db).await.unwrap();
    assert_eq!(applied, Migrator::migrations().len() as u64);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_provision_that_is_killed_leaves_a_whole_database_or_none() {
    let began = Instant::now();
    let data = tempfile::tempdir().unwrap();
    answer(data.path(), &["provision", "acme"]);
    let whole = began.elapsed();
    for step in 0..24 {
        let began = Instant::now();
        provision_killed(|_| began.elapsed() >= whole * step / 20).await;
    }
}

#[tokio::test]
async fn a_provision_that_is_killed_is_gone_on_with() {
    let deadline = Instant::now() + PATIENCE;
    let is_reserved = |data: &Path| data.join("tenants").exists();
    let is_made = |data: &Path| file_of(data, "acme").exists();
    // A process that is faster than the one that watches it is tried again.
    while provision_killed(is_reserved).await != (Some(TenantState::Provisioning), false) {
        assert!(Instant::now() < deadline, "never killed before the database was there");
    }
    while provision_killed(is_made).await != (Some(TenantState::Provisioning), true) {
        assert!(Instant::now() < deadline, "never killed after the database was there");
    }
}

#[test]
fn a_provision_without_room_makes_nothing_and_succeeds_later() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    // The catalog is there, and 32 KiB is what SQLite needs beside it. A tenant is a bit more.
    answer(data, &["provision", "globex"]);
    let size = std::fs::metadata(file_of(data, "globex")).unwrap().len();
    assert!(size > 64 * 512, "{size}");
    let kind = failure(&run_limited(data, 64, &["provision", "acme"]));
    // The migrations that make the first tenant of a process come before its file, and of a limit
    // SQLite only tells that the disk failed.
    assert!(["quota_exceeded", "migration_failed"].contains(&&*kind), "{kind}");
    assert_eq!(databases(data), ["tenant_globex.sqlite"]);
    answer(data, &["status", "globex"]);

    answer(data, &["provision", "acme"]);
    answer(data, &["status", "acme"]);
}

#[tokio::test]
async fn a_restore_without_room_replaces_nothing_and_succeeds_later() {
    let home = tempfile::tempdir().unwrap();
    let (data, copy) = (&home.path().join("data"), home.path().join("acme.tar"));
    let copy = copy.to_str().unwrap();
    std::fs::create_dir(data).unwrap();
    answer(data, &["provision", "acme"]);
    let app = open::<Migrator>(data).await;
    let db = app.get_adapters(&acme()).await.unwrap();
    let insert = "INSERT INTO projects (name) VALUES (hex(randomblob(500000)))";
    db.execute_unprepared(insert).await.unwrap();
    drop(db);
    close(app).await;
    answer(data, &["backup", "acme", "--to", copy]);
    let kept = project_count(data, "acme").await;

    for args in [
        &["restore", "acme", "--from", copy][..],
        &["restore", "acme", "--from", copy, "--as", "initech"],
    ] {
        // The catalog fits into 256 KiB, the copy does not.
        assert_eq!(failure(&run_limited(data, 512, args)), "quota_exceeded", "{args:?}");
        assert_eq!(databases(data), ["tenant_acme.sqlite"], "{args:?}");
        assert_eq!(project_count(data, "acme").await, kept);
    }
    // Who is half made of a backup is not made empty by the next `provision`; it is removed first.
    assert_eq!(failure(&run(data, &["provision", "initech"])), "conflict");
    answer(data, &["deprovision", "initech", "--confirm", "initech"]);
    answer(data, &["restore", "acme", "--from", copy]);
    answer(data, &["restore", "acme", "--from", copy, "--as", "initech"]);
    for tenant in ["acme", "initech"] {
        assert_eq!(project_count(data, tenant).await, kept);
    }
}

async fn project_count(data: &Path, tenant: &str) -> u64 {
    let app = open::<Migrator>(data).await;
    let db = app.get_adapters(&TenantId::new(tenant).unwrap()).await.unwrap();
    let count = project::Entity::find().count(&db).await.unwrap();
    drop(db);
    close(app).await;
    count
}
