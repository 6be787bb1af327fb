//! Files: theirs is SeaORM and its migrator, as a user would write it.
//!
//! Each figure is a ratio: their time over ours for the same work on the same disk.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mt_control::{Catalog, DatabaseIsolation, MigrateAll, MultiTenancy};
use mt_core::{DatabaseFactory as _, FactoryContext};
use mt_migration::{Migrator, Runner};
use mt_sqlite::SqliteFactory;
use mt_tests::{Installation, tenant};
use sea_orm::{ConnectOptions, Database, TransactionTrait as _, sqlx::sqlite::SqliteJournalMode};
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;

use crate::figure::{Figure, millis, rounded, settle};

/// What a user would write.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Diy {
    /// SeaORM's defaults.
    Default,
    /// A write-ahead log, and all migrations in one transaction.
    Best,
}

/// Connect, migrate, close.
async fn diy(path: &Path, how: Diy) -> Result<()> {
    let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
    options.sqlx_logging(false);
    if how == Diy::Best {
        options.map_sqlx_sqlite_opts(|options| options.journal_mode(SqliteJournalMode::Wal));
    }
    let connection = Database::connect(options).await?;
    if how == Diy::Best {
        let transaction = connection.begin().await?;
        Migrator::up(&transaction, None).await?;
        transaction.commit().await?;
    } else {
        Migrator::up(&connection, None).await?;
    }
    connection.close().await?;
    Ok(())
}

/// One tenant after the other, in turns of ten: theirs, the factory's call, and the whole of
/// `MultiTenancy::provision`.
pub(crate) async fn provision(how: Diy) -> Result<Figure> {
    const ROUNDS: usize = 6;
    const EACH: usize = 10;
    let home = Installation::new()?;
    let schema = Runner::of::<Migrator>()?;
    let context = FactoryContext::new(mt_core::DeploymentId::random())
        .with_template(std::sync::Arc::new(schema));
    let factory = SqliteFactory::builder()
        .with_directory(home.path().join("factory"))
        .with_context(context)
        .build()?;
    let whole = home.open().await?;
    let theirs = home.path().join("diy");
    std::fs::create_dir_all(&theirs)?;
    // The image is made once per process, and so is theirs' first connection.
    factory.provision(&tenant("warm-up")?).await?;
    whole.provision(&tenant("warm-up")?).await?;
    diy(&theirs.join("warm-up.sqlite"), how).await?;

    let bytes = std::fs::read(factory.database_path(&tenant("warm-up")?).await?)?;
    settle();

    let mut times = [Duration::ZERO; 4];
    for round in 0..ROUNDS {
        let began = Instant::now();
        for n in 0..EACH {
            diy(&theirs.join(format!("t{round}-{n}.sqlite")), how).await?;
        }
        times[0] += began.elapsed();
        let began = Instant::now();
        for n in 0..EACH {
            factory.provision(&tenant(&format!("t{round}-{n}"))?).await?;
        }
        times[1] += began.elapsed();
        let began = Instant::now();
        for n in 0..EACH {
            whole.provision(&tenant(&format!("t{round}-{n}"))?).await?;
        }
        times[2] += began.elapsed();
        let began = Instant::now();
        for n in 0..EACH {
            write_durably(&theirs, &format!("floor{round}-{n}"), &bytes)?;
        }
        times[3] += began.elapsed();
    }
    // What was measured is what was promised.
    let info = factory.describe(&tenant("t0-0")?).await?;
    ensure!(info.applied.len() == Migrator::migrations().len(), "a tenant has no schema");
    whole.shutdown().await?;

    let count = ROUNDS * EACH;
    let [diy, ours, whole, floor] = times.map(|time| millis(time, count));
    let conditions = json!({
        "tenants": count,
        "migrations": Migrator::migrations().len(),
        "diy": match how {
            Diy::Default => "SeaORM connect, Migrator::up, close; default settings",
            Diy::Best => "SeaORM connect with WAL, Migrator::up in one transaction, close",
        },
        "diy_ms": diy,
        "factory_ms": ours,
        "same_bytes_written_durably_ms": floor,
        "multi_tenancy_provision_ms": whole,
        "multi_tenancy_provision_ratio": rounded(diy / whole),
    });
    Ok(Figure { value: diy / ours, conditions })
}

