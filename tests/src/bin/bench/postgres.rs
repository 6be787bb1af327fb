//! Making databases on a real PostgreSQL that writes durably: theirs is `CREATE DATABASE`, then
//! SeaORM and its migrator.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mt_core::{DatabaseFactory as _, FactoryContext, TenantId};
use mt_devservers::Postgres;
use mt_migration::{Migrator, Runner};
use mt_postgres::{PostgresFactory, PostgresFactoryBuilder};
use mt_tests::tenant;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use sea_orm_migration::MigratorTrait as _;
use serde_json::json;

use crate::figure::{Figure, millis, rounded, settle};

/// A factory on `server`, with the reference schema.
pub(crate) fn factory(server: &Postgres) -> Result<PostgresFactoryBuilder> {
    let context = FactoryContext::new(mt_core::DeploymentId::random())
        .with_template(Arc::new(Runner::of::<Migrator>()?));
    Ok(PostgresFactory::builder()
        .with_admin_url(server.url())
        .with_role_secret("a secret of the bench, of no use")
        .with_context(context))
}

/// As a user would connect, over TCP, to a database of the server.
pub(crate) async fn connect(server: &Postgres, database: &str) -> Result<DatabaseConnection> {
    let mut url: url::Url = server.url().parse()?;
    url.set_path(database);
    let mut options = ConnectOptions::new(url.as_str());
    options.sqlx_logging(false).max_connections(1);
    Ok(Database::connect(options).await?)
}

/// Connect, migrate, close.
pub(crate) async fn migrate(server: &Postgres, database: &str) -> Result<()> {
    let connection = connect(server, database).await?;
    Migrator::up(&connection, None).await?;
    connection.close().await?;
    Ok(())
}

/// Create, connect, migrate, close.
async fn diy(server: &Postgres, admin: &DatabaseConnection, database: &str) -> Result<()> {
    admin.execute_unprepared(&format!("CREATE DATABASE {database}")).await?;
    migrate(server, database).await
}

pub(crate) fn tenants(prefix: &str, count: usize) -> Result<Vec<TenantId>> {
    (0..count).map(|n| tenant(&format!("{prefix}{n}"))).collect()
}

/// One tenant after the other, in turns: theirs, and the factory's call with a stock of spares.
pub(crate) async fn provision() -> Result<Figure> {
    const ROUNDS: usize = 4;
    const THEIRS: usize = 5;
    const SPARES: u32 = 25;
    const OURS: usize = SPARES as usize;
    let server = Postgres::builder().durable().start().await?;
    let factory = factory(&server)?.with_spare_databases(SPARES).build()?;
    let admin = connect(&server, "postgres").await?;
    diy(&server, &admin, "warm_up").await?;
    let (mut their_time, mut our_time) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        factory.tend().await?;
        let ours = tenants(&format!("t{round}-"), OURS)?;
        settle();
        let began = Instant::now();
        for n in 0..THEIRS {
            diy(&server, &admin, &format!("theirs_{round}_{n}")).await?;
        }
        their_time += began.elapsed();
        let began = Instant::now();
        for tenant in &ours {
            factory.provision(tenant).await?;
        }
        our_time += began.elapsed();
    }
    // What was measured is what was promised.
    let info = factory.describe(&tenant("t0-0")?).await?;
    ensure!(info.applied.len() == Migrator::migrations().len(), "a tenant has no schema");
    let [theirs, ours] = [millis(their_time, ROUNDS * THEIRS), millis(our_time, ROUNDS * OURS)];
    let conditions = json!({
        "tenants": { "theirs": ROUNDS * THEIRS, "ours": ROUNDS * OURS },
        "migrations": Migrator::migrations().len(),
        "server": "on loopback by TCP, fsync on, settings as they come",
        "theirs": "CREATE DATABASE, SeaORM connect, Migrator::up, close",
        "ours": "DatabaseFactory::provision with a stock of spares, made before",
        "theirs_ms": theirs,
        "ours_ms": ours,
    });
    Ok(Figure { value: theirs / ours, conditions })
}

/// Four at a time and no spares, in turns with their loop, which makes one after the other.
pub(crate) async fn provision_sustained() -> Result<Figure> {
    const ROUNDS: usize = 4;
    const THEIRS: usize = 8;
    const OURS: usize = 16;
    const WORKERS: usize = 4;
    let server = Postgres::builder().durable().start().await?;
    let factory = factory(&server)?.build()?;
    let admin = connect(&server, "postgres").await?;
    diy(&server, &admin, "warm_up").await?;
    factory.provision(&tenant("warm-up")?).await?;
    let mut times = [Duration::ZERO; 3];
    for round in 0..ROUNDS {
        settle();
        let began = Instant::now();
        for n in 0..THEIRS {
            diy(&server, &admin, &format!("theirs_{round}_{n}")).await?;
        }
        times[0] += began.elapsed();
        settle();
        let began = Instant::now();
        let ours = tenants(&format!("t{round}-"), OURS)?;
        let made = stream::iter(&ours).map(|tenant| factory.provision(tenant));
        made.buffer_unordered(WORKERS).try_collect::<()>().await?;
        times[1] += began.elapsed();
        settle();
        let began = Instant::now();
        let names: Vec<String> = (0..THEIRS).map(|n| format!("at_once_{round}_{n}")).collect();
        let made = stream::iter(&names).map(|name| diy(&server, &admin, name));
        made.buffer_unordered(WORKERS).try_collect::<()>().await?;
        times[2] += began.elapsed();
    }
    let info = factory.describe(&tenant("t0-0")?).await?;
    ensure!(info.applied.len() == Migrator::migrations().len(), "a tenant has no schema");
    let theirs = millis(times[0], ROUNDS * THEIRS);
    let ours = millis(times[1], ROUNDS * OURS);
    let theirs_at_once = millis(times[2], ROUNDS * THEIRS);
    let conditions = json!({
        "tenants": { "theirs": ROUNDS * THEIRS, "ours": ROUNDS * OURS },
        "migrations": Migrator::migrations().len(),
        "workers": WORKERS,
        "server": "on loopback by TCP, fsync on, settings as they come",
        "theirs": "CREATE DATABASE, SeaORM connect, Migrator::up, close; one after the other",
        "ours": "DatabaseFactory::provision without a stock, roles and rights included",
        "theirs_ms": theirs,
        "ours_ms": ours,
        "theirs_with_as_many_workers_ms": theirs_at_once,
        "ratio_to_theirs_with_as_many_workers": rounded(theirs_at_once / ours),
    });
    Ok(Figure { value: theirs / ours, conditions })
}
