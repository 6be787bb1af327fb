//! What the checks share: a process over an installation, migrations made of plain statements, a
//! factory that counts, and a look into files from outside.

use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mt_control::{DatabaseIsolation, MultiTenancy, MultiTenancyBuilder};
use mt_core::{
    DataAdapters, DatabaseFactory, DeploymentId, Error, ErrorKind, FactoryContext, FactoryLayer,
    Result, TenantId, TenantState,
};
use mt_migration::Runner;
use mt_sqlite::SqliteFactory;
use mt_tests::Installation;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};
use tokio::sync::Semaphore;

/// Longer than anything takes on a busy machine; a check that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// Asks again until `is_so`, or panics with `what` when the deadline is over.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A migration made of statements separated by semicolons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    name: &'static str,
    up: &'static str,
    alone: bool,
}

pub(crate) const fn sql(name: &'static str, up: &'static str) -> Sql {
    Sql { name, up, alone: false }
}

impl Sql {
    /// Outside of transactions.
    pub(crate) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.up).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        self.alone.then_some(false)
    }
}

pub(crate) fn runner(migrations: impl IntoIterator<Item = Sql>) -> Runner {
    let boxed = |migration| Box::new(migration) as Box<dyn MigrationTrait>;
    Runner::new("seaql_migrations", migrations.into_iter().map(boxed).collect()).unwrap()
}

pub(crate) const NOTES: Sql =
    sql("m1_notes", "CREATE TABLE notes (id integer PRIMARY KEY, text text NOT NULL)");

type Hooks = Box<dyn FnOnce(DatabaseIsolation) -> DatabaseIsolation + Send>;
type Settings = Box<dyn FnOnce(MultiTenancyBuilder) -> MultiTenancyBuilder + Send>;
type Wrap = Box<dyn FnOnce(SqliteFactory) -> Arc<dyn DatabaseFactory> + Send>;

/// What one more process over an installation would open: a catalog, a factory and a cache of its
/// own, sharing nothing but the files.
pub(crate) struct Process<'a> {
    installation: &'a Installation,
    schema: Runner,
    drain: Duration,
    hooks: Hooks,
    settings: Settings,
    wrap: Wrap,
}

impl<'a> Process<'a> {
    /// With notes as its schema.
    pub(crate) fn of(installation: &'a Installation) -> Self {
        Self {
            installation,
            schema: runner([NOTES]),
            drain: Duration::from_secs(30),
            hooks: Box::new(|isolation| isolation),
            settings: Box::new(|builder| builder),
            wrap: Box::new(|factory| Arc::new(factory)),
        }
    }

    pub(crate) fn schema(mut self, schema: Runner) -> Self {
        self.schema = schema;
        self
    }

    /// How long it waits for those who use a database, at either level.
    pub(crate) fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    pub(crate) fn hooks(
        mut self,
        hooks: impl FnOnce(DatabaseIsolation) -> DatabaseIsolation + Send + 'static,
    ) -> Self {
        self.hooks = Box::new(hooks);
        self
    }

    pub(crate) fn settings(
        mut self,
        settings: impl FnOnce(MultiTenancyBuilder) -> MultiTenancyBuilder + Send + 'static,
    ) -> Self {
        self.settings = Box::new(settings);
        self
    }

    pub(crate) fn wrap(
        mut self,
        wrap: impl FnOnce(SqliteFactory) -> Arc<dyn DatabaseFactory> + Send + 'static,
    ) -> Self {
        self.wrap = Box::new(wrap);
        self
    }

    pub(crate) async fn open(self) -> MultiTenancy {
        let catalog = self.installation.catalog().await.unwrap();
        let factory = self
            .installation
            .factory()
            .with_drain_timeout(self.drain)
            .with_context(catalog.context(&self.schema))
            .build()
            .unwrap();
        let isolation = (self.hooks)(DatabaseIsolation::new((self.wrap)(factory)));
        let builder = MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(self.schema)
            .with_drain_timeout(self.drain)
            .with_database_isolation(isolation);
        (self.settings)(builder).build().await.unwrap()
    }
}

/// A factory without a catalog, over the installation's tenants' folder.
pub(crate) fn embedded(installation: &Installation) -> SqliteFactory {
    let context =
        FactoryContext::new(DeploymentId::random()).with_template(Arc::new(runner([NOTES])));
    installation.factory().with_context(context).build().unwrap()
}

/// Counts what it opens, and can be told to hold it up, fail it or open another tenant's.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: SqliteFactory,
    opens: AtomicUsize,
    /// Each open takes a permit for good.
    door: Semaphore,
    fails: AtomicBool,
    strays: Option<TenantId>,
    does_stray: AtomicBool,
}

