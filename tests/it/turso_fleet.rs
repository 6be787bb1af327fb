//! Many tenants on one libSQL server: made, migrated and used at once.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mt_control::{Catalog, DatabaseIsolation, MigrateAll, MultiTenancy, Outcome};
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind, TenantId};
use mt_devservers::Turso;
use mt_migration::{Migrator, Runner};
use mt_turso::{TursoFactory, TursoFactoryBuilder};
use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, Statement, TransactionSession as _,
    TransactionTrait as _,
};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::support::{NOTES, Sql, runner, sql, tenant};

const MORE: [Sql; 2] = [
    sql("m2_done", "ALTER TABLE notes ADD COLUMN done integer NOT NULL DEFAULT 0"),
    sql("m3_index", "CREATE INDEX notes_done ON notes (done); CREATE TABLE tags (tag text)"),
];

fn settings(server: &Turso) -> TursoFactoryBuilder {
    TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
}

async fn tenants(
    folder: &Path,
    schema: Runner,
    builder: TursoFactoryBuilder,
) -> (MultiTenancy, Arc<TursoFactory>) {
    let catalog = Catalog::open(folder.join("control.db")).await.unwrap();
    let factory = builder.with_context(catalog.context(&schema)).build().unwrap();
    let factory = Arc::new(factory);
    let isolation =
        DatabaseIsolation::new(Arc::clone(&factory) as Arc<dyn mt_core::DatabaseFactory>);
    let tenants = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(isolation)
        .with_schema(schema)
        .build()
        .await
        .unwrap();
    (tenants, factory)
}

async fn provision(tenants: &MultiTenancy, ids: &[TenantId]) {
    stream::iter(ids.to_vec())
        .map(|id| async move { tenants.provision(&id).await })
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
}

fn ids(count: usize) -> Vec<TenantId> {
    (0..count).map(|n| tenant(&format!("t{n:04}"))).collect()
}

fn text(sql: &str, value: &str) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [value.into()])
}

