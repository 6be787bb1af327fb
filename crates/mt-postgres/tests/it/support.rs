//! What tests on a PostgreSQL begin with.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mt_conformance::MemoryPlacements;
use mt_core::{
    Connection, DeploymentId, Error, ErrorKind, FactoryContext, Result, SchemaTemplate, TenantId,
};
use mt_devservers::postgres::SharedPostgres;
use mt_postgres::{PostgresFactory, PostgresFactoryBuilder};
use sea_orm::ConnectionTrait as _;
use url::Url;
use uuid::Uuid;

/// What the passwords of all tests' roles are derived from.
pub(crate) const ROLE_SECRET: &str = "hunter2-hunter2-hunter2";

/// A part of a server that no other test uses.
#[derive(Debug)]
pub(crate) struct Site {
    server: SharedPostgres,
    pub(crate) prefix: String,
}

impl Site {
    pub(crate) async fn find() -> Self {
        let server = SharedPostgres::find().await;
        let server = server.unwrap_or_else(|error| panic!("no server for the test: {error:#}"));
        let random = Uuid::new_v4().simple().to_string();
        Self { server, prefix: format!("t{}_", &random[..10]) }
    }

    /// How the superuser reaches the server.
    pub(crate) fn url(&self) -> Url {
        self.server.url().parse().unwrap()
    }

    /// A factory, as one more process of the installation would have it.
    pub(crate) fn builder(&self, context: &FactoryContext) -> PostgresFactoryBuilder {
        PostgresFactory::builder()
            .with_admin_url(self.server.url())
            .with_role_secret(ROLE_SECRET)
            .with_database_prefix(&self.prefix)
            .with_drain_timeout(Duration::from_secs(5))
            .with_context(context.clone())
    }

    pub(crate) fn factory(&self, context: &FactoryContext) -> PostgresFactory {
        self.builder(context).build().unwrap()
    }
}

/// A schema that is one table and one row, and whose ledger has one entry.
#[derive(Debug)]
pub(crate) struct Schema(pub(crate) &'static str);

#[async_trait]
impl SchemaTemplate for Schema {
    fn fingerprint(&self) -> &str {
        self.0
    }

    fn ledger(&self) -> &'static str {
        "ledger"
    }

    async fn apply(&self, connection: &Connection) -> Result<()> {
        let Connection::SeaOrm(connection) = connection else { panic!("not SeaORM's") };
        let failed =
            |e| Error::from_db_err(e, ErrorKind::MigrationFailed, "the schema cannot be applied");
        let sql = format!(
            "CREATE SCHEMA more; CREATE TYPE more.mood AS ENUM ('ok'); \
             CREATE TABLE more.notes (id bigserial PRIMARY KEY, mood more.mood, text text); \
             CREATE VIEW texts AS SELECT text FROM more.notes; \
             CREATE FUNCTION newest() RETURNS text LANGUAGE sql AS 'SELECT max(text) FROM texts'; \
             INSERT INTO more.notes (text) VALUES ('{0}'); \
             INSERT INTO ledger (version, applied_at) VALUES ('{0}', 0)",
            self.0
        );
        connection.execute_unprepared(&sql).await.map(drop).map_err(failed)
    }
}

/// With a store that can change.
pub(crate) fn context() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
        .with_placements(Arc::new(MemoryPlacements::default()))
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}
