use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, Capabilities, Connection, DataAdapters, DatabaseEntry, DatabaseFactory,
    DatabaseInfo, DatabaseName, Error, ErrorKind, FactoryContext, Maintenance, MaintenanceMode,
    NameRules, OpenHandles, Placement, RestoreOptions, Result, Stamp, TenantId,
};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, SqliteTransactionMode,
    SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait as _,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    FoldersConfig, NAME,
    config::config_error,
    error::{db_error, io_error, sharpen, told},
    folder::{Folder, Lock, Mode, blocking, database_in, names_in},
};

/// What a folder may be called: most file systems take 255 bytes.
const RULES: NameRules = NameRules::new(200);
/// The most connections of one tenant: SQLite has one writer at a time, the others read.
const CONNECTIONS: u32 = 4;
/// How long a statement waits for another connection's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A folder of its own for every tenant, with a SQLite database in it.
#[derive(Debug)]
pub struct FoldersFactory {
    config: FoldersConfig,
    context: FactoryContext,
    handles: OpenHandles,
}

/// A tenant's current database, as the placement store knows it.
struct Place {
    placement: Placement,
    folder: Folder,
}

impl FoldersFactory {
    /// A factory with these settings. Checks them; does no I/O.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn new(config: FoldersConfig, context: FactoryContext) -> Result<Self> {
        if config.directory.as_os_str().is_empty() {
            return Err(config_error("`directory` is empty; expected the folder for the tenants'"));
        }
        RULES.check_prefix(&config.database_prefix).map_err(|e| e.with_provider(NAME))?;
        Ok(Self { config, context, handles: OpenHandles::default() })
    }

    const fn drain(&self) -> Duration {
        Duration::from_millis(self.config.drain_timeout_ms)
    }

    async fn place(&self, tenant: &TenantId) -> Result<Place> {
        let placement = self.context.placements.get(tenant).await?.ok_or_else(|| {
            Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
        })?;
        let derived = || RULES.encode(&self.config.database_prefix, tenant, placement.generation);
        let name = placement.database.clone().unwrap_or_else(derived);
        let folder = Folder { root: self.config.directory.clone(), name };
        Ok(Place { placement, folder })
    }

    /// Opens the database in a folder that was entered, and checks whose it is.
    async fn open(
        &self,
        tenant: &TenantId,
        place: &Place,
        lock: Lock,
        connections: u32,
    ) -> Result<DataAdapters> {
        let connection = connect(&place.folder.database(), connections, false);
        let mut opening = DataAdapters::opening(tenant, self.context.deployment, connection)
            .with_generation(place.placement.generation)
            .with_provider(NAME)
            .with_hold(lock);
        if let Some(ledger) = self.context.ledger() {
            opening = opening.with_ledger(ledger);
        }
        opening.open().await.map_err(sharpen)
    }

    /// Opens it on a connection of its own, and checks whose it is.
    async fn open_alone(
        &self,
        tenant: &TenantId,
        place: &Place,
        lock: Lock,
    ) -> Result<Maintenance> {
        let connection = connect(&place.folder.database(), 1, false);
        let (deployment, generation) = (self.context.deployment, place.placement.generation);
        let opened = Maintenance::open(tenant, deployment, generation, connection, lock).await;
        opened.map_err(sharpen)
    }

    /// Looks whose database it is, and lets go of it again.
    async fn check(&self, tenant: &TenantId, place: &Place, lock: &Lock) -> Result<()> {
        self.open_alone(tenant, place, Arc::clone(lock)).await?.close().await;
        Ok(())
    }

    /// Accepts the database that is there, if it is this tenant's or nobody's; `false`: there is
    /// none.
    async fn adopt(&self, tenant: &TenantId, place: &Place) -> Result<bool> {
        let lock = match place.folder.enter(Mode::Shared, self.drain()).await {
            Err(e) if e.kind() == ErrorKind::TenantNotFound => return Ok(false),
            lock => lock?,
        };
        let taken = |source: Error| {
            Error::new(ErrorKind::NameTaken, "the folder of that name is not this tenant's")
                .with_source(source)
        };
        match self.check(tenant, place, &lock).await {
            Err(foreign) if foreign.kind() == ErrorKind::ForeignDatabase => {
                let connection = connect(&place.folder.database(), 1, false);
                let filled = self.fill_if_empty(&connection, tenant, place).await;
                close(&connection).await?;
                if !filled? {
                    return Err(taken(foreign));
                }
                // Of two who stamp an empty database at once, one finds the other's stamp.
                self.check(tenant, place, &lock).await.map_err(taken)?;
                Ok(true)
            }
            checked => checked.map(|()| true),
        }
    }

    /// Makes the database under a name of nobody's, and gives it the tenant's when it is whole;
    /// `false`: somebody was faster.
    async fn create(&self, tenant: &TenantId, place: &Place) -> Result<bool> {
        let root = self.config.directory.clone();
        let temporary = blocking(move || {
            let made = std::fs::create_dir_all(&root)
                .and_then(|()| tempfile::Builder::new().prefix(".new-").tempdir_in(&root));
            made.map_err(|e| io_error("make a folder in", &root, e))
        })
        .await?;
        let connection = connect(&database_in(temporary.path()), 1, true);
        let filled = self.fill_if_empty(&connection, tenant, place).await;
        // Closing folds SQLite's log into the file and syncs it.
        let closed = close(&connection).await;
        filled?;
        closed?;
        let folder = place.folder.clone();
        blocking(move || folder.publish(temporary.path())).await
    }

    /// Stamps a database without tables and gives it the context's schema; `false`: it has tables,
    /// and nothing was done.
    async fn fill_if_empty(
        &self,
        connection: &DatabaseConnection,
        tenant: &TenantId,
        place: &Place,
    ) -> Result<bool> {
        let stamp = Stamp::new(self.context.deployment, tenant, place.placement.generation);
        let stamped = stamp_if_empty(connection, &stamp, self.context.ledger()).await;
        let is_ours = stamped.map_err(|e| db_error("stamp the new database", e))?;
        // The stamp first: a database that got no further is adopted and migrated later, where one
        // with tables and no stamp would be nobody's.
        if let Some(template) = self.context.template.as_ref().filter(|_| is_ours) {
            template.apply(&Connection::from(connection.clone())).await?;
        }
        Ok(is_ours)
    }

    async fn remove(&self, tenant: &TenantId, place: &Place) -> Result<()> {
        // Whose it is comes before anything is done to it.
        let lock = place.folder.enter(Mode::Shared, self.drain()).await?;
        self.check(tenant, place, &lock).await?;
        drop(lock);
        let _revoked = self.handles.revoke(tenant, self.drain()).await?;
        let lock = place.folder.enter(Mode::Exclusive, self.drain()).await?;
        // Nobody was in it for a moment, in which another may have come to its place.
        self.check(tenant, place, &lock).await?;
        let folder = place.folder.clone();
        blocking(move || folder.remove(Some(&lock))).await
    }

    async fn look(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let place = self.place(tenant).await?;
        let lock = place.folder.enter(Mode::Shared, self.drain()).await?;
        let data = self.open(tenant, &place, lock, 1).await?;
        let mut info = DatabaseInfo::new(place.folder.name.clone(), data.stamp().clone());
        let looked = async {
            if let Some(ledger) = self.context.ledger() {
                info = info.with_applied(ledger, applied(&data, ledger).await?);
            }
            let sql = "SELECT page_count * page_size AS n \
                       FROM pragma_page_count, pragma_page_size";
            let size = data.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
            let size = size.map(|row| row.try_get::<i64>("", "n")).transpose()?;
            Ok(match size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) => info.with_size_bytes(size),
                None => info,
            })
        };
        let looked = looked.await.map_err(|e| db_error("read the tenant's database", e));
        data.close(self.drain()).await?;
        looked
    }
}

