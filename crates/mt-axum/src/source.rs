use std::sync::Arc;

use async_trait::async_trait;
use mt_core::{
    DataAdapters, DatabaseFactory, Result, TenantId, TenantInfo, TenantSource, TenantState,
};

/// A factory alone as a [`TenantSource`]: for an application without a control plane.
///
/// Whoever has a database is served. There is no catalog that could say that a tenant is suspended
/// or being removed; the factory's own answers are all there is. Give it a
/// [`CachedFactory`](mt_core::CachedFactory), or each request opens the database anew.
#[derive(Clone, Debug)]
pub struct FactorySource {
    factory: Arc<dyn DatabaseFactory>,
}

impl FactorySource {
    /// Serves the databases of `factory`.
    pub fn new(factory: Arc<dyn DatabaseFactory>) -> Self {
        Self { factory }
    }
}

#[async_trait]
impl TenantSource for FactorySource {
    async fn tenant(&self, tenant: &TenantId) -> Result<TenantInfo> {
        let info = self.factory.describe(tenant).await?;
        Ok(TenantInfo::new(TenantState::Active, info.stamp.generation))
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.factory.get_adapters(tenant).await
    }
}