/// The least that the disk asks for a new file that a power failure does not take away.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::File::create_new(folder.join(name))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pending {
    All,
    Nothing,
}

/// A whole fleet at a time, in turns: their loop, and `migrate_all` as the command line calls it.
pub(crate) async fn migrate(pending: Pending) -> Result<Figure> {
    const TENANTS: usize = 200;
    const ROUNDS: usize = 3;
    let (mut diy_time, mut our_time) = (Duration::ZERO, Duration::ZERO);
    // What is applied stays applied, so that takes a new fleet each time; looking does not.
    let mut fleet = Fleet::make(TENANTS, pending).await?;
    for round in 0..ROUNDS {
        if round > 0 && pending == Pending::All {
            fleet = Fleet::make(TENANTS, pending).await?;
        }
        settle();
        let began = Instant::now();
        for n in 0..TENANTS {
            diy(&fleet.theirs(n), Diy::Default).await?;
        }
        diy_time += began.elapsed();
        let began = Instant::now();
        let done = fleet.ours.migrate_all(MigrateAll::default().with_verify(true)).await?;
        our_time += began.elapsed();
        let as_expected = match pending {
            Pending::All => done.migrated().count(),
            Pending::Nothing => done.up_to_date().count(),
        };
        ensure!(as_expected == TENANTS, "{as_expected} of {TENANTS} did what was measured");
    }
    let count = ROUNDS * TENANTS;
    let conditions = json!({
        "tenants": TENANTS,
        "rounds": ROUNDS,
        "migrations": Migrator::migrations().len(),
        "diy": "SeaORM connect, Migrator::up, close, one tenant after the other; default settings",
        "ours": "MultiTenancy::migrate_all, catalog included, every database looked at, 8 at once",
        "diy_ms_each": millis(diy_time, count),
        "ours_ms_each": millis(our_time, count),
    });
    let value = diy_time.as_secs_f64() / our_time.as_secs_f64();
    Ok(Figure { value, conditions })
}

/// As many databases of ours as of theirs, all with the schema, or none with it.
struct Fleet {
    home: Installation,
    ours: MultiTenancy,
}

impl Fleet {
    async fn make(tenants: usize, pending: Pending) -> Result<Self> {
        let home = Installation::new()?;
        let schema = Runner::of::<Migrator>()?;
        // Ours start with a stamp, theirs with an empty file: neither has a table of the schema.
        let first = match pending {
            Pending::All => Runner::new(schema.ledger(), Vec::new())?,
            Pending::Nothing => schema.clone(),
        };
        let provisioning = open(&home, &first).await?;
        let fleet = Self { ours: open(&home, &schema).await?, home };
        for n in 0..tenants {
            provisioning.provision(&tenant(&format!("t{n}"))?).await?;
            std::fs::write(fleet.theirs(n), [])?;
            if pending == Pending::Nothing {
                diy(&fleet.theirs(n), Diy::Default).await?;
            }
        }
        provisioning.shutdown().await?;
        Ok(fleet)
    }

    fn theirs(&self, n: usize) -> PathBuf {
        self.home.path().join(format!("t{n}.sqlite"))
    }
}

async fn open(home: &Installation, schema: &Runner) -> Result<MultiTenancy> {
    let catalog = Catalog::open(home.path().join("control.db")).await?;
    let factory = home.factory().with_context(catalog.context(schema)).build()?;
    Ok(MultiTenancy::builder()
        .with_catalog(catalog)
        .with_schema(schema.clone())
        .with_database_isolation(DatabaseIsolation::new(factory))
        .build()
        .await?)
}
