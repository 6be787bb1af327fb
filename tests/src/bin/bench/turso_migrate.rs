//! How many HTTP requests reach a tenant's database while it is migrated, counted on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use mt_control::{Catalog, DatabaseIsolation, FleetReport, MigrateAll, MultiTenancy};
use mt_core::{DatabaseFactory, TenantId};
use mt_devservers::{Turso, turso::Requests};
use mt_migration::{Migrator, Runner};
use mt_tests::{Installation, tenant};
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;

use crate::{figure::Figure, turso::factory};

/// How many tenants are migrated in each way.
const TENANTS: usize = 10;

/// Tenants that have nothing but their stamp.
struct Fleet {
    server: Turso,
    home: Installation,
    by_runner: Vec<TenantId>,
    by_all: Vec<TenantId>,
}

/// One process: a factory of its own, which knows nothing yet.
struct Process {
    schema: Runner,
    factory: Arc<dyn DatabaseFactory>,
    tenants: MultiTenancy,
}

impl Fleet {
    async fn make() -> Result<Self> {
        let ids = |prefix: &str| -> Result<Vec<TenantId>> {
            (0..TENANTS).map(|n| tenant(&format!("{prefix}{n}"))).collect()
        };
        let (by_runner, by_all) = (ids("r")?, ids("a")?);
        let fleet =
            Self { server: Turso::start().await?, home: Installation::new()?, by_runner, by_all };
        let schema = Runner::of::<Migrator>()?;
        let process = fleet.open(Runner::new(schema.ledger(), Vec::new())?).await?;
        for tenant in fleet.by_runner.iter().chain(&fleet.by_all) {
            process.tenants.provision(tenant).await?;
        }
        process.tenants.shutdown().await?;
        Ok(fleet)
    }

    async fn open(&self, schema: Runner) -> Result<Process> {
        let catalog = Catalog::open(self.home.path().join("control.db")).await?;
        let factory = factory(&self.server).with_context(catalog.context(&schema)).build()?;
        let factory: Arc<dyn DatabaseFactory> = Arc::new(factory);
        let tenants = MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(schema.clone())
            .with_database_isolation(DatabaseIsolation::new(Arc::clone(&factory)))
            .build()
            .await?;
        Ok(Process { schema, factory, tenants })
    }

    /// The most requests that one tenant took, by `Runner::up` and by `migrate_all`, each in a
    /// process that has just started.
    async fn migrate(&self, expected: usize) -> Result<[u64; 2]> {
        let process = self.open(Runner::of::<Migrator>()?).await?;
        let requests = self.server.requests();
        requests.reset();
        for tenant in &self.by_runner {
            let report = process.schema.up(&*process.factory, tenant).await?;
            ensure!(report.ran.len() == expected, "{} migrations ran", report.ran.len());
        }
        let by_runner = most(requests)?;
        process.tenants.shutdown().await?;

        let process = self.open(Runner::of::<Migrator>()?).await?;
        requests.reset();
        let options = MigrateAll::default().with_tenants(self.by_all.clone()).with_verify(true);
        let report = process.tenants.migrate_all(options).await?;
        let by_all = most(requests)?;
        check(&report, expected)?;
        process.tenants.shutdown().await?;
        Ok([by_runner, by_all])
    }
}

fn check(report: &FleetReport, expected: usize) -> Result<()> {
    let done = if expected == 0 { report.up_to_date().count() } else { report.migrated().count() };
    ensure!(done == TENANTS, "{done} of {TENANTS} did what was measured");
    Ok(())
}

/// The most requests that one database took, of those that were all asked.
fn most(requests: &Requests) -> Result<u64> {
    let mut counts = BTreeMap::<_, u64>::new();
    for (call, count) in requests.all() {
        let database = call.database.context("a request meant no database")?;
        *counts.entry(database).or_default() += count;
    }
    let databases: BTreeSet<_> = counts.keys().collect();
    ensure!(databases.len() == TENANTS, "{} databases were asked", databases.len());
    Ok(counts.into_values().max().unwrap_or_default())
}

/// With every migration of the reference schema pending.
pub(crate) async fn pending() -> Result<Figure> {
    let fleet = Fleet::make().await?;
    let counted = fleet.migrate(Migrator::migrations().len()).await?;
    Ok(figure(counted, "all migrations pending"))
}

/// With nothing pending, and the catalog not believed.
pub(crate) async fn noop() -> Result<Figure> {
    let fleet = Fleet::make().await?;
    fleet.migrate(Migrator::migrations().len()).await?;
    let counted = fleet.migrate(0).await?;
    Ok(figure(counted, "nothing pending, every database looked at"))
}

fn figure([by_runner, by_all]: [u64; 2], state: &str) -> Figure {
    let conditions = json!({
        "tenants": TENANTS,
        "migrations": Migrator::migrations().len(),
        "state": state,
        "counted": "requests to a tenant's database, the most of any tenant; tokens are the platform's and are not among them",
        "runner_up": by_runner,
        "migrate_all": by_all,
    });
    Figure { value: by_runner.max(by_all) as f64, conditions }
}
