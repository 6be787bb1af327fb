use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    ErrorKind, FactoryContext, Maintenance, MaintenanceMode, OpenHandles, Placement, ReadOnly,
    RestoreOptions, Result, Revoked, TenantId,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    NAME, SqliteConfig, SqliteFactoryBuilder, backup,
    connect::{Use, connect},
    error::{Error, sharpen},
    files::Files,
    image::LazyImage,
    tenant_lock::{Mode, TenantLock},
};

/// A SQLite file of its own for every tenant, in one folder.
#[derive(Debug)]
pub struct SqliteFactory {
    pub(crate) config: SqliteConfig,
    pub(crate) context: FactoryContext,
    pub(crate) files: Files,
    pub(crate) image: LazyImage,
    handles: OpenHandles,
}

/// A tenant's current file, with the lock that keeps it there.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) placement: Placement,
    pub(crate) path: PathBuf,
    pub(crate) lock: TenantLock,
}

impl SqliteFactory {
    /// Begins to make a factory.
    pub fn builder() -> SqliteFactoryBuilder {
        SqliteFactoryBuilder::default()
    }

    pub(crate) fn new(config: SqliteConfig, context: FactoryContext) -> Self {
        let files =
            Files { directory: config.directory.clone(), prefix: config.database_prefix.clone() };
        Self {
            config,
            context,
            files,
            image: LazyImage::default(),
            handles: OpenHandles::default(),
        }
    }

    /// Where the tenant's current file is, or would be.
    ///
    /// Do not open it with anything but SQLite while the tenant may be open in this process:
    /// closing a plain file handle drops the process's locks on it.
    ///
    /// # Errors
    /// `TenantNotFound`: the placement store knows no such tenant.
    pub async fn database_path(&self, tenant: &TenantId) -> Result<PathBuf> {
        Ok(self.path_at(tenant, &self.placement(tenant).await?))
    }

    pub(crate) fn path_at(&self, tenant: &TenantId, placement: &Placement) -> PathBuf {
        self.files.path(&self.files.name(tenant, placement))
    }

    pub(crate) async fn placement(&self, tenant: &TenantId) -> Result<Placement> {
        self.context.placements.get(tenant).await?.ok_or_else(|| {
            mt_core::Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
                .with_tenant(tenant)
                .with_provider(NAME)
        })
    }

    /// Takes the tenant's lock, then asks where its file is: a restore switches the placement only
    /// while nobody holds the lock.
    pub(crate) async fn locate(&self, tenant: &TenantId, mode: Mode) -> Result<Located> {
        let lock_path = self.files.lock_path(tenant);
        let wait = match mode {
            Mode::Shared => self.config.busy_timeout(),
            Mode::Exclusive => self.config.drain_timeout(),
        };
        let lock = TenantLock::take(&lock_path, mode, false, wait).await?;
        self.locate_under(tenant, lock, mode, wait).await
    }

    async fn locate_under(
        &self,
        tenant: &TenantId,
        mut lock: Option<TenantLock>,
        mode: Mode,
        wait: Duration,
    ) -> Result<Located> {
        let placement = self.placement(tenant).await?;
        let path = self.path_at(tenant, &placement);
        if !path.exists() {
            return Err(Error::NoDatabase(path).into());
        }
        if lock.is_none() {
            // The files were copied here without their lock files.
            lock = TenantLock::take(&self.files.lock_path(tenant), mode, true, wait).await?;
        }
        match lock {
            Some(lock) if path.exists() => Ok(Located { placement, path, lock }),
            _ => Err(Error::NoDatabase(path).into()),
        }
    }
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::from)?
}

/// Names the tenant and the provider in every error that leaves.
pub(crate) fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = if e.tenant().is_none() { e.with_tenant(tenant) } else { e };
        e.with_provider(NAME)
    })
}

