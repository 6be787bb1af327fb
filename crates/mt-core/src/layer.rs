use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    BackupManifest, Capabilities, CreateAdapters, DataAdapters, DatabaseEntry, DatabaseFactory,
    DatabaseInfo, Forecast, Maintenance, MaintenanceMode, RecordedSchema, RestoreOptions, Result,
    TenantId, Work,
};

/// A factory around a factory, composed as tower's layers are: it changes some methods and passes
/// the rest on. Every layer is a [`DatabaseFactory`].
#[async_trait]
pub trait FactoryLayer: fmt::Debug + Send + Sync + 'static {
    /// The factory inside.
    fn inner(&self) -> &dyn DatabaseFactory;

    /// Around [`DatabaseFactory::get_adapters`].
    ///
    /// # Errors
    /// As there.
    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.inner().get_adapters(tenant).await
    }

    /// Forgets what it keeps of the tenant's current database. Called before and after what ends
    /// the use of that database: `deprovision`, `restore`, `suspend`, and `maintain` where it is
    /// exclusive.
    fn forget(&self, tenant: &TenantId);
}

#[async_trait]
impl<L: FactoryLayer> DatabaseFactory for L {
    fn name(&self) -> &'static str {
        self.inner().name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }

    fn forecast(&self, work: Work) -> Option<Forecast> {
        self.inner().forecast(work)
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.open(tenant).await
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        self.inner().provision(tenant).await
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        self.forget(tenant);
        let done = self.inner().deprovision(tenant).await;
        self.forget(tenant);
        done
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        self.inner().list()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        self.inner().describe(tenant).await
    }

    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        self.inner().describe_many(tenants).await
    }

    async fn recorded_schemas(&self, tenants: &[TenantId]) -> Result<Vec<Option<RecordedSchema>>> {
        self.inner().recorded_schemas(tenants).await
    }

    async fn tend(&self) -> Result<()> {
        self.inner().tend().await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        if mode == MaintenanceMode::Exclusive {
            self.forget(tenant);
        }
        self.inner().maintain(tenant, mode).await
    }

    async fn maintain_described(
        &self,
        tenant: &TenantId,
        seen: &DatabaseInfo,
    ) -> Result<Maintenance> {
        self.inner().maintain_described(tenant, seen).await
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        self.forget(tenant);
        let done = self.inner().suspend(tenant).await;
        self.forget(tenant);
        done
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        self.inner().activate(tenant).await
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        self.inner().backup(tenant, sink).await
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        self.forget(tenant);
        let done = self.inner().restore(tenant, manifest, source, options).await;
        self.forget(tenant);
        done
    }
}

/// A factory whose handles make the application's own adapters. From
/// [`DatabaseFactoryExt::create_adapters`](crate::DatabaseFactoryExt::create_adapters).
#[derive(Debug)]
pub struct WithCreateAdapters {
    inner: Arc<dyn DatabaseFactory>,
    create: CreateAdapters,
}

impl WithCreateAdapters {
    /// Attaches `create` to what `inner` opens.
    pub fn new(inner: Arc<dyn DatabaseFactory>, create: CreateAdapters) -> Self {
        Self { inner, create }
    }
}

#[async_trait]
impl FactoryLayer for WithCreateAdapters {
    fn inner(&self) -> &dyn DatabaseFactory {
        &*self.inner
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        let data = self.inner.get_adapters(tenant).await?;
        Ok(data.with_create_adapters(self.create.clone()))
    }

    fn forget(&self, _tenant: &TenantId) {}
}

impl From<WithCreateAdapters> for Arc<dyn DatabaseFactory> {
    fn from(factory: WithCreateAdapters) -> Self {
        Arc::new(factory)
    }
}