/// A pool that opens connections as they are asked for, and none before.
fn connect(database: &Path, connections: u32, create: bool) -> DatabaseConnection {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(create)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        // A local file does not go away, and migrations change the settings of their connection.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options);
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
}

async fn close(connection: &DatabaseConnection) -> Result<()> {
    connection.close_by_ref().await.map_err(|e| db_error("close the database", e))
}

async fn stamp_if_empty(
    connection: &DatabaseConnection,
    stamp: &Stamp,
    ledger: Option<&str>,
) -> Result<bool, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = connection.begin_with_options(options).await?;
    let tables = Statement::from_string(DbBackend::Sqlite, "SELECT 1 FROM sqlite_master LIMIT 1");
    if transaction.query_one_raw(tables).await?.is_some() {
        return Ok(false);
    }
    for statement in stamp.to_statements(DbBackend::Sqlite, ledger) {
        transaction.execute_raw(statement).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// The applied migrations in ascending order; none in a database that has no ledger yet.
async fn applied(data: &DataAdapters, ledger: &str) -> Result<Vec<String>, DbErr> {
    let known = Statement::from_sql_and_values(
        DbBackend::Sqlite,
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
        [ledger.into()],
    );
    if data.query_one_raw(known).await?.is_none() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT version FROM \"{}\" ORDER BY version", ledger.replace('"', "\"\""));
    let rows = data.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    rows.iter().map(|row| row.try_get("", "version")).collect()
}

