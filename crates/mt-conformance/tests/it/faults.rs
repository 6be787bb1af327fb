use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    DeploymentId, Error, ErrorKind, Maintenance, MaintenanceMode, OpenHandles, ReadOnly,
    RestoreOptions, Result, TenantId,
};
use mt_sqlite::SqliteFactory;
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::seam::{Batches, Seam};

/// How a factory breaks the contract; what is `false` in it is built the same way and keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// Not a fault: a provider that can do nothing beyond what every provider does.
    Minimal,
    /// Opens, for every tenant, the database of the one that was provisioned first.
    OpensAnother,
    /// Reads the stamp in the tenant's database, and all else in that of the first.
    AnswersFrom {
        another: bool,
    },
    /// The second `provision` deletes the rows.
    ProvisionEmpties,
    /// The second `provision` removes the database and makes a new one.
    ProvisionReplaces,
    /// The read handle that the engine is said to guard.
    ReadHandle {
        writes: bool,
    },
    /// Says that there is no backup, and makes one.
    DeniesBackup,
    /// Says that there is backup, and makes none.
    ClaimsBackup,
    /// A driver with such batches.
    Batches(Batches),
    /// A commit that is acknowledged.
    Commits {
        lost: bool,
    },
}

/// A factory around a good one, with one fault.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<SqliteFactory>,
    deployment: DeploymentId,
    fault: Fault,
    first: Mutex<Option<TenantId>>,
    /// What was opened past the good factory.
    reopened: OpenHandles,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<SqliteFactory>, deployment: DeploymentId, fault: Fault) -> Self {
        Self { inner, deployment, fault, first: Mutex::new(None), reopened: OpenHandles::default() }
    }

    /// The tenant that was provisioned first.
    fn first(&self, tenant: &TenantId) -> TenantId {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| tenant.clone()).clone()
    }

    /// A connection to the tenant's file that asks nobody.
    async fn connect(&self, tenant: &TenantId, mode: &str) -> Result<DatabaseConnection> {
        let path = self.inner.database_path(tenant).await?;
        let url = format!("sqlite://{}?mode={mode}", path.display());
        let options = ConnectOptions::new(url).max_connections(2).to_owned();
        Database::connect(options).await.map_err(|error| {
            Error::from_db_err(error, ErrorKind::Unavailable, "cannot open the tenant's file")
        })
    }

    async fn reopened(&self, tenant: &TenantId, driver: Seam) -> Result<DataAdapters> {
        let generation = self.inner.describe(tenant).await?.stamp.generation;
        DataAdapters::opening(tenant, self.deployment, Arc::new(driver))
            .with_generation(generation)
            .with_read(self.connect(tenant, "ro").await?, ReadOnly::Engine)
            .open()
            .await
    }

    async fn empty(&self, tenant: &TenantId) -> Result<()> {
        let data = self.inner.get_adapters(tenant).await?;
        // There is nothing to delete where the table is not made yet.
        drop(data.execute_unprepared("DELETE FROM mt_probe").await);
        Ok(())
    }
}

#[async_trait]
impl DatabaseFactory for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        match self.fault {
            Fault::Minimal => {
                capabilities = Capabilities::MINIMAL;
                // Proven by a batch: there are no other transactions.
                capabilities.transactional_ddl = true;
            }
            Fault::DeniesBackup => capabilities.backup = false,
            Fault::ClaimsBackup => capabilities.backup = true,
            _ => {}
        }
        capabilities
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        match self.fault {
            Fault::Minimal => {
                let generation = self.inner.describe(tenant).await?.stamp.generation;
                let seam = Seam::new(self.connect(tenant, "rw").await?).without_sessions();
                let data = DataAdapters::opening(tenant, self.deployment, Arc::new(seam))
                    .with_generation(generation)
                    .with_provider(self.name())
                    .open()
                    .await?;
                self.reopened.track(&data)?;
                Ok(data)
            }
            Fault::OpensAnother => self.inner.get_adapters(&self.first(tenant)).await,
            Fault::AnswersFrom { another } => {
                let answers = if another { self.first(tenant) } else { tenant.clone() };
                let seam = Seam::new(self.connect(&answers, "rw").await?)
                    .with_stamp_of(self.connect(tenant, "ro").await?);
                self.reopened(tenant, seam).await
            }
            Fault::ReadHandle { writes } => {
                let generation = self.inner.describe(tenant).await?.stamp.generation;
                let read = self.connect(tenant, if writes { "rw" } else { "ro" }).await?;
                DataAdapters::opening(tenant, self.deployment, self.connect(tenant, "rw").await?)
                    .with_generation(generation)
                    .with_read(read, ReadOnly::Engine)
                    .open()
                    .await
            }
            Fault::Batches(batches) => {
                let seam = Seam::new(self.connect(tenant, "rw").await?).with_batches(batches);
                self.reopened(tenant, seam).await
            }
            Fault::Commits { lost } => {
                let seam = Seam::new(self.connect(tenant, "rw").await?).with_lost_commits(lost);
                self.reopened(tenant, seam).await
            }
            _ => self.inner.get_adapters(tenant).await,
        }
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        self.first(tenant);
        let is_there = self.inner.describe(tenant).await.is_ok();
        match self.fault {
            Fault::ProvisionEmpties if is_there => self.empty(tenant).await?,
            Fault::ProvisionReplaces if is_there => self.inner.deprovision(tenant).await?,
            _ => {}
        }
        self.inner.provision(tenant).await
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        let _revoked = self.reopened.revoke(tenant, Duration::from_secs(4)).await?;
        self.inner.deprovision(tenant).await
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        self.inner.list()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        self.inner.describe(tenant).await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if !matches!(self.fault, Fault::Minimal) {
            return self.inner.maintain(tenant, mode).await;
        }
        if mode == MaintenanceMode::Exclusive {
            return Err(Error::unsupported(self.name(), "keep others out"));
        }
        let inner = self.inner.maintain(tenant, mode).await?;
        let seam = Seam::new(self.connect(tenant, "rw").await?).without_sessions();
        Ok(Maintenance::new(inner.stamp().clone(), Arc::new(seam), inner))
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        self.inner.suspend(tenant).await
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        self.inner.activate(tenant).await
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        match self.fault {
            Fault::ClaimsBackup | Fault::Minimal => Err(Error::unsupported(self.name(), "back up")),
            _ => self.inner.backup(tenant, sink).await,
        }
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        if matches!(self.fault, Fault::Minimal) {
            return Err(Error::unsupported(self.name(), "restore"));
        }
        self.inner.restore(tenant, manifest, source, options).await
    }
}
