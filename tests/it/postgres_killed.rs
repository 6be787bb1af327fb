//! A PostgreSQL that dies while tenants are made, migrated and served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mt_control::{MigrateAll, MultiTenancy, Outcome};
use mt_core::{DataAdapters, ErrorKind, TenantId};
use mt_devservers::Postgres;
use mt_migration::Runner;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, TransactionTrait as _};

use crate::{
    postgres_support::{Server, ids},
    support::{DEADLINE, NOTES, Sql, eventually, runner, sql},
};

/// Each counts itself, so that one that ran twice shows; and one of half leaves a table.
const MORE: [Sql; 3] = [
    sql(
        "m2_runs",
        "CREATE TABLE half_way (x integer); CREATE TABLE runs (number serial, name text); \
         INSERT INTO runs (name) VALUES ('m2_runs')",
    ),
    sql(
        "m3_done",
        "ALTER TABLE notes ADD COLUMN done boolean NOT NULL DEFAULT false; \
         SELECT pg_sleep(0.05); INSERT INTO runs (name) VALUES ('m3_done')",
    ),
    sql(
        "m4_index",
        "CREATE INDEX notes_done ON notes (done); DROP TABLE half_way; \
         INSERT INTO runs (name) VALUES ('m4_index')",
    ),
];

fn newer() -> Runner {
    runner([NOTES].into_iter().chain(MORE))
}

/// What may be said of what was under way when the server died.
fn is_mendable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)
}

/// Kills the server again and again until `is_over`.
async fn fire(server: &Server, is_over: &AtomicBool, pause: Duration) -> usize {
    let mut crashes = 0;
    while !is_over.load(Ordering::SeqCst) && crashes < 6 {
        tokio::time::sleep(pause).await;
        server.crash().await;
        crashes += 1;
    }
    crashes
}

