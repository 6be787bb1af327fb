//! An installation whose tenants are on a platform of its own.

use std::path::Path;

use futures_util::TryStreamExt as _;
use mt_control::{Catalog, DatabaseIsolation, MultiTenancy};
use mt_core::{DataAdapters, DatabaseFactory, DeploymentId, FactoryContext, TenantId};
use mt_devservers::Turso;
use mt_migration::Runner;
use mt_turso::{TursoFactory, TursoFactoryBuilder};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tempfile::TempDir;

pub(crate) struct Cloud {
    pub(crate) server: Turso,
    folder: TempDir,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        Self { server: Turso::start().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    /// Where a test can put files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn factory(&self) -> TursoFactoryBuilder {
        TursoFactory::builder()
            .with_api_url(self.server.api_url())
            .with_api_token(self.server.api_token())
            .with_organization(self.server.organization())
            .with_group(self.server.group())
    }

    /// A factory that is no part of the installation: it opens nothing, and sees every database.
    pub(crate) fn stranger(&self) -> TursoFactory {
        let context = FactoryContext::new(DeploymentId::random());
        self.factory().with_context(context).build().unwrap()
    }

    /// Opens everything, as one more process would.
    pub(crate) async fn open(&self, schema: Runner) -> MultiTenancy {
        self.open_with(schema, |isolation| isolation).await
    }

    pub(crate) async fn open_with(
        &self,
        schema: Runner,
        hooks: impl FnOnce(DatabaseIsolation) -> DatabaseIsolation,
    ) -> MultiTenancy {
        let catalog = Catalog::open(self.path().join("control.db")).await.unwrap();
        let factory = self.factory().with_context(catalog.context(&schema)).build().unwrap();
        let builder = MultiTenancy::builder().with_catalog(catalog).with_schema(schema);
        let isolation = hooks(DatabaseIsolation::new(factory));
        builder.with_database_isolation(isolation).build().await.unwrap()
    }

    /// How many requests of the platform API and of databases have been made.
    pub(crate) fn requests(&self) -> u64 {
        self.server.api_requests().total() + self.server.requests().total()
    }
}

/// Writes a note.
pub(crate) async fn note(data: &DataAdapters, text: &str) {
    let sql = "INSERT INTO notes (text) VALUES (?)";
    let insert = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [text.into()]);
    data.execute_raw(insert).await.unwrap();
}

/// Every note of a tenant, in the order in which they were written.
pub(crate) async fn notes(tenants: &MultiTenancy, tenant: &TenantId) -> Vec<String> {
    let data = tenants.get_adapters(tenant).await.unwrap();
    let query = Statement::from_string(DbBackend::Sqlite, "SELECT text FROM notes ORDER BY id");
    let rows = data.read().query_all_raw(query).await.unwrap();
    rows.iter().map(|row| row.try_get("", "text").unwrap()).collect()
}

/// The name of every tenant's database that `factory` sees.
pub(crate) async fn listed(factory: &dyn DatabaseFactory) -> Vec<String> {
    let entries: Vec<_> = factory.list().try_collect().await.unwrap();
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name.to_string()).collect();
    names.sort();
    names
}
