//! What tests on a PostgreSQL begin with.

use std::{sync::Arc, time::Duration};

use mt_conformance::MemoryPlacements;
use mt_core::{DeploymentId, FactoryContext, TenantId};
use mt_devservers::postgres::SharedPostgres;
use mt_postgres::{PostgresFactory, PostgresFactoryBuilder};
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

/// With a store that can change.
pub(crate) fn context() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
        .with_placements(Arc::new(MemoryPlacements::default()))
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}