impl SqliteFactory {
    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.handles.admit(tenant)?;
        let located = self.locate(tenant, Mode::Shared).await?;
        let primary = connect(&located.path, &self.config, Use::Primary);
        let read = connect(&located.path, &self.config, Use::Read);
        let mut opening = DataAdapters::opening(tenant, self.context.deployment, primary)
            .with_generation(located.placement.generation)
            .with_provider(NAME)
            .with_read(read, ReadOnly::Engine)
            .with_hold(located.lock);
        if let Some(ledger) = self.context.ledger() {
            opening = opening.with_ledger(ledger);
        }
        let data = opening.open().await.map_err(sharpen)?;
        self.handles.track(&data)?;
        Ok(data)
    }

    async fn open_for_maintenance(
        &self,
        tenant: &TenantId,
        mode: MaintenanceMode,
    ) -> Result<Maintenance> {
        let located = match mode {
            MaintenanceMode::Shared => self.locate(tenant, Mode::Shared).await?,
            MaintenanceMode::Exclusive => {
                // Kept until the lock file keeps out whoever comes: a tenant that is asked for all
                // the time would be open again before the lock is free.
                let _revoked = self.handles.revoke(tenant, self.config.drain_timeout()).await?;
                self.locate(tenant, Mode::Exclusive).await?
            }
        };
        let connection = connect(&located.path, &self.config, Use::Maintenance);
        let (deployment, generation) = (self.context.deployment, located.placement.generation);
        Maintenance::open(tenant, deployment, generation, connection, located.lock)
            .await
            .map_err(sharpen)
    }

    /// Revokes what this process has open of the tenant, then keeps others out.
    pub(crate) async fn take_over(&self, tenant: &TenantId) -> Result<(Revoked, TenantLock)> {
        let wait = self.config.drain_timeout();
        let lock_path = self.files.lock_path(tenant);
        let revoked = self.handles.revoke(tenant, wait).await?;
        match TenantLock::take(&lock_path, Mode::Exclusive, true, wait).await? {
            Some(lock) => Ok((revoked, lock)),
            None => Err(Error::Locked(lock_path).into()),
        }
    }
}

#[async_trait]
impl DatabaseFactory for SqliteFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::MINIMAL;
        capabilities.transactions = true;
        capabilities.savepoints = true;
        capabilities.streaming = true;
        capabilities.read_only = ReadOnly::Engine;
        capabilities.transactional_ddl = true;
        capabilities.exclusive_maintenance = true;
        capabilities.backup = true;
        capabilities.restore = self.context.placements.can_change();
        capabilities.max_bound_parameters = Some(32_766);
        capabilities
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        told(tenant, self.open(tenant).await)
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        told(tenant, self.make(tenant).await)
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        let removed = async {
            let _revoked = self.handles.revoke(tenant, self.config.drain_timeout()).await?;
            self.remove_all(tenant).await
        };
        told(tenant, removed.await)
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        let files = self.files.clone();
        let entries = async move {
            let entries = blocking(move || Ok(files.list()?)).await?;
            Ok::<_, mt_core::Error>(stream::iter(entries.into_iter().map(Ok)))
        };
        stream::once(entries).try_flatten().boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        told(tenant, self.look_for(tenant).await)
    }

    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        match self.look_for_many(tenants).await {
            Ok(infos) => infos,
            Err(error) => tenants.iter().map(|tenant| told(tenant, Err(error.clone()))).collect(),
        }
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        told(tenant, self.open_for_maintenance(tenant, mode).await)
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        Err(mt_core::Error::unsupported(NAME, "suspend a tenant in the engine").with_tenant(tenant))
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        Err(mt_core::Error::unsupported(NAME, "activate a tenant in the engine")
            .with_tenant(tenant))
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        told(tenant, backup::take(self, tenant, sink).await)
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        told(tenant, backup::put_back(self, tenant, manifest, source, options).await)
    }
}

impl From<SqliteFactory> for Arc<dyn DatabaseFactory> {
    fn from(factory: SqliteFactory) -> Self {
        Arc::new(factory)
    }
}
