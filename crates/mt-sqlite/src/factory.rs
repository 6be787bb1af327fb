use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    ErrorKind, FactoryContext, Generation, Maintenance, MaintenanceMode, OpenHandles, Placement,
    ReadOnly, RestoreOptions, Result, Revoked, Stamp, TenantId,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    NAME, SqliteConfig, SqliteFactoryBuilder, backup,
    connect::{Use, connect},
    error::{Error, sharpen},
    files::{Files, size_bytes},
    image::LazyImage,
    look::{Look, look},
    tenant_lock::{Mode, TenantLock},
};

/// A SQLite file of its own for every tenant, in one folder.
#[derive(Debug)]
pub struct SqliteFactory {
    pub(crate) config: SqliteConfig,
    pub(crate) context: FactoryContext,
    pub(crate) files: Files,
    image: LazyImage,
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

    /// Runs blocking work on a thread for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work).await.map_err(Error::from)?
    }

    /// Takes the tenant's lock, then asks where its file is: a restore switches the placement only
    /// while nobody holds the lock.
    pub(crate) async fn locate(&self, tenant: &TenantId, mode: Mode) -> Result<Located> {
        let lock_path = self.files.lock_path(tenant);
        let wait = match mode {
            Mode::Shared => self.config.busy_timeout(),
            Mode::Exclusive => self.config.drain_timeout(),
        };
        let mut lock = TenantLock::take(&lock_path, mode, false, wait).await?;
        let placement = self.placement(tenant).await?;
        let path = self.path_at(tenant, &placement);
        if !path.exists() {
            return Err(Error::NoDatabase(path).into());
        }
        if lock.is_none() {
            // The files were copied here without their lock files.
            lock = TenantLock::take(&lock_path, mode, true, wait).await?;
        }
        match lock {
            Some(lock) if path.exists() => Ok(Located { placement, path, lock }),
            _ => Err(Error::NoDatabase(path).into()),
        }
    }

    /// Reads the stamp and the ledger, and refuses a database that is not the tenant's.
    pub(crate) async fn look_at(
        &self,
        tenant: &TenantId,
        located: &Located,
    ) -> Result<(Stamp, Vec<String>)> {
        let ledger = self.context.ledger().map(str::to_owned);
        let (path, config) = (located.path.clone(), self.config.clone());
        let look = self.blocking(move || look(&path, &config, ledger.as_deref())).await?;
        let (stamp, applied) = look.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, located.placement.generation)?;
        Ok((stamp, applied))
    }

    /// Makes the database, unless there is one by now.
    async fn create(&self, tenant: &TenantId) -> Result<()> {
        {
            let files = self.files.clone();
            self.blocking(move || Ok(files.create_directory()?)).await?;
        }
        let image = self.image.get(&self.files, &self.context).await?;
        let lock_path = self.files.lock_path(tenant);
        let wait = self.config.drain_timeout();
        let lock = TenantLock::take(&lock_path, Mode::Exclusive, true, wait).await?;
        let placement = self.placement(tenant).await?;
        let path = self.path_at(tenant, &placement);
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        let (files, config) = (self.files.clone(), self.config.clone());
        self.blocking(move || {
            let _lock = lock;
            if path.exists() {
                match look(&path, &config, None)? {
                    // There is nothing in it to lose.
                    Look::Empty => files.remove(&path)?,
                    // Somebody was faster; the caller looks whose it is.
                    Look::Stamped { .. } | Look::Unstamped => return Ok(()),
                }
            }
            Ok(files.publish_bytes(&image.stamped(&stamp)?, &path)?)
        })
        .await
    }

    /// Accepts a database that is already there, if it is this tenant's.
    async fn adopt(&self, tenant: &TenantId) -> Result<Adopted> {
        let located = match self.locate(tenant, Mode::Shared).await {
            Err(e) if e.kind() == ErrorKind::TenantNotFound => return Ok(Adopted::Nothing),
            located => located?,
        };
        let (path, config) = (located.path.clone(), self.config.clone());
        let taken = |source: mt_core::Error| {
            mt_core::Error::from(Error::Taken("its stamp says so")).with_source(source)
        };
        match self.blocking(move || look(&path, &config, None)).await? {
            Look::Empty => Ok(Adopted::Nothing),
            Look::Unstamped => Err(Error::Taken("it has tables and no stamp").into()),
            Look::Stamped { stamp, .. } => stamp
                .check(self.context.deployment, tenant, located.placement.generation)
                .map(|()| Adopted::Database)
                .map_err(taken),
        }
    }

    /// Removes every generation of the tenant's database that is stamped for this tenant.
    async fn remove_all(&self, tenant: &TenantId) -> Result<()> {
        let wait = self.config.drain_timeout();
        let lock_path = self.files.lock_path(tenant);
        let current = match self.placement(tenant).await {
            Ok(placement) => placement,
            // Nothing was ever placed, or the row is gone; the first file may still be there.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                Placement::derived(Generation::FIRST)
            }
            Err(e) => return Err(e),
        };
        let mut paths: Vec<PathBuf> = (1..=current.generation.next().get())
            .filter_map(Generation::new)
            .map(|generation| self.path_at(tenant, &Placement::derived(generation)))
            .collect();
        let current_path = self.path_at(tenant, &current);
        if !paths.contains(&current_path) {
            paths.push(current_path);
        }
        paths.retain(|path| path.exists());
        let any = !paths.is_empty();
        let Some(lock) = TenantLock::take(&lock_path, Mode::Exclusive, any, wait).await? else {
            return Ok(());
        };
        let (files, config) = (self.files.clone(), self.config.clone());
        let (deployment, tenant) = (self.context.deployment, tenant.clone());
        self.blocking(move || {
            // All are looked at before any is removed.
            for path in &paths {
                let (stamp, _) = look(path, &config, None)?.stamped(&tenant)?;
                stamp.check(deployment, &tenant, stamp.generation)?;
            }
            for path in &paths {
                files.remove(path)?;
            }
            Ok(lock.remove(&lock_path)?)
        })
        .await
    }
}