impl Watched {
    pub(crate) fn new(inner: SqliteFactory) -> Self {
        Self {
            inner,
            opens: AtomicUsize::new(0),
            door: Semaphore::new(Semaphore::MAX_PERMITS),
            fails: AtomicBool::new(false),
            strays: None,
            does_stray: AtomicBool::new(false),
        }
    }

    /// Nobody comes in until [`Watched::unlock`].
    pub(crate) fn locked(mut self) -> Self {
        self.door = Semaphore::new(0);
        self
    }

    pub(crate) fn straying_to(mut self, tenant: TenantId) -> Self {
        self.strays = Some(tenant);
        self
    }

    pub(crate) fn unlock(&self) {
        self.door.add_permits(1_000_000);
    }

    pub(crate) fn opens(&self) -> usize {
        self.opens.load(Ordering::SeqCst)
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    pub(crate) fn stray(&self, strays: bool) {
        self.does_stray.store(strays, Ordering::SeqCst);
    }
}

#[async_trait]
impl FactoryLayer for Watched {
    fn inner(&self) -> &dyn DatabaseFactory {
        &self.inner
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        self.door.acquire().await.unwrap().forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "told to fail").with_tenant(tenant));
        }
        match &self.strays {
            Some(other) if self.does_stray.load(Ordering::SeqCst) => {
                self.inner.get_adapters(other).await
            }
            _ => self.inner.get_adapters(tenant).await,
        }
    }

    fn forget(&self, _tenant: &TenantId) {}
}

/// Adds a note.
pub(crate) async fn add(db: &impl ConnectionTrait, text: &str) -> Result<(), DbErr> {
    let insert = Statement::from_sql_and_values(
        DbBackend::Sqlite,
        "INSERT INTO notes (text) VALUES (?)",
        [text.into()],
    );
    db.execute_raw(insert).await.map(drop)
}

/// The notes, oldest first.
pub(crate) async fn notes(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT text FROM notes ORDER BY id");
    let rows = db.query_all_raw(select).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// The kind of our error inside SeaORM's; a database's own error has none.
pub(crate) fn kind_in(error: &DbErr) -> Option<ErrorKind> {
    Error::in_db_err(error).map(Error::kind)
}

/// A tenant's file of `generation`.
pub(crate) fn file_of(installation: &Installation, tenant: &str, generation: u32) -> PathBuf {
    let suffix = if generation == 1 { String::new() } else { format!("--g{generation}") };
    installation.tenants_path().join(format!("tenant_{tenant}{suffix}.sqlite"))
}

/// Opens a tenant's file as another program would, through SQLite.
pub(crate) fn outside(path: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection
}

/// The first column of what `query` answers.
pub(crate) fn column(path: &Path, query: &str) -> Vec<String> {
    let connection = outside(path);
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Everything in a database: what its tables are, and every row.
pub(crate) fn dump(path: &Path) -> Vec<String> {
    let connection = outside(path);
    let mut all = Vec::new();
    let mut tables = connection
        .prepare("SELECT name, type, coalesce(sql, '') FROM sqlite_master ORDER BY name")
        .unwrap();
    let tables: Vec<(String, String, String)> = tables
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (name, kind, definition) in tables {
        all.push(definition);
        if kind != "table" {
            continue;
        }
        let mut select = connection.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<rusqlite::types::Value> =
                (0..columns).map(|column| row.get(column).unwrap()).collect();
            all.push(format!("{name} {values:?}"));
        }
    }
    all
}

/// Waits until every connection to the databases below `folder` is closed: what is let go of is
/// closed in its own time, and the last one takes the log away.
pub(crate) async fn all_closed(folder: &Path) {
    let is_log = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with("-wal"));
    eventually("all are closed", || async { !names(folder).iter().any(is_log) }).await;
}

/// The names and bytes of the files below `folder`. Only while nobody in this process has one of
/// them open: closing a plain file drops SQLite's locks on it.
pub(crate) fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    names(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// The files below `folder`, sorted; none where there is no folder.
pub(crate) fn names(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(names(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Fails the first `times` calls of the closure it makes, and counts all.
#[derive(Clone, Default)]
pub(crate) struct Flaky {
    calls: Arc<AtomicUsize>,
    times: usize,
}

impl Flaky {
    pub(crate) fn failing(times: usize) -> Self {
        Self { calls: Arc::default(), times }
    }

    pub(crate) fn call(&self) -> Result<(), &'static str> {
        let earlier = self.calls.fetch_add(1, Ordering::SeqCst);
        if earlier < self.times { Err("the mail server is down") } else { Ok(()) }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

pub(crate) async fn state(tenants: &MultiTenancy, id: &TenantId) -> TenantState {
    tenants.catalog().find(id).await.unwrap().unwrap().state
}

pub(crate) async fn refusal(tenants: &MultiTenancy, id: &TenantId) -> ErrorKind {
    tenants.get_adapters(id).await.unwrap_err().kind()
}
