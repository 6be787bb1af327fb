//! Migrations while the server dies, and while two programs do the same work.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mt_control::{FleetReport, MigrateAll, MultiTenancy, Outcome};
use mt_core::{ErrorKind, TenantId};
use mt_d1::D1Config;
use mt_migration::Runner;
use serde_json::json;

use crate::{
    d1_support::{Account, ids, migrate, provision, ran},
    support::{NOTES, Sql, runner, sql},
};

/// Each counts itself, so that one that ran twice shows; and one of half leaves a table.
const MORE: [Sql; 3] = [
    sql(
        "m2_runs",
        "CREATE TABLE half_way (x); CREATE TABLE runs (name text); \
         INSERT INTO runs VALUES ('m2_runs')",
    ),
    sql(
        "m3_done",
        "ALTER TABLE notes ADD COLUMN done integer NOT NULL DEFAULT 0; \
         INSERT INTO runs VALUES ('m3_done')",
    ),
    sql(
        "m4_index",
        "CREATE INDEX notes_done ON notes (done); DROP TABLE half_way; \
         INSERT INTO runs VALUES ('m4_index')",
    ),
];

fn newer() -> Runner {
    runner([NOTES].into_iter().chain(MORE))
}

/// Tenants with the oldest schema, made by a process that is gone.
async fn fleet(account: &Account, count: usize) -> Vec<TenantId> {
    let ids = ids("t", count);
    let tenants = account.open(runner([NOTES])).await;
    provision(&tenants, &ids).await;
    tenants.shutdown().await.unwrap();
    ids
}

/// Whether a tenant was migrated; all of it is there, or none.
async fn is_migrated(account: &Account, id: &TenantId) -> bool {
    let objects = "SELECT name FROM sqlite_master \
                   WHERE name IN ('half_way', 'runs', 'notes_done') ORDER BY name";
    let objects = account.rows(id, objects).await;
    let ledger = "SELECT version FROM seaql_migrations ORDER BY version";
    let ledger = account.rows(id, ledger).await;
    let columns = "SELECT name FROM pragma_table_info('notes') ORDER BY cid";
    let columns = account.rows(id, columns).await;
    let oldest = json!([["id"], ["text"]]);
    if json!(objects) == json!([]) {
        assert_eq!((json!(ledger), json!(columns)), (json!([["m1_notes"]]), oldest), "{id}");
        return false;
    }
    assert_eq!(json!(objects), json!([["notes_done"], ["runs"]]), "{id}");
    let names = json!([["m1_notes"], ["m2_runs"], ["m3_done"], ["m4_index"]]);
    assert_eq!(json!(ledger), names, "{id}");
    assert_eq!(json!(columns), json!([["id"], ["text"], ["done"]]), "{id}");
    let runs = account.rows(id, "SELECT name FROM runs ORDER BY rowid").await;
    assert_eq!(json!(runs), json!([["m2_runs"], ["m3_done"], ["m4_index"]]), "{id}");
    true
}

/// What may become of a tenant whose server dies.
fn assert_mendable(report: &FleetReport) {
    for failed in report.failed() {
        let Outcome::Failed { error } = &failed.outcome else { unreachable!() };
        let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
}

/// Migrates, and kills the server once each of `after` requests have come, counted from the kill
/// before.
async fn migrate_under_fire(
    account: &Account,
    tenants: &MultiTenancy,
    after: &[u64],
) -> FleetReport {
    let migrating = {
        let tenants = tenants.clone();
        tokio::spawn(async move { tenants.migrate_all(MigrateAll::default()).await.unwrap() })
    };
    let requests = account.server.requests();
    for more in after {
        let begun = requests.total();
        while requests.total() < begun + more && !migrating.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(!migrating.is_finished(), "it was over before the server died");
        account.server.workerd().kill().unwrap();
        account.server.workerd().restart().await.unwrap();
    }
    migrating.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_again_and_again_leaves_whole_tenants() {
    const TENANTS: usize = 20;
    let account = Account::start().await;
    let ids = fleet(&account, TENANTS).await;
    let tenants = account.open(newer()).await;
    let report = migrate_under_fire(&account, &tenants, &[8, 12, 5]).await;
    assert_mendable(&report);
    let failed = report.failed().count();
    assert_eq!(failed + report.migrated().count(), TENANTS, "{report:?}");
    let mut left = Vec::new();
    for id in &ids {
        if !is_migrated(&account, id).await {
            left.push(id.clone());
        }
    }
    // Whoever was told to be migrated is.
    for one in report.migrated() {
        assert!(!left.contains(&one.tenant), "{one:?}");
    }
    let report = migrate(&tenants).await;
    assert_eq!(ran(&report).iter().map(|(id, _)| (*id).clone()).collect::<Vec<_>>(), left);
    for id in &ids {
        assert!(is_migrated(&account, id).await, "{id}");
    }
    let (requests, report) = account.requests(migrate(&tenants)).await;
    assert_eq!((requests, report.up_to_date().count()), (0, TENANTS));
}

/// A server that is dead, and stays so, before anything was sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_fails_everybody_and_harms_nobody() {
    const TENANTS: usize = 5;
    let account = Account::start().await;
    let ids = fleet(&account, TENANTS).await;
    // Soon given up, because it stays down.
    let mut config = D1Config::default();
    config.operation_timeout_ms = 1_000;
    let hasty = |_| account.factory_with(config);
    let tenants = account.open_with(newer(), hasty, |isolation| isolation).await;
    account.server.workerd().kill().unwrap();
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    account.server.workerd().restart().await.unwrap();
    assert_eq!(report.failed().count(), TENANTS, "{report:?}");
    assert_mendable(&report);
    for id in &ids {
        assert!(!is_migrated(&account, id).await, "{id}");
    }
    assert_eq!(migrate(&tenants).await.migrated().count(), TENANTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_migrate_everybody_once() {
    const TENANTS: usize = 20;
    let account = Account::start().await;
    let ids = fleet(&account, TENANTS).await;
    let (one, other) = (account.open(newer()).await, account.open(newer()).await);
    let done = Arc::new(AtomicUsize::new(0));
    let runs = [&one, &other].map(|tenants| {
        let (tenants, done) = (tenants.clone(), Arc::clone(&done));
        let count = move |_: &_, _| {
            done.fetch_add(1, Ordering::SeqCst);
        };
        let options = MigrateAll::default().with_progress(count);
        tokio::spawn(async move { tenants.migrate_all(options).await.unwrap() })
    });
    let mut migrated = Vec::new();
    for report in futures_util::future::join_all(runs).await {
        let report = report.unwrap();
        assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
        let ran = ran(&report);
        assert!(ran.iter().all(|(_, ran)| ran.len() == MORE.len()), "{ran:?}");
        migrated.extend(ran.iter().map(|(id, _)| (*id).clone()));
    }
    migrated.sort();
    assert_eq!(migrated, ids, "each once");
    assert_eq!(done.load(Ordering::SeqCst), 2 * TENANTS);
    for id in &ids {
        assert!(is_migrated(&account, id).await, "{id}");
    }
    for tenants in [&one, &other] {
        let verify = MigrateAll::default().with_verify(true);
        let report = tenants.migrate_all(verify).await.unwrap();
        assert_eq!(report.up_to_date().count(), TENANTS, "{report:?}");
    }
}
