//! Reading and writing on a real sqld: theirs is the `libsql` crate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libsql::Value;
use mt_core::{DataAdapters, DatabaseFactory as _, FactoryContext, TenantId};
use mt_devservers::{Turso, turso::TursoBuilder};
use mt_entity::user;
use mt_migration::{Migrator, Runner};
use mt_tests::tenant;
use mt_turso::{TursoFactory, TursoFactoryBuilder};
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, IntoActiveModel as _,
    QueryTrait as _, Statement,
    entity::prelude::{DateTimeUtc, Uuid},
};
use serde_json::json;

use crate::figure::{Figure, Times, millis, settle};

/// A factory over `server`; the context is missing.
pub(crate) fn factory(server: &Turso) -> TursoFactoryBuilder {
    TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
}

/// A service with one tenant that has the reference schema, and a user in it.
struct Service {
    server: Turso,
    factory: TursoFactory,
    tenant: TenantId,
    data: DataAdapters,
    user: user::Model,
}

impl Service {
    async fn start(server: TursoBuilder) -> Result<Self> {
        let server = server.start().await?;
        let schema = std::sync::Arc::new(Runner::of::<Migrator>()?);
        let deployment = mt_core::DeploymentId::random();
        let context = FactoryContext::new(deployment).with_template(schema);
        let factory = factory(&server).with_context(context).build()?;
        let tenant = tenant("acme")?;
        factory.provision(&tenant).await?;
        let data = factory.get_adapters(&tenant).await?;
        let user = user::Model {
            id: Uuid::from_u128(7),
            email: "ann@example.com".to_owned(),
            name: "Ann".to_owned(),
            created_at: DateTimeUtc::UNIX_EPOCH,
            updated_at: DateTimeUtc::UNIX_EPOCH,
            email_normalized: Some("ann@example.com".to_owned()),
        };
        let user = user.into_active_model().insert(&data).await?;
        Ok(Self { server, factory, tenant, data, user })
    }

    /// The `libsql` crate's connection to the tenant's database.
    async fn libsql(&self) -> Result<libsql::Connection> {
        Ok(self.factory.native_client(&self.tenant).await?.connect()?)
    }

    /// The user by its primary key, through the entity.
    async fn ours(&self) -> Result<()> {
        let found = user::Entity::find_by_id(self.user.id).one(&self.data).await?;
        ensure!(found.as_ref() == Some(&self.user), "another user came back");
        Ok(())
    }

    /// The same row by the same statement.
    async fn theirs(&self, connection: &libsql::Connection, sql: &str) -> Result<()> {
        let id = Value::Blob(self.user.id.as_bytes().to_vec());
        let mut rows = connection.query(sql, [id]).await?;
        let row = rows.next().await?.context("no user came back")?;
        ensure!(row.get::<String>(1)? == self.user.email, "another user came back");
        // To the end, or its socket could not be used again.
        ensure!(rows.next().await?.is_none(), "two users came back");
        Ok(())
    }

    fn select(&self) -> String {
        user::Entity::find_by_id(self.user.id).build(DbBackend::Sqlite).sql
    }
}

/// One row by its primary key, warm, one after the other in turns. sqld answers itself, without a
/// gateway.
pub(crate) async fn read() -> Result<Figure> {
    const ROUNDS: usize = 20;
    const EACH: usize = 50;
    let service = Service::start(Turso::builder().direct()).await?;
    let (libsql, sql) = (service.libsql().await?, service.select());
    for _ in 0..EACH {
        service.ours().await?;
        service.theirs(&libsql, &sql).await?;
    }
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        for _ in 0..EACH {
            theirs.take(service.theirs(&libsql, &sql)).await?;
        }
        for _ in 0..EACH {
            ours.take(service.ours()).await?;
        }
    }
    let (ours, theirs) = (ours.median(), theirs.median());
    let conditions = json!({
        "selects": ROUNDS * EACH,
        "server": "sqld on loopback, nothing between",
        "ours": "SeaORM's find_by_id on the tenant's handle",
        "theirs": "the libsql crate's query on one warm connection, the same statement",
        "ours_ms_median": millis(ours, 1),
        "theirs_ms_median": millis(theirs, 1),
    });
    Ok(Figure { value: theirs.as_secs_f64() / ours.as_secs_f64(), conditions })
}

/// How many HTTP requests one warm select takes, counted between client and server.
pub(crate) async fn read_requests() -> Result<Figure> {
    const SELECTS: u32 = 50;
    let service = Service::start(Turso::builder()).await?;
    let (libsql, sql) = (service.libsql().await?, service.select());
    service.ours().await?;
    service.theirs(&libsql, &sql).await?;
    let requests = service.server.requests();
    requests.reset();
    for _ in 0..SELECTS {
        service.ours().await?;
    }
    let ours = requests.total() as f64 / f64::from(SELECTS);
    requests.reset();
    for _ in 0..SELECTS {
        service.theirs(&libsql, &sql).await?;
    }
    let theirs = requests.total() as f64 / f64::from(SELECTS);
    ensure!(ours >= 1.0 && theirs >= 1.0, "requests were not counted");
    let conditions = json!({
        "selects": SELECTS,
        "ours": "SeaORM's find_by_id on the tenant's handle",
        "libsql_requests": theirs,
    });
    Ok(Figure { value: ours, conditions })
}

/// Rows with parameters: all in one batch, and one at a time.
pub(crate) async fn batch_insert() -> Result<Figure> {
    const ROUNDS: usize = 3;
    const ROWS: usize = 2_000;
    let service = Service::start(Turso::builder().direct()).await?;
    let data = &service.data;
    let create = "CREATE TABLE bench_rows (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount REAL NOT NULL)";
    data.execute_unprepared(create).await?;
    let (mut batches, mut singles) = (Duration::ZERO, Duration::ZERO);
    data.batch(inserts(ROWS)).await?;
    for _ in 0..ROUNDS {
        settle();
        let began = Instant::now();
        for insert in inserts(ROWS) {
            data.execute_raw(insert).await?;
        }
        singles += began.elapsed();
        let began = Instant::now();
        data.batch(inserts(ROWS)).await?;
        batches += began.elapsed();
    }
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM bench_rows");
    let count = data.query_one_raw(count).await?.context("no count")?;
    let count: i64 = count.try_get_by_index(0)?;
    ensure!(usize::try_from(count)? == (2 * ROUNDS + 1) * ROWS, "{count} rows were inserted");
    let conditions = json!({
        "rows": ROWS,
        "rounds": ROUNDS,
        "ours": "DataAdapters::batch, one statement with two parameters per row, atomic",
        "theirs": "the same statements one after the other, on the same handle",
        "batch_ms_each_row": millis(batches, ROUNDS * ROWS),
        "single_ms_each_row": millis(singles, ROUNDS * ROWS),
    });
    Ok(Figure { value: singles.as_secs_f64() / batches.as_secs_f64(), conditions })
}

fn inserts(rows: usize) -> Vec<Statement> {
    let insert = |n: usize| {
        let sql = "INSERT INTO bench_rows (name, amount) VALUES (?, ?)";
        let values = [format!("row {n}").into(), (n as f64 * 0.5).into()];
        Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
    };
    (0..rows).map(insert).collect()
}
