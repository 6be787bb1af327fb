//! Each tenant's database is reached by the provider that its row in the catalog names.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use mt_core::{
    CacheSettings, CachedFactory, DataAdapters, DatabaseFactory, Error, ErrorKind, FactoryLayer,
    Result, TenantId, TenantState,
};

use crate::{
    Catalog, TenantRecord,
    multi_tenancy::Inner,
    providers::{Factory, Providers},
};

/// The open databases of all providers: one cache, so one bound on how many there are.
#[derive(Clone)]
pub(crate) struct OpenDatabases(CachedFactory);

impl OpenDatabases {
    /// # Errors
    /// As [`CachedFactory::new`].
    pub(crate) fn new(
        catalog: Catalog,
        providers: Arc<Providers>,
        settings: CacheSettings,
    ) -> Result<Self> {
        Ok(Self(CachedFactory::new(Arc::new(Opener { catalog, providers }), settings)?))
    }

    /// The tenant's database, whichever provider keeps it.
    pub(crate) async fn get(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.0.get_adapters(tenant).await
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.0.open_tenants()
    }

    pub(crate) fn evict(&self, tenant: &TenantId) {
        self.0.evict(tenant);
    }

    pub(crate) fn evict_expired(&self) {
        self.0.evict_expired();
    }

    pub(crate) async fn revoke(&self, tenant: &TenantId, drain: Duration) -> Result<()> {
        self.0.revoke(tenant, drain).await
    }

    pub(crate) async fn close(&self, drain: Duration) -> Result<()> {
        self.0.close(drain).await
    }
}

impl fmt::Debug for OpenDatabases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the cache opens with. Nothing but opening goes through it.
#[derive(Debug)]
struct Opener {
    catalog: Catalog,
    providers: Arc<Providers>,
}

#[async_trait]
impl FactoryLayer for Opener {
    fn inner(&self) -> &dyn DatabaseFactory {
        &**self.providers.default()
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        if self.providers.is_single() {
            return self.providers.default().get_adapters(tenant).await;
        }
        // Not what a request saw of the tenant a moment ago: it may have moved since.
        let record = self.catalog.get(tenant).await?;
        let factory = self.providers.get(&record.provider).map_err(|e| e.with_tenant(tenant))?;
        factory.get_adapters(tenant).await
    }

    fn forget(&self, _tenant: &TenantId) {}
}

/// A tenant's own provider, in front of the open databases: what ends the use of one, ends it there.
#[derive(Clone, Debug)]
pub(crate) struct OwnProvider {
    factory: Factory,
    open: OpenDatabases,
}

impl OwnProvider {
    /// The provider without the open databases.
    pub(crate) const fn factory(&self) -> &Factory {
        &self.factory
    }
}

#[async_trait]
impl FactoryLayer for OwnProvider {
    fn inner(&self) -> &dyn DatabaseFactory {
        &*self.factory
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.open.get(tenant).await
    }

    fn forget(&self, tenant: &TenantId) {
        self.open.evict(tenant);
    }
}

impl Inner {
    /// Why this program cannot do anything to the tenant's database, where a provider keeps it that
    /// is not one of this program's: those would make, serve or remove another of the same name.
    ///
    /// A deleted tenant has no database, and its next one may be anywhere.
    pub(crate) fn elsewhere(&self, record: &TenantRecord) -> Option<String> {
        let theirs = record.provider.as_str();
        let is_here = self.providers.has(theirs) || record.state == TenantState::Deleted;
        (!is_here).then(|| {
            let ours = self.providers.names();
            format!("the tenant's database is kept by `{theirs}`, and this program runs with {ours}; run it with the provider `{theirs}`")
        })
    }

    /// Refuses a tenant whose database is kept by a provider that is not one of this program's,
    /// before anything is done.
    ///
    /// # Errors
    /// `Config`.
    pub(crate) fn require_here(&self, record: &TenantRecord) -> Result<()> {
        match self.elsewhere(record) {
            Some(why) => Err(Error::new(ErrorKind::Config, why).with_tenant(&record.tenant)),
            None => Ok(()),
        }
    }

    /// The provider that keeps the tenant's database.
    ///
    /// # Errors
    /// As [`Inner::require_here`]; `Config`: it cannot be made of its settings.
    pub(crate) fn provider_of(&self, record: &TenantRecord) -> Result<OwnProvider> {
        self.require_here(record)?;
        self.provider(&record.provider).map_err(|e| e.with_tenant(&record.tenant))
    }

    /// The provider of that name.
    ///
    /// # Errors
    /// `Config`: it is none of this program's, or cannot be made of its settings.
    pub(crate) fn provider(&self, name: &str) -> Result<OwnProvider> {
        Ok(OwnProvider { factory: self.providers.get(name)?, open: self.open.clone() })
    }

    /// Lets each provider do what it has to do beside the calls.
    pub(crate) async fn tend(&self) {
        for provider in self.providers.made() {
            if let Err(error) = provider.tend().await {
                tracing::warn!(provider = provider.name(), error = %error.to_chain(), "what is done in advance was not");
            }
        }
    }
}
