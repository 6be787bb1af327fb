//! An installation whose tenants are on a PostgreSQL of its own.

use mt_control::{Catalog, DatabaseIsolation, MultiTenancy};
use mt_core::TenantId;
use mt_devservers::{Postgres, postgres::PostgresBuilder};
use mt_migration::Runner;
use mt_postgres::{PostgresConfig, PostgresFactory, PostgresFactoryBuilder};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};
use tempfile::TempDir;

pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Postgres::builder()).await
    }

    pub(crate) async fn start_with(builder: PostgresBuilder) -> Self {
        let postgres = builder.start().await;
        let postgres = postgres.unwrap_or_else(|e| panic!("no server for the test: {e:#}"));
        Self { postgres, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn factory(&self) -> PostgresFactoryBuilder {
        self.factory_with(PostgresConfig::default())
    }

    /// A factory on this server, in everything else as `config` says.
    pub(crate) fn factory_with(&self, config: PostgresConfig) -> PostgresFactoryBuilder {
        PostgresFactory::builder()
            .with_config(config)
            .with_admin_url(self.postgres.url())
            .with_role_secret("a secret of the tests, of no use")
    }

    /// Opens everything, as one more process would.
    pub(crate) async fn open(&self, schema: Runner) -> MultiTenancy {
        self.open_with(schema, |factory| factory).await
    }

    pub(crate) async fn open_with(
        &self,
        schema: Runner,
        settings: impl FnOnce(PostgresFactoryBuilder) -> PostgresFactoryBuilder,
    ) -> MultiTenancy {
        let catalog = Catalog::open(self.folder.path().join("control.db")).await.unwrap();
        let factory = settings(self.factory()).with_context(catalog.context(&schema));
        MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(schema)
            .with_database_isolation(DatabaseIsolation::new(factory.build().unwrap()))
            .build()
            .await
            .unwrap()
    }

    /// A connection of our own to the tenant's first database, past the provider.
    pub(crate) async fn connect(&self, tenant: &TenantId) -> DatabaseConnection {
        let mut url: url::Url = self.postgres.url().parse().unwrap();
        url.set_path(&format!("tenant_{tenant}"));
        let mut options = ConnectOptions::new(url.as_str());
        options.sqlx_logging(false).max_connections(1);
        Database::connect(options).await.unwrap()
    }

    /// The first column of what a statement answers there, as text.
    pub(crate) async fn column(&self, tenant: &TenantId, sql: &str) -> Vec<String> {
        let connection = self.connect(tenant).await;
        let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql);
        let rows = connection.query_all_raw(statement).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// Ends the server at once, as a crash does, and starts it again.
    pub(crate) async fn crash(&self) {
        self.postgres.kill().unwrap();
        self.postgres.restart().await.unwrap();
    }
}

pub(crate) fn ids(prefix: &str, count: usize) -> Vec<TenantId> {
    (0..count).map(|n| TenantId::new(format!("{prefix}{n:02}")).unwrap()).collect()
}
