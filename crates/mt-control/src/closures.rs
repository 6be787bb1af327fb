use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    DatabaseName, Error, Maintenance, MaintenanceMode, RestoreOptions, Result, TenantId,
};
use tokio::io::{AsyncRead, AsyncWrite};

type Call<T> = Arc<dyn Fn(TenantId) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// A factory of up to three functions, for an application that makes and opens databases its own
/// way: `get_adapters`, and where it provisions too `on_provision` and `on_deprovision`.
///
/// What needs more than these three (listing, migrating, backups) is `Unsupported`. A factory of
/// your own, see `examples/custom-provider`, can do all of it.
#[derive(Clone)]
#[must_use]
pub struct Closures {
    get_adapters: Call<DataAdapters>,
    provision: Option<Call<()>>,
    deprovision: Option<Call<()>>,
    capabilities: Capabilities,
}

/// The name under which errors report this factory.
const NAME: &str = "closures";

impl Closures {
    /// Opens databases with `get_adapters`, which ends in [`DataAdapters::open`] or
    /// [`DataAdapters::opening`].
    pub fn new<F>(get_adapters: impl Fn(TenantId) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<DataAdapters>> + Send + 'static,
    {
        let mut capabilities = Capabilities::MINIMAL;
        capabilities.transactions = true;
        capabilities.savepoints = true;
        Self { get_adapters: call(get_adapters), provision: None, deprovision: None, capabilities }
    }

    /// Makes databases with `provision`. Without it, a tenant is provisioned if its database opens.
    pub fn on_provision<F>(
        mut self,
        provision: impl Fn(TenantId) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.provision = Some(call(provision));
        self
    }

    /// Removes databases with `deprovision`. Without it, removing is `Unsupported`.
    pub fn on_deprovision<F>(
        mut self,
        deprovision: impl Fn(TenantId) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.deprovision = Some(call(deprovision));
        self
    }

    /// Says what the databases behind `get_adapters` can do. Default: transactions, savepoints.
    pub const fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }
}

fn call<T, F>(function: impl Fn(TenantId) -> F + Send + Sync + 'static) -> Call<T>
where
    F: Future<Output = Result<T>> + Send + 'static,
{
    Arc::new(move |tenant| function(tenant).boxed())
}

fn unsupported<T>(tenant: &TenantId, what: &str) -> Result<T> {
    Err(Error::unsupported(NAME, what).with_tenant(tenant))
}

#[async_trait]
impl DatabaseFactory for Closures {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        (self.get_adapters)(tenant.clone()).await
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        match &self.provision {
            Some(provision) => provision(tenant.clone()).await,
            None => self.get_adapters(tenant).await.map(drop),
        }
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        match &self.deprovision {
            Some(deprovision) => deprovision(tenant.clone()).await,
            None => unsupported(tenant, "remove a database; no `on_deprovision` was given"),
        }
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        stream::iter([Err(Error::unsupported(NAME, "list databases"))]).boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let data = self.get_adapters(tenant).await?;
        let name = DatabaseName::from_stored(tenant.as_str());
        Ok(DatabaseInfo::new(name, data.stamp().clone()))
    }

    async fn maintain(&self, tenant: &TenantId, _mode: MaintenanceMode) -> Result<Maintenance> {
        unsupported(tenant, "open a database for maintenance")
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

impl From<Closures> for Arc<dyn DatabaseFactory> {
    fn from(closures: Closures) -> Self {
        Arc::new(closures)
    }
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closures")
            .field("on_provision", &self.provision.is_some())
            .field("on_deprovision", &self.deprovision.is_some())
            .finish_non_exhaustive()
    }
}