/// One of several kinds of work, and a look at everything that is there: all of it the tenant's.
async fn work(data: &DataAdapters, kind: u64, number: u64) -> Result<u64, DbErr> {
    let note = format!("{}:{number}", data.tenant());
    let insert = || text("INSERT INTO notes (text) VALUES (?)", &note);
    let written = match kind {
        0 => {
            data.execute_raw(insert()).await?;
            1
        }
        1 => {
            data.batch(vec![insert(), insert()]).await?;
            2
        }
        2 => {
            let transaction = data.begin().await?;
            transaction.execute_raw(insert()).await?;
            transaction.commit().await?;
            1
        }
        _ => 0,
    };
    let all = Statement::from_string(DbBackend::Sqlite, "SELECT text FROM notes");
    let rows = if kind == 3 {
        data.read().query_all_raw(all).await?
    } else {
        data.query_all_raw(all).await?
    };
    let own = format!("{}:", data.tenant());
    for row in rows {
        let text: String = row.try_get("", "text")?;
        assert!(text.starts_with(&own), "{} sees {text}", data.tenant());
    }
    Ok(written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tenants_see_their_own_rows_and_no_error() {
    const TENANTS: usize = 1_000;
    const TASKS: u64 = 64;
    const CALLS: u64 = 40;
    let (server, folder) = (Turso::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ids = ids(TENANTS);
    let (before, _) = tenants(folder.path(), runner([NOTES]), settings(&server)).await;
    provision(&before, &ids).await;
    before.shutdown().await.unwrap();

    let (fleet, _) =
        tenants(folder.path(), runner([NOTES].into_iter().chain(MORE)), settings(&server)).await;
    let report = fleet.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
    assert_eq!(report.migrated().count(), TENANTS);

    let written = Arc::new(AtomicU64::new(0));
    let tasks = (0..TASKS).map(|task| {
        let (fleet, ids, written) = (fleet.clone(), ids.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            for call in 0..CALLS {
                // Some tenants are asked for by several tasks at once, all are asked for.
                let number = task * CALLS + call;
                let chosen = usize::try_from(number * 7919 % 1_000).unwrap();
                let data = fleet.get_adapters(&ids[chosen]).await.unwrap();
                let done = work(&data, number % 4, number).await.unwrap();
                written.fetch_add(done, Ordering::Relaxed);
            }
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }

    let counts = stream::iter(&ids).then(|id| {
        let fleet = &fleet;
        async move {
            let data = fleet.get_adapters(id).await.unwrap();
            let count =
                Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) AS n FROM notes");
            let row = data.query_one_raw(count).await.unwrap().unwrap();
            row.try_get::<i64>("", "n").unwrap()
        }
    });
    let stored: i64 = counts.fold(0, async |sum, n| sum + n).await;
    assert_eq!(stored.unsigned_abs(), written.load(Ordering::Relaxed));
}

#[tokio::test]
async fn migrations_cost_one_request_for_looking_and_one_for_all_of_them() {
    let (server, folder) = (Turso::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ids = ids(5);
    let empty = Runner::new("seaql_migrations", Vec::new()).unwrap();
    let (before, _) = tenants(folder.path(), empty, settings(&server)).await;
    provision(&before, &ids).await;
    before.shutdown().await.unwrap();

    let schema = Runner::of::<Migrator>().unwrap();
    let (fleet, factory) = tenants(folder.path(), schema.clone(), settings(&server)).await;
    let count = async |options: MigrateAll| {
        server.requests().reset();
        let report = fleet.migrate_all(options).await.unwrap();
        assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
        (report.migrated().count(), server.requests().total())
    };
    assert_eq!(count(MigrateAll::default()).await, (5, 10));
    assert_eq!(count(MigrateAll::default()).await, (0, 0));
    assert_eq!(count(MigrateAll::default().with_verify(true)).await, (0, 5));
    for id in &ids {
        assert!(schema.status(&*factory, id).await.unwrap().is_current());
    }
}

/// Reads what it wrote, and writes by what it read.
struct Counts;

impl MigrationName for Counts {
    fn name(&self) -> &str {
        "m2_counts"
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Counts {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let updated = db.execute_raw(text("UPDATE tally SET n = n + 1, seen = ?", "yes")).await?;
        assert_eq!(updated.rows_affected(), 1);
        let select = Statement::from_string(DbBackend::Sqlite, "SELECT n FROM tally");
        let rows = db.query_all_raw(select).await?;
        let n: i64 = rows[0].try_get("", "n")?;
        db.execute_unprepared(&format!("INSERT INTO runs VALUES ({n})")).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_that_read_back_run_once_in_two_programs_at_once() {
    const TALLY: Sql = sql(
        "m1_tally",
        "CREATE TABLE tally (n integer NOT NULL, seen text); CREATE TABLE runs (n integer);
         INSERT INTO tally (n) VALUES (0)",
    );
    let (server, folder) = (Turso::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ids = ids(20);
    let (before, _) = tenants(folder.path(), runner([TALLY]), settings(&server)).await;
    provision(&before, &ids).await;
    before.shutdown().await.unwrap();
    let schema = || Runner::new("seaql_migrations", vec![Box::new(TALLY), Box::new(Counts)]);
    let (one, _) = tenants(folder.path(), schema().unwrap(), settings(&server)).await;
    let (other, _) = tenants(folder.path(), schema().unwrap(), settings(&server)).await;
    let runs = [&one, &other].map(|fleet| {
        let fleet = fleet.clone();
        tokio::spawn(async move { fleet.migrate_all(MigrateAll::default()).await.unwrap() })
    });
    let mut ran = 0;
    for report in futures_util::future::join_all(runs).await {
        let report = report.unwrap();
        assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
        for migrated in report.migrated() {
            let Outcome::Migrated { ran: names, not_atomic } = &migrated.outcome else {
                unreachable!()
            };
            assert_eq!((names.as_slice(), not_atomic.len()), (&["m2_counts".to_owned()][..], 0));
            ran += 1;
        }
    }
    assert_eq!(ran, ids.len());
    for id in &ids {
        let data = one.get_adapters(id).await.unwrap();
        let all = "SELECT tally.n, runs.n AS run FROM tally, runs";
        let all = Statement::from_string(DbBackend::Sqlite, all);
        let rows = data.query_all_raw(all).await.unwrap();
        let of = |column| rows[0].try_get::<i64>("", column).unwrap();
        assert_eq!((rows.len(), of("n"), of("run")), (1, 1, 1), "{id}");
    }
}

#[tokio::test]
async fn a_server_killed_while_migrating_leaves_whole_tenants() {
    let (server, folder) = (Turso::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ids = ids(40);
    let (before, _) = tenants(folder.path(), runner([NOTES]), settings(&server)).await;
    provision(&before, &ids).await;
    before.shutdown().await.unwrap();
    let (fleet, factory) =
        tenants(folder.path(), runner([NOTES].into_iter().chain(MORE)), settings(&server)).await;
    let migrating = {
        let fleet = fleet.clone();
        tokio::spawn(async move { fleet.migrate_all(MigrateAll::default()).await.unwrap() })
    };
    // In the midst of it, as the server's own count of requests tells.
    let begun = server.requests().total();
    while server.requests().total() < begun + 50 {
        tokio::task::yield_now().await;
    }
    server.sqld().kill().unwrap();
    let report = migrating.await.unwrap();
    server.sqld().restart().await.unwrap();
    for failed in report.failed() {
        let Outcome::Failed { error } = &failed.outcome else { unreachable!() };
        let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
    for id in &ids {
        let applied = factory.describe(id).await.unwrap().applied;
        assert!([1, 3].contains(&applied.len()), "{id}: {applied:?}");
    }
    let report = fleet.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
    for id in &ids {
        assert_eq!(factory.describe(id).await.unwrap().applied.len(), 3);
        work(&fleet.get_adapters(id).await.unwrap(), 0, 1).await.unwrap();
    }
}

#[tokio::test]
async fn new_databases_are_copied_from_a_template() {
    let (server, folder) = (Turso::start().await.unwrap(), tempfile::tempdir().unwrap());
    let schema = Runner::of::<Migrator>().unwrap();
    let builder = settings(&server).with_seed_from_template(true);
    let (fleet, factory) = tenants(folder.path(), schema.clone(), builder).await;
    let ids = ids(3);
    provision(&fleet, &ids).await;
    for id in &ids {
        assert!(schema.status(&*factory, id).await.unwrap().is_current());
        assert_eq!(fleet.get_adapters(id).await.unwrap().stamp().tenant, *id);
    }
    let all: Vec<_> = factory.platform().databases(Default::default()).try_collect().await.unwrap();
    let template: Vec<_> = all.iter().filter(|d| d.name.starts_with("tenant--t")).collect();
    assert_eq!((all.len(), template.len()), (4, 1));
    // Nobody's: not listed, not served.
    let listed: Vec<_> = factory.list().try_collect().await.unwrap();
    assert_eq!(listed.len(), 3);

    // A template that went away is made again.
    factory.platform().delete_database(&template[0].name).await.unwrap();
    let newcomer = tenant("newcomer");
    if fleet.provision(&newcomer).await.is_err() {
        fleet.provision(&newcomer).await.unwrap();
    }
    assert!(schema.status(&*factory, &newcomer).await.unwrap().is_current());
}
