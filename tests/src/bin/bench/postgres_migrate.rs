//! Migrating a fleet on a real PostgreSQL that writes durably: theirs is a loop of SeaORM's migrator.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mt_control::{Catalog, DatabaseIsolation, MigrateAll, MultiTenancy};
use mt_core::{DatabaseFactory, SchemaTemplate as _, TenantId};
use mt_devservers::Postgres;
use mt_migration::{Migrator, Runner};
use mt_tests::Installation;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;

use crate::{
    figure::{Figure, millis, rounded, settle},
    postgres::{connect, factory, migrate, tenants},
};

/// A server, and a catalog of the tenants on it.
struct Fleet {
    server: Postgres,
    home: Installation,
}

/// One process.
struct Process {
    factory: Arc<dyn DatabaseFactory>,
    all: MultiTenancy,
}

impl Fleet {
    async fn start() -> Result<Self> {
        let server = Postgres::builder().durable().start().await?;
        Ok(Self { server, home: Installation::new()? })
    }

    async fn open(&self, schema: &Runner) -> Result<Process> {
        let catalog = Catalog::open(self.home.path().join("control.db")).await?;
        let factory = factory(&self.server)?.with_context(catalog.context(schema)).build()?;
        let factory: Arc<dyn DatabaseFactory> = Arc::new(factory);
        let all = MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(schema.clone())
            .with_database_isolation(DatabaseIsolation::new(Arc::clone(&factory)))
            .build()
            .await?;
        Ok(Process { factory, all })
    }
}

/// Every migration of the reference schema pending, a new fleet in each round.
pub(crate) async fn pending() -> Result<Figure> {
    const TENANTS: usize = 24;
    const ROUNDS: usize = 3;
    let fleet = Fleet::start().await?;
    let schema = Runner::of::<Migrator>()?;
    let empty = fleet.open(&Runner::new(schema.ledger(), Vec::new())?).await?;
    let process = fleet.open(&schema).await?;
    let admin = connect(&fleet.server, "postgres").await?;
    let (mut their_time, mut our_time) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let ours = tenants(&format!("t{round}-"), TENANTS)?;
        for (n, tenant) in ours.iter().enumerate() {
            empty.all.provision(tenant).await?;
            admin.execute_unprepared(&format!("CREATE DATABASE theirs_{round}_{n}")).await?;
        }
        settle();
        let began = Instant::now();
        for n in 0..TENANTS {
            migrate(&fleet.server, &format!("theirs_{round}_{n}")).await?;
        }
        their_time += began.elapsed();
        settle();
        let began = Instant::now();
        let done = process.all.migrate_all(MigrateAll::default().with_tenants(ours)).await?;
        our_time += began.elapsed();
        let migrated = done.migrated().count();
        ensure!(migrated == TENANTS, "{migrated} of {TENANTS} were migrated");
    }
    let (theirs, ours) = (millis(their_time, ROUNDS * TENANTS), millis(our_time, ROUNDS * TENANTS));
    let conditions = json!({
        "tenants": TENANTS,
        "rounds": ROUNDS,
        "migrations": Migrator::migrations().len(),
        "server": "on loopback by TCP, fsync on, settings as they come",
        "theirs": "SeaORM connect, Migrator::up, close, one tenant after the other",
        "ours": "MultiTenancy::migrate_all, catalog included, 8 at once",
        "theirs_ms_each": theirs,
        "ours_ms_each": ours,
    });
    Ok(Figure { value: theirs / ours, conditions })
}

/// Nothing pending, in the same databases: their loop; every ledger looked at; and what is recorded,
/// in one question.
struct Nothing {
    tenants: usize,
    theirs: Duration,
    verify: Duration,
    recorded: Duration,
    by_catalog: Duration,
}

/// How often the one question is asked in each round: once is too short to be measured.
const QUESTIONS: u32 = 10;

async fn nothing(count: usize, rounds: usize) -> Result<Nothing> {
    let fleet = Fleet::start().await?;
    let schema = Runner::of::<Migrator>()?;
    let process = fleet.open(&schema).await?;
    let ours: Vec<TenantId> = tenants("t", count)?;
    for tenant in &ours {
        process.all.provision(tenant).await?;
    }
    let mut spent = Nothing {
        tenants: count,
        theirs: Duration::ZERO,
        verify: Duration::ZERO,
        recorded: Duration::ZERO,
        by_catalog: Duration::ZERO,
    };
    let fingerprint = schema.record().fingerprint;
    for round in 0..=rounds {
        settle();
        let mut times = [Duration::ZERO; 4];
        let began = Instant::now();
        for tenant in &ours {
            migrate(&fleet.server, &format!("tenant_{tenant}")).await?;
        }
        times[0] = began.elapsed();
        let began = Instant::now();
        let done = process.all.migrate_all(MigrateAll::default().with_verify(true)).await?;
        times[1] = began.elapsed();
        let began = Instant::now();
        let mut current = 0;
        for _ in 0..QUESTIONS {
            let recorded = process.factory.recorded_schemas(&ours).await?;
            let recorded = recorded.iter().flatten();
            current = recorded.filter(|it| it.schema.fingerprint == fingerprint).count();
        }
        times[2] = began.elapsed() / QUESTIONS;
        let began = Instant::now();
        let believed = process.all.migrate_all(MigrateAll::default()).await?;
        times[3] = began.elapsed();
        let told = [done.up_to_date().count(), current, believed.up_to_date().count()];
        ensure!(told == [count; 3], "{told:?} of {count} are up to date");
        // The first is for warming up.
        if round > 0 {
            let [theirs, verify, recorded, by_catalog] = times;
            spent.theirs += theirs;
            spent.verify += verify;
            spent.recorded += recorded;
            spent.by_catalog += by_catalog;
        }
    }
    Ok(spent)
}

impl Nothing {
    fn figure(&self, rounds: usize, ours: Duration, how: &str) -> Figure {
        let count = self.tenants * rounds;
        let ratio = |ours: Duration| self.theirs.as_secs_f64() / ours.as_secs_f64();
        let conditions = json!({
            "tenants": self.tenants,
            "rounds": rounds,
            "server": "on loopback by TCP, fsync on, settings as they come",
            "theirs": "SeaORM connect, Migrator::up with nothing to do, close, one tenant after the other",
            "ours": how,
            "theirs_ms_each": millis(self.theirs, count),
            "ours_ms_each": millis(ours, count),
            "ours_ms_for_all": millis(ours, rounds),
            "migrate_all_by_catalog_ratio": rounded(ratio(self.by_catalog)),
        });
        Figure { value: ratio(ours), conditions }
    }
}

pub(crate) async fn noop_verify() -> Result<Figure> {
    const ROUNDS: usize = 3;
    let spent = nothing(160, ROUNDS).await?;
    let how = "MultiTenancy::migrate_all with verify: every database opened, 8 at once";
    Ok(spent.figure(ROUNDS, spent.verify, how))
}

pub(crate) async fn noop() -> Result<Figure> {
    const ROUNDS: usize = 3;
    let spent = nothing(500, ROUNDS).await?;
    let how = "DatabaseFactory::recorded_schemas, and compared: one query for all, the mean of ten";
    Ok(spent.figure(ROUNDS, spent.recorded, how))
}