enum Adopted {
    Database,
    /// Nothing is there, or nothing worth keeping.
    Nothing,
}

/// Names the tenant and the provider in every error that leaves.
fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = if e.tenant().is_none() { e.with_tenant(tenant) } else { e };
        e.with_provider(NAME)
    })
}

impl SqliteFactory {
    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
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
        let mode = match mode {
            MaintenanceMode::Shared => Mode::Shared,
            MaintenanceMode::Exclusive => {
                let revoked = self.handles.revoke(tenant, self.config.drain_timeout()).await?;
                // From here on the lock file keeps out whoever comes.
                drop(revoked);
                Mode::Exclusive
            }
        };
        let located = self.locate(tenant, mode).await?;
        let (stamp, _) = self.look_at(tenant, &located).await?;
        let connection = connect(&located.path, &self.config, Use::Maintenance);
        Ok(Maintenance::new(stamp, connection, located.lock))
    }

    async fn look_for(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let located = self.locate(tenant, Mode::Shared).await?;
        let (stamp, applied) = self.look_at(tenant, &located).await?;
        let name = self.files.name(tenant, &located.placement);
        let size = size_bytes(&located.path)?;
        Ok(DatabaseInfo::new(name, stamp, applied).with_size_bytes(size))
    }

    /// Revokes what this process has open of the tenant, then keeps others out.
    pub(crate) async fn take_over(&self, tenant: &TenantId) -> Result<(Revoked<'_>, TenantLock)> {
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
        let provisioned = async {
            if let Adopted::Nothing = self.adopt(tenant).await? {
                self.create(tenant).await?;
                if let Adopted::Nothing = self.adopt(tenant).await? {
                    return Err(Error::Taken("it vanished while it was being made").into());
                }
            }
            Ok(())
        };
        told(tenant, provisioned.await)
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
            let entries = self.blocking(move || Ok(files.list()?)).await?;
            Ok::<_, mt_core::Error>(stream::iter(entries.into_iter().map(Ok)))
        };
        stream::once(entries).try_flatten().boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        told(tenant, self.look_for(tenant).await)
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