/// What this provider cannot do, it says before it does anything.
fn unsupported<T>(tenant: &TenantId, what: &str) -> Result<T> {
    Err(Error::unsupported(NAME, what).with_tenant(tenant))
}

#[async_trait]
impl DatabaseFactory for FoldersFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::MINIMAL;
        capabilities.transactions = true;
        capabilities.savepoints = true;
        capabilities.streaming = true;
        capabilities.transactional_ddl = true;
        capabilities
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        let opened = async {
            self.handles.admit(tenant)?;
            let place = self.place(tenant).await?;
            let lock = place.folder.enter(Mode::Shared, self.drain()).await?;
            let data = self.open(tenant, &place, lock, CONNECTIONS).await?;
            self.handles.track(&data)?;
            Ok(data)
        };
        told(tenant, opened.await)
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        let provisioned = async {
            let place = self.place(tenant).await?;
            if self.adopt(tenant, &place).await?
                || self.create(tenant, &place).await?
                || self.adopt(tenant, &place).await?
            {
                return Ok(());
            }
            let text = "the folder of that name holds no database, and is not empty";
            Err(Error::new(ErrorKind::NameTaken, text))
        };
        told(tenant, provisioned.await)
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        let removed = async {
            let place = match self.place(tenant).await {
                Err(e) if e.kind() == ErrorKind::TenantNotFound => return Ok(()),
                place => place?,
            };
            match self.remove(tenant, &place).await {
                Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                    blocking(move || place.folder.remove(None)).await
                }
                removed => removed,
            }
        };
        told(tenant, removed.await)
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        let names = async {
            let root = self.config.directory.clone();
            let names = blocking(move || names_in(&root)).await;
            let entries =
                names.map_err(|e| e.with_provider(NAME))?.into_iter().filter_map(|name| {
                    let (tenant, generation) = RULES.decode(&self.config.database_prefix, &name)?;
                    Some(DatabaseEntry::new(DatabaseName::from_stored(name), tenant, generation))
                });
            Ok(stream::iter(entries.map(Ok)))
        };
        stream::once(names).try_flatten().boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        told(tenant, self.look(tenant).await)
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if mode == MaintenanceMode::Exclusive {
            return unsupported(tenant, "keep everybody else out for maintenance");
        }
        let opened = async {
            let place = self.place(tenant).await?;
            let lock = place.folder.enter(Mode::Shared, self.drain()).await?;
            self.open_alone(tenant, &place, lock).await
        };
        told(tenant, opened.await)
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        unsupported(tenant, "suspend a tenant in the engine")
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        unsupported(tenant, "activate a tenant in the engine")
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        _sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        unsupported(tenant, "back up a database")
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        _manifest: &BackupManifest,
        _source: &mut (dyn AsyncRead + Send + Unpin),
        _options: RestoreOptions,
    ) -> Result<()> {
        unsupported(tenant, "restore a database")
    }
}

/// So that the control plane takes it as it is.
impl From<FoldersFactory> for Arc<dyn DatabaseFactory> {
    fn from(factory: FoldersFactory) -> Self {
        Arc::new(factory)
    }
}
