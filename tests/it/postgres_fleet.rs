//! Many databases on few connections, and migrations beside traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_control::{MigrateAll, Outcome};
use mt_core::{CacheSettings, CachedFactory, DatabaseFactory, ErrorKind, FactoryContext};
use mt_devservers::Postgres;
use mt_postgres::PostgresConfig;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, TransactionTrait as _};

use crate::{
    postgres_support::{Server, ids},
    support::{NOTES, Sql, runner, sql},
};

/// Far more databases than connections, all used at once by far more tasks than connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_served_with_few_connections_and_their_own_rows() {
    const TENANTS: usize = 40;
    const TASKS: usize = 64;
    const REQUESTS: usize = 8;
    let builder = Postgres::builder().setting("max_connections", "33");
    let server = Server::start_with(builder).await;
    let context = FactoryContext::new(mt_core::DeploymentId::random())
        .with_template(Arc::new(runner([NOTES])));
    // How long one waits is not what is looked at, and the machine may be busy.
    let mut config = PostgresConfig::default();
    config.acquire_timeout_ms = 120_000;
    let factory = server.factory_with(config).with_context(context).build().unwrap();
    let factory: Arc<dyn DatabaseFactory> = Arc::new(factory);
    let cached = CachedFactory::new(factory, CacheSettings::default().with_max(TENANTS)).unwrap();
    let all = Arc::new(ids("t", TENANTS));
    for half in all.chunks(4) {
        for made in join_all(half.iter().map(|id| cached.provision(id))).await {
            made.unwrap();
        }
    }
    let tasks = (0..TASKS).map(|task| {
        let (cached, all) = (cached.clone(), Arc::clone(&all));
        tokio::spawn(async move {
            for request in 0..REQUESTS {
                let id = &all[(task * 7 + request * 13) % TENANTS];
                let data = cached.get_adapters(id).await.unwrap();
                let row = task * REQUESTS + request;
                let insert = format!("INSERT INTO notes (id, text) VALUES ({row}, '{id}')");
                data.execute_unprepared(&insert).await.unwrap();
                let foreign = format!("SELECT count(*) FROM notes WHERE text <> '{id}'");
                let foreign = Statement::from_string(DbBackend::Postgres, foreign);
                let reads = data.read();
                let found = match request % 2 {
                    0 => data.query_one_raw(foreign).await,
                    _ => reads.query_one_raw(foreign).await,
                };
                assert_eq!(found.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap(), 0);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut rows = 0;
    for id in all.iter() {
        let count = server.column(id, "SELECT count(*)::text FROM notes").await;
        rows += count[0].parse::<usize>().unwrap();
    }
    assert_eq!(rows, TASKS * REQUESTS);
    cached.close(Duration::from_secs(5)).await.unwrap();
}

const LOCKING: Sql = sql("m2_done", "ALTER TABLE notes ADD COLUMN done boolean");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_held_up_gives_way_and_can_be_repeated() {
    let server = Server::start().await;
    let [acme, globex] = ["acme", "globex"].map(crate::support::tenant);
    let older = server.open(runner([NOTES])).await;
    for id in [&acme, &globex] {
        older.provision(id).await.unwrap();
    }
    let data = older.get_adapters(&acme).await.unwrap();
    let held = data.begin().await.unwrap();
    held.execute_unprepared("SELECT count(*) FROM notes").await.unwrap();
    let newer = server.open(runner([NOTES, LOCKING])).await;
    let report = newer.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.migrated().count(), 1, "the others are migrated: {report:?}");
    let failed = report.failed().next().unwrap();
    let Outcome::Failed { error } = &failed.outcome else { unreachable!() };
    assert_eq!((&failed.tenant, error.kind()), (&acme, ErrorKind::Unavailable), "{error:?}");
    let told = error.to_chain();
    assert!(told.contains("m2_done") && told.contains("lock timeout"), "{told}");
    // Whoever holds it goes on, and others were not left waiting.
    data.execute_unprepared("INSERT INTO notes (id, text) VALUES (1, 'a')").await.unwrap();
    sea_orm::TransactionSession::commit(held).await.unwrap();
    let report = newer.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!((report.migrated().count(), report.failed().count()), (1, 0), "{report:?}");
}

/// What cannot be in a transaction, after what can, and before it.
const INDEXED: [Sql; 3] = [
    sql("m2_done", "ALTER TABLE notes ADD COLUMN done boolean; SELECT pg_sleep(0.1)"),
    sql("m3_index", "CREATE INDEX CONCURRENTLY notes_done ON notes (done)").alone(),
    sql("m4_runs", "CREATE TABLE runs (x integer); SELECT pg_sleep(0.1)"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_made_beside_traffic_and_beside_another_migrator() {
    let server = Server::start().await;
    let all = ids("t", 4);
    let older = server.open(runner([NOTES])).await;
    for id in &all {
        older.provision(id).await.unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let traffic = {
        let (data, is_over) = (older.get_adapters(&all[0]).await.unwrap(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut rows = 0;
            while !is_over.load(Ordering::SeqCst) {
                rows += 1;
                let insert = format!("INSERT INTO notes (id, text) VALUES ({rows}, 'a')");
                data.execute_unprepared(&insert).await.unwrap();
            }
            rows
        })
    };
    let schema = || runner([NOTES].into_iter().chain(INDEXED));
    let (one, other) = (server.open(schema()).await, server.open(schema()).await);
    let reports = join_all(
        [&one, &other].map(|tenants| tenants.migrate_all(MigrateAll::default().with_verify(true))),
    )
    .await;
    is_over.store(true, Ordering::SeqCst);
    assert!(traffic.await.unwrap() > 0);
    for report in reports {
        assert_eq!(report.as_ref().unwrap().failed().count(), 0, "{report:?}");
    }
    for id in &all {
        let valid = "SELECT indisvalid::text FROM pg_index \
            JOIN pg_class ON oid = indexrelid WHERE relname = 'notes_done'";
        assert_eq!(server.column(id, valid).await, ["true"], "{id}");
    }
    // A new tenant gets it from the template.
    let new = crate::support::tenant("new");
    one.provision(&new).await.unwrap();
    let ledger = server.column(&new, "SELECT version FROM seaql_migrations ORDER BY 1").await;
    assert_eq!(ledger, ["m1_notes", "m2_done", "m3_index", "m4_runs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_follows_the_ledger_and_is_mended() {
    let server = Server::start().await;
    let acme = crate::support::tenant("acme");
    let older = server.open(runner([NOTES])).await;
    older.provision(&acme).await.unwrap();
    let recorded = || async {
        let sql = "SELECT shobj_description(oid, 'pg_database')::json -> 'schema' ->> 'version' \
            FROM pg_database WHERE datname = current_database()";
        server.column(&acme, sql).await.remove(0)
    };
    assert_eq!(recorded().await, "m1_notes");
    let newer = server.open(runner([NOTES, LOCKING])).await;
    newer.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(recorded().await, "m2_done");
    // Somebody undoes it behind our back; only looking tells.
    let connection = server.connect(&acme).await;
    let undo = "ALTER TABLE notes DROP COLUMN done; \
        DELETE FROM seaql_migrations WHERE version = 'm2_done'";
    connection.execute_unprepared(undo).await.unwrap();
    let believed = newer.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(believed.up_to_date().count(), 1);
    let verify = older.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(verify.up_to_date().count(), 1, "{verify:?}");
    assert_eq!(recorded().await, "m1_notes", "mended by who found nothing to do");
    let verify = newer.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(verify.migrated().count(), 1, "{verify:?}");
    assert_eq!(recorded().await, "m2_done");
    // To the older program it is a schema that it does not know, and neither does the record then.
    let sql = "SELECT coalesce(shobj_description(oid, 'pg_database')::json -> 'schema' ->> \
        'fingerprint', 'none') FROM pg_database WHERE datname = current_database()";
    older.migrate_all(MigrateAll::default().with_verify(true)).await.unwrap();
    assert_eq!(server.column(&acme, sql).await, ["none"]);
    let report = newer.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.up_to_date().count(), 1, "{report:?}");
    assert_ne!(server.column(&acme, sql).await, ["none"]);
}
