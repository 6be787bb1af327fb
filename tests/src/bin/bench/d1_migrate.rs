//! How many HTTP requests a tenant costs while it is migrated, counted on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use mt_control::{Catalog, DatabaseIsolation, FleetReport, MigrateAll, MultiTenancy};
use mt_core::{DatabaseFactory, TenantId};
use mt_devservers::{D1, d1::Requests};
use mt_migration::{Migrator, Runner};
use mt_tests::{Installation, tenant};
use sea_orm_migration::MigratorTrait as _;
use serde_json::{Value, json};

use crate::{d1::factory, figure::Figure};

/// How many tenants are migrated in each way.
const TENANTS: usize = 10;

/// Tenants that have nothing but their stamp.
struct Fleet {
    server: D1,
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
            Self { server: D1::start().await?, home: Installation::new()?, by_runner, by_all };
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

    /// What tenants cost by `Runner::up`, in a process that has just started.
    async fn by_runner(&self, expected: usize) -> Result<Costs> {
        let process = self.open(Runner::of::<Migrator>()?).await?;
        let requests = self.server.requests();
        requests.reset();
        for tenant in &self.by_runner {
            let report = process.schema.up(&*process.factory, tenant).await?;
            ensure!(report.ran.len() == expected, "{} migrations ran", report.ran.len());
        }
        let costs = Costs::of(requests)?;
        process.tenants.shutdown().await?;
        Ok(costs)
    }

    /// What tenants cost by `migrate_all`, in a process that has just started.
    async fn by_all(&self, options: MigrateAll, expected: usize) -> Result<Costs> {
        let process = self.open(Runner::of::<Migrator>()?).await?;
        let requests = self.server.requests();
        requests.reset();
        let options = options.with_tenants(self.by_all.clone());
        let report = process.tenants.migrate_all(options).await?;
        let costs = Costs::of(requests)?;
        check(&report, expected)?;
        process.tenants.shutdown().await?;
        Ok(costs)
    }
}

fn check(report: &FleetReport, expected: usize) -> Result<()> {
    let done = if expected == 0 { report.up_to_date().count() } else { report.migrated().count() };
    ensure!(done == TENANTS, "{done} of {TENANTS} did what was measured");
    Ok(())
}

/// How many requests tenants took.
#[derive(Clone, Copy)]
struct Costs {
    /// All of them together.
    total: u64,
    /// One of them, at most.
    most: u64,
}

impl Costs {
    fn of(requests: &Requests) -> Result<Self> {
        let mut counts = BTreeMap::<_, u64>::new();
        for (call, count) in requests.all() {
            let database = call.database.context("a request meant no database")?;
            *counts.entry(database).or_default() += count;
        }
        let databases: BTreeSet<_> = counts.keys().collect();
        let asked = databases.len();
        ensure!(asked == 0 || asked == TENANTS, "{asked} databases were asked");
        let most = counts.values().copied().max().unwrap_or_default();
        Ok(Self { total: counts.values().sum(), most })
    }

    fn each(self) -> f64 {
        self.total as f64 / TENANTS as f64
    }

    fn to_json(self) -> Value {
        json!({ "each": self.each(), "most": self.most })
    }
}

/// With every migration of the reference schema pending.
pub(crate) async fn pending() -> Result<Figure> {
    let fleet = Fleet::make().await?;
    let expected = Migrator::migrations().len();
    let by_runner = fleet.by_runner(expected).await?;
    let by_all = fleet.by_all(MigrateAll::default(), expected).await?;
    ensure!(by_runner.total > 0 && by_all.total > 0, "requests were not counted");
    let conditions = json!({
        "tenants": TENANTS,
        "migrations": expected,
        "state": "all migrations pending, in a process that has just started",
        "counted": "HTTP requests, of whatever kind, of each tenant",
        "runner_up": by_runner.to_json(),
        "migrate_all": by_all.to_json(),
    });
    Ok(Figure { value: by_runner.most.max(by_all.most) as f64, conditions })
}

/// With nothing pending: where every database is looked at, and where the catalog is believed.
pub(crate) async fn noop() -> Result<Figure> {
    let fleet = Fleet::make().await?;
    let expected = Migrator::migrations().len();
    fleet.by_runner(expected).await?;
    fleet.by_all(MigrateAll::default(), expected).await?;
    let by_runner = fleet.by_runner(0).await?;
    let verified = fleet.by_all(MigrateAll::default().with_verify(true), 0).await?;
    ensure!(by_runner.total > 0 && verified.total > 0, "requests were not counted");
    let by_catalog = fleet.by_all(MigrateAll::default(), 0).await?;
    let believed = by_catalog.total;
    ensure!(believed == 0, "{believed} requests where the catalog knows, expected none");
    let conditions = json!({
        "tenants": TENANTS,
        "migrations": expected,
        "state": "nothing pending, in a process that has just started",
        "counted": "HTTP requests, of whatever kind, of each tenant",
        "runner_up": by_runner.to_json(),
        "migrate_all_verify": verified.to_json(),
        "migrate_all_through_the_catalog": by_catalog.to_json(),
    });
    Ok(Figure { value: by_runner.most.max(verified.most) as f64, conditions })
}
