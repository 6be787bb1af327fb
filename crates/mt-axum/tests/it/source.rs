use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use mt_axum::{FactorySource, TenantLayer};
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    DatabaseName, Error, ErrorKind, Generation, Maintenance, MaintenanceMode, RestoreOptions,
    Result, TenantId, TenantInfo, TenantSource as _, TenantState,
};

use crate::support::{HEADER, app, open, request, send, tenant};

/// Has one tenant's database, and can only open it.
#[derive(Debug)]
struct OneTenant(DataAdapters);

impl OneTenant {
    fn unsupported<T>(what: &str) -> Result<T> {
        Err(Error::unsupported("one-tenant", what))
    }
}

#[async_trait]
impl DatabaseFactory for OneTenant {
    fn name(&self) -> &'static str {
        "one-tenant"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::MINIMAL
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        if self.0.tenant() == tenant {
            Ok(self.0.clone())
        } else {
            Err(Error::new(ErrorKind::TenantNotFound, "no such tenant").with_tenant(tenant))
        }
    }

    async fn provision(&self, _tenant: &TenantId) -> Result<()> {
        Self::unsupported("provision")
    }

    async fn deprovision(&self, _tenant: &TenantId) -> Result<()> {
        Self::unsupported("deprovision")
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        stream::iter([Self::unsupported("list")]).boxed()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let data = self.get_adapters(tenant).await?;
        let name = DatabaseName::from_stored("one");
        Ok(DatabaseInfo::new(name, data.stamp().clone()))
    }

    async fn maintain(&self, _tenant: &TenantId, _mode: MaintenanceMode) -> Result<Maintenance> {
        Self::unsupported("maintain")
    }

    async fn suspend(&self, _tenant: &TenantId) -> Result<()> {
        Self::unsupported("suspend")
    }

    async fn activate(&self, _tenant: &TenantId) -> Result<()> {
        Self::unsupported("activate")
    }

    async fn backup(
        &self,
        _tenant: &TenantId,
        _sink: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        Self::unsupported("backup")
    }

    async fn restore(
        &self,
        _tenant: &TenantId,
        _manifest: &BackupManifest,
        _source: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
        _options: RestoreOptions,
    ) -> Result<()> {
        Self::unsupported("restore")
    }
}

#[tokio::test]
async fn a_factory_alone_serves_who_has_a_database() {
    let source = FactorySource::new(Arc::new(OneTenant(open("acme").await)));
    let info = source.tenant(&tenant("acme")).await.unwrap();
    assert_eq!(info, TenantInfo::new(TenantState::Active, Generation::FIRST));
    let unknown = source.tenant(&tenant("globex")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::TenantNotFound);

    let app = app(TenantLayer::new(Arc::new(source)).with_header(HEADER));
    let reply = send(&app, request("acme")).await;
    assert_eq!((reply.status, &*reply.text), (StatusCode::OK, "acme"));
    let reply = send(&app, request("globex")).await;
    assert_eq!((reply.status.as_u16(), &*reply.problem()), (404, "tenant-not-found"));
}
