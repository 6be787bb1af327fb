//! Databases of Turso beside the vendor's own client, which knows nothing of us, and beside files.

pub(crate) mod columns;
mod files;
mod opening;
pub(crate) mod raw;
mod reals;
mod transactions;
mod values;

use std::sync::Arc;

use mt_conformance::MemoryPlacements;
use mt_core::{DataAdapters, DatabaseFactory as _, DeploymentId, FactoryContext, TenantId};
use mt_devservers::Turso;
use mt_sqlite::SqliteFactory;
use mt_tests::Installation;
use mt_turso::{TursoFactory, TursoFactoryBuilder};

use crate::support::tenant;

/// A service and a folder, both of one installation.
struct Site {
    server: Turso,
    folder: Installation,
    deployment: DeploymentId,
}

impl Site {
    async fn start() -> Self {
        let server = Turso::start().await;
        let server = server.unwrap_or_else(|error| panic!("no server for the test: {error:#}"));
        let folder = Installation::new().unwrap();
        Self { server, folder, deployment: DeploymentId::random() }
    }

    fn context(&self) -> FactoryContext {
        let placements = Arc::new(MemoryPlacements::default());
        FactoryContext::new(self.deployment).with_placements(placements)
    }

    fn builder(&self) -> TursoFactoryBuilder {
        TursoFactory::builder()
            .with_api_url(self.server.api_url())
            .with_api_token(self.server.api_token())
            .with_organization(self.server.organization())
            .with_group(self.server.group())
            .with_context(self.context())
    }

    fn turso(&self) -> TursoFactory {
        self.builder().build().unwrap()
    }

    fn sqlite(&self) -> SqliteFactory {
        self.folder.factory().with_context(self.context()).build().unwrap()
    }
}

/// A database on the service, by our own handle and by theirs.
struct Both {
    site: Site,
    factory: TursoFactory,
    tenant: TenantId,
    ours: DataAdapters,
    theirs: libsql::Connection,
}

impl Both {
    async fn open() -> Self {
        let site = Site::start().await;
        let (factory, tenant) = (site.turso(), tenant("acme"));
        factory.provision(&tenant).await.unwrap();
        let ours = factory.get_adapters(&tenant).await.unwrap();
        let theirs = factory.native_client(&tenant).await.unwrap().connect().unwrap();
        Self { site, factory, tenant, ours, theirs }
    }
}
