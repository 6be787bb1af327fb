//! A factory over one SQLite file, with just what the runner asks of it.

use std::{
    any::Any,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use mt_core::{
    BackupManifest, Capabilities, Connection, DataAdapters, DatabaseEntry, DatabaseFactory,
    DatabaseInfo, DatabaseName, DeploymentId, Error, ErrorKind, Generation, Maintenance,
    MaintenanceMode, RestoreOptions, Result, Stamp, TenantId,
};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, FromQueryResult, Statement,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Barrier, RwLock},
};

#[derive(Debug)]
pub(crate) struct OneFile {
    directory: TempDir,
    deployment: DeploymentId,
    /// Held shared or exclusively, as the runner asks; a second one waits.
    lock: Arc<RwLock<()>>,
    /// How the runner asked to maintain, in order.
    modes: Mutex<Vec<MaintenanceMode>>,
    /// The ledgers that the runner said it had seen, in order.
    described: Mutex<Vec<Vec<String>>>,
    /// Makes so many callers look at the database before any of them goes on.
    look_together: Option<Barrier>,
    /// Hands out a pool that replaces its connection after each use.
    forgetful: bool,
    /// Hands out this in the place of the file.
    instead: Option<Connection>,
}

impl OneFile {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            deployment: DeploymentId::random(),
            lock: Arc::default(),
            modes: Mutex::default(),
            described: Mutex::default(),
            look_together: None,
            forgetful: false,
            instead: None,
        }
    }

    pub(crate) fn look_together(mut self, callers: usize) -> Self {
        self.look_together = Some(Barrier::new(callers));
        self
    }

    pub(crate) fn forgetful(mut self) -> Self {
        self.forgetful = true;
        self
    }

    pub(crate) fn instead(mut self, connection: Connection) -> Self {
        self.instead = Some(connection);
        self
    }

    pub(crate) fn modes(&self) -> Vec<MaintenanceMode> {
        self.modes.lock().unwrap().clone()
    }

    pub(crate) fn described(&self) -> Vec<Vec<String>> {
        self.described.lock().unwrap().clone()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("tenant.db")
    }

    pub(crate) async fn connect(&self) -> DatabaseConnection {
        let mut options =
            ConnectOptions::new(format!("sqlite://{}?mode=rwc", self.path().display()));
        options.max_connections(1).sqlx_logging(false);
        options.map_sqlx_sqlite_opts(|options| options.busy_timeout(Duration::from_secs(60)));
        if self.forgetful {
            options.max_lifetime(Duration::ZERO);
        }
        Database::connect(options).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let db = self.connect().await;
        db.execute_unprepared(sql).await.unwrap();
        db.close().await.unwrap();
    }

    /// The one number that `sql` selects as `n`.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        #[derive(FromQueryResult)]
        struct Row {
            n: i64,
        }
        let db = self.connect().await;
        let select = Statement::from_string(db.get_database_backend(), sql);
        let row = Row::find_by_statement(select).one(&db).await.unwrap().unwrap();
        db.close().await.unwrap();
        row.n
    }

    pub(crate) async fn tables(&self) -> i64 {
        self.count("SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'table'").await
    }

    pub(crate) fn stamp(&self, tenant: &TenantId) -> Stamp {
        Stamp::new(self.deployment, tenant, Generation::FIRST)
    }

    async fn applied(&self) -> Vec<String> {
        let db = self.connect().await;
        let select = Statement::from_string(
            db.get_database_backend(),
            "SELECT version FROM seaql_migrations ORDER BY version",
        );
        // No ledger yet: nothing is applied.
        let rows = db.query_all_raw(select).await.unwrap_or_default();
        db.close().await.unwrap();
        rows.iter().map(|row| row.try_get("", "version").unwrap()).collect()
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a test factory"))
}

#[async_trait]
impl DatabaseFactory for OneFile {
    fn name(&self) -> &'static str {
        "one-file"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::MINIMAL;
        // What is reached by a driver is a server's, and keeps nobody out.
        capabilities.exclusive_maintenance = self.instead.is_none();
        capabilities
    }

    async fn get_adapters(&self, _tenant: &TenantId) -> Result<DataAdapters> {
        unsupported()
    }

    async fn provision(&self, _tenant: &TenantId) -> Result<()> {
        unsupported()
    }

    async fn deprovision(&self, _tenant: &TenantId) -> Result<()> {
        unsupported()
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        Box::pin(futures_util::stream::empty())
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let name = DatabaseName::from_stored("tenant.db");
        let applied = self.applied().await;
        if let Some(barrier) = &self.look_together {
            barrier.wait().await;
        }
        Ok(DatabaseInfo::new(name, self.stamp(tenant)).with_applied("seaql_migrations", applied))
    }

    async fn maintain_described(
        &self,
        tenant: &TenantId,
        seen: &DatabaseInfo,
    ) -> Result<Maintenance> {
        self.described.lock().unwrap().push(seen.applied.clone());
        self.maintain(tenant, MaintenanceMode::Shared).await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        self.modes.lock().unwrap().push(mode);
        let lock = Arc::clone(&self.lock);
        let hold: Box<dyn Any + Send + Sync> = match mode {
            MaintenanceMode::Shared => Box::new(lock.read_owned().await),
            MaintenanceMode::Exclusive => Box::new(lock.write_owned().await),
        };
        let connection = match &self.instead {
            Some(connection) => connection.clone(),
            None => self.connect().await.into(),
        };
        let stamp = self.stamp(tenant);
        Ok(Maintenance::new(stamp, connection, hold))
    }

    async fn suspend(&self, _tenant: &TenantId) -> Result<()> {
        unsupported()
    }

    async fn activate(&self, _tenant: &TenantId) -> Result<()> {
        unsupported()
    }

    async fn backup(
        &self,
        _tenant: &TenantId,
        _sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        unsupported()
    }

    async fn restore(
        &self,
        _tenant: &TenantId,
        _manifest: &BackupManifest,
        _source: &mut (dyn AsyncRead + Send + Unpin),
        _options: RestoreOptions,
    ) -> Result<()> {
        unsupported()
    }
}

pub(crate) fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}
