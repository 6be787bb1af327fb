use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mt_core::{DataAdapters, DatabaseFactory, FactoryLayer, OpenHandles, Result, TenantId};

/// A factory whose handles can be revoked from here, whatever kind of factory it is.
#[derive(Clone, Debug)]
pub(crate) struct TrackedFactory {
    inner: Arc<dyn DatabaseFactory>,
    handles: Arc<OpenHandles>,
}

impl TrackedFactory {
    pub(crate) fn new(inner: Arc<dyn DatabaseFactory>) -> Self {
        Self { inner, handles: Arc::default() }
    }

    pub(crate) async fn revoke(&self, tenant: &TenantId, drain: Duration) -> Result<()> {
        self.handles.revoke(tenant, drain).await
    }
}

#[async_trait]
impl FactoryLayer for TrackedFactory {
    fn inner(&self) -> &dyn DatabaseFactory {
        &*self.inner
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        let data = self.inner.get_adapters(tenant).await?;
        self.handles.track(&data);
        Ok(data)
    }

    async fn before_retiring(&self, _tenant: &TenantId) {}
}