/// Provisions until it has worked; how often it had not.
async fn insist(tenants: &MultiTenancy, id: &TenantId) -> usize {
    let mut failures = 0;
    loop {
        match tenants.provision(id).await {
            Ok(_) => return failures,
            // The answer to the last step was lost, or it stopped half way.
            Err(error) if error.kind() == ErrorKind::TenantExists => return failures,
            Err(error) => {
                assert!(is_mendable(error.kind()) || error.is_transient(), "{error:?}");
                failures += 1;
                assert!(failures < 100, "{error:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Opens what is there. The first call after a crash may find a connection of before.
async fn open(tenants: &MultiTenancy, id: &TenantId) -> DataAdapters {
    for _ in 0..10 {
        match tenants.get_adapters(id).await {
            Ok(data) => return data,
            Err(error) => assert!(is_mendable(error.kind()), "{error:?}"),
        }
    }
    panic!("{id} is not served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_made_through_crashes() {
    const TENANTS: usize = 12;
    // What did not wait for the disk is lost for long.
    let builder = Postgres::builder().setting("wal_writer_delay", "10s");
    let server = Server::start_with(builder).await;
    let tenants = server.open_with(newer(), |factory| factory.with_spare_databases(2)).await;
    let all = ids("t", TENANTS);
    let is_over = AtomicBool::new(false);
    let make = async {
        let mut failures = 0;
        for pair in all.chunks(2) {
            let [a, b] = pair else { unreachable!() };
            let (a, b) = tokio::join!(insist(&tenants, a), insist(&tenants, b));
            failures += a + b;
        }
        is_over.store(true, Ordering::SeqCst);
        failures
    };
    let (failures, crashes) =
        tokio::join!(make, fire(&server, &is_over, Duration::from_millis(400)));
    assert!(crashes > 0 && failures > 0, "{failures} failures in {crashes} crashes");
    for id in &all {
        let data = open(&tenants, id).await;
        data.execute_unprepared("INSERT INTO notes (id, text) VALUES (1, 'a')").await.unwrap();
        let runs = server.column(id, "SELECT name FROM runs ORDER BY number").await;
        assert_eq!(runs, ["m2_runs", "m3_done", "m4_index"], "{id}");
    }
    tenants.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_migrated_through_crashes() {
    const TENANTS: usize = 12;
    let server = Server::start().await;
    let all = ids("t", TENANTS);
    let older = server.open(runner([NOTES])).await;
    for id in &all {
        older.provision(id).await.unwrap();
    }
    older.shutdown().await.unwrap();
    let tenants = server.open(newer()).await;
    let (mut crashed, mut failed) = (0, 0);
    for round in 0_u64.. {
        let migrate = tenants.migrate_all(MigrateAll::default().with_jobs(2));
        let crash = async {
            if round < 3 {
                tokio::time::sleep(Duration::from_millis(60 + 40 * round)).await;
                server.crash().await;
                crashed += 1;
            }
        };
        let (report, ()) = tokio::join!(migrate, crash);
        let report = report.unwrap();
        for one in report.failed() {
            let Outcome::Failed { error } = &one.outcome else { unreachable!() };
            assert!(is_mendable(error.kind()), "{error:?}");
            failed += 1;
        }
        for id in &all {
            // All of it is there, or nothing.
            let tables = "SELECT relname::text FROM pg_class \
                WHERE relname IN ('half_way', 'runs', 'notes_done') ORDER BY 1";
            let tables = server.column(id, tables).await;
            let ledger = server.column(id, "SELECT version FROM seaql_migrations ORDER BY 1").await;
            if tables.is_empty() {
                assert_eq!(ledger, ["m1_notes"], "{id}");
                continue;
            }
            assert_eq!(tables, ["notes_done", "runs"], "{id}");
            assert_eq!(ledger, ["m1_notes", "m2_runs", "m3_done", "m4_index"], "{id}");
            let runs = server.column(id, "SELECT name FROM runs ORDER BY number").await;
            assert_eq!(runs, ["m2_runs", "m3_done", "m4_index"], "{id}");
        }
        if round >= 3 && report.failed().count() == 0 {
            break;
        }
        assert!(round < 20, "{report:?}");
    }
    assert!(crashed == 3 && failed > 0, "{failed} failed in {crashed} crashes");
    let report = tenants.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(report.up_to_date().count(), TENANTS, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_acknowledged_is_lost_and_handles_recover() {
    const TENANTS: usize = 4;
    const WRITERS: usize = 8;
    let server = Server::start().await;
    let tenants = server.open(runner([NOTES])).await;
    let all = ids("t", TENANTS);
    for id in &all {
        tenants.provision(id).await.unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (is_over, written) = (Arc::clone(&is_over), Arc::clone(&written));
        let id = all[writer % TENANTS].clone();
        // One handle for the whole time.
        let data = tenants.get_adapters(&id).await.unwrap();
        writers.push(tokio::spawn(async move {
            let (mut acknowledged, mut failures) = (Vec::new(), 0);
            for number in 0.. {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let row = i32::try_from(writer * 1_000_000 + number).unwrap();
                let insert = format!("INSERT INTO notes (id, text) VALUES ({row}, 'a')");
                let statement = Statement::from_string(DbBackend::Postgres, insert);
                let done = if number % 2 == 0 {
                    data.execute_raw(statement).await.map(drop)
                } else {
                    async {
                        let transaction = data.begin().await?;
                        transaction.execute_raw(statement).await?;
                        sea_orm::TransactionSession::commit(transaction).await
                    }
                    .await
                };
                match done {
                    Ok(()) => {
                        acknowledged.push(row.to_string());
                        written.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(_) => failures += 1,
                }
            }
            (id, acknowledged, failures)
        }));
    }
    for _ in 0..3 {
        let before = written.load(Ordering::SeqCst);
        // The handles that were open go on, each time.
        eventually("writes after a crash", || async {
            written.load(Ordering::SeqCst) > before + 50
        })
        .await;
        server.crash().await;
    }
    let before = written.load(Ordering::SeqCst);
    eventually("writes after the last", || async { written.load(Ordering::SeqCst) > before + 50 })
        .await;
    is_over.store(true, Ordering::SeqCst);
    let mut failures = 0;
    for writer in writers {
        let (id, acknowledged, failed) =
            tokio::time::timeout(DEADLINE, writer).await.unwrap().unwrap();
        failures += failed;
        let there = server.column(&id, "SELECT id::text FROM notes").await;
        let there: std::collections::HashSet<String> = there.into_iter().collect();
        let lost: Vec<_> = acknowledged.iter().filter(|row| !there.contains(*row)).collect();
        assert!(lost.is_empty(), "{id}: {lost:?}");
    }
    assert!(failures > 0, "no call met a crash");
}

/// What a server that dies in the middle of `DROP DATABASE` leaves.
#[tokio::test]
async fn a_removal_that_was_cut_off_is_gone_on_with() {
    let server = Server::start().await;
    let tenants = server.open(runner([NOTES])).await;
    for id in &ids("t", 2) {
        tenants.provision(id).await.unwrap();
    }
    let [gone, kept] = [0, 1].map(|n| ids("t", 2).swap_remove(n));
    let admin = server.connect(&kept).await;
    let half = "UPDATE pg_database SET datallowconn = false, datconnlimit = -2 \
        WHERE datname = 'tenant_t00'";
    admin.execute_unprepared(half).await.unwrap();
    tenants.deprovision(&gone).await.unwrap();
    let left = "SELECT datname::text FROM pg_database WHERE datname LIKE 'tenant\\_t%' ORDER BY 1";
    assert_eq!(server.column(&kept, left).await, ["tenant_t01"]);
    tenants.provision(&gone).await.unwrap();
    open(&tenants, &gone).await;
    admin.close().await.unwrap();
    tenants.shutdown().await.unwrap();
}
