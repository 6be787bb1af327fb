//! An installation whose tenants are in a D1 account of its own.

use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mt_control::{
    Catalog, DatabaseIsolation, FleetReport, MigrateAll, MultiTenancy, MultiTenancyBuilder, Outcome,
};
use mt_core::{FactoryContext, TenantId};
use mt_d1::{D1Config, D1Factory, D1FactoryBuilder};
use mt_devservers::{D1, d1::D1Builder};
use mt_migration::Runner;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tenant;

/// More than any test sends to a server without a limit.
const UNLIMITED: u32 = 1_000_000;

pub(crate) struct Account {
    pub(crate) server: D1,
    folder: TempDir,
    http: reqwest::Client,
}

impl Account {
    /// One without a rate limit.
    pub(crate) async fn start() -> Self {
        Self::start_with(D1::builder()).await
    }

    pub(crate) async fn start_with(server: D1Builder) -> Self {
        let server = server.start().await;
        let server = server.unwrap_or_else(|error| panic!("no server for the test: {error:#}"));
        let http = mt_devservers::http_client().build().unwrap();
        Self { server, folder: tempfile::tempdir().unwrap(), http }
    }

    /// Where a test can put files, and where the catalog is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn factory(&self) -> D1FactoryBuilder {
        self.factory_with(D1Config::default())
    }

    /// A factory of this account, in everything else as `config` says.
    pub(crate) fn factory_with(&self, config: D1Config) -> D1FactoryBuilder {
        D1Factory::builder()
            .with_config(config)
            .with_api_url(self.server.api_url())
            .with_api_token(self.server.api_token())
            .with_account_id(self.server.account_id())
            .with_requests_per_window(UNLIMITED)
    }

    /// A factory that is no part of the installation: it opens nothing, and sees every database.
    pub(crate) fn stranger(&self) -> D1Factory {
        let context = FactoryContext::new(mt_core::DeploymentId::random());
        self.factory().with_context(context).build().unwrap()
    }

    /// Opens everything, as one more process would.
    pub(crate) async fn open(&self, schema: Runner) -> MultiTenancy {
        self.open_with(schema, |factory| factory, |isolation| isolation).await
    }

    pub(crate) async fn open_with(
        &self,
        schema: Runner,
        settings: impl FnOnce(D1FactoryBuilder) -> D1FactoryBuilder,
        hooks: impl FnOnce(DatabaseIsolation) -> DatabaseIsolation,
    ) -> MultiTenancy {
        let (builder, factory) = self.parts(schema, settings).await;
        let isolation = hooks(DatabaseIsolation::new(factory));
        builder.with_database_isolation(isolation).build().await.unwrap()
    }

    /// The same in two parts, for whoever wants to keep the factory.
    pub(crate) async fn parts(
        &self,
        schema: Runner,
        settings: impl FnOnce(D1FactoryBuilder) -> D1FactoryBuilder,
    ) -> (MultiTenancyBuilder, D1Factory) {
        let catalog = Catalog::open(self.path().join("control.db")).await.unwrap();
        let factory = settings(self.factory()).with_context(catalog.context(&schema));
        let builder = MultiTenancy::builder().with_catalog(catalog).with_schema(schema);
        (builder, factory.build().unwrap())
    }

    /// How many requests `work` makes.
    pub(crate) async fn requests<T>(&self, work: impl Future<Output = T>) -> (u64, T) {
        let before = self.server.requests().total();
        let done = work.await;
        (self.server.requests().total() - before, done)
    }

    /// How many requests meant this tenant's first database.
    pub(crate) fn asked(&self, tenant: &TenantId) -> u64 {
        self.server.requests().of(&database(tenant))
    }

    /// What a statement answers on the tenant's first database, in a request of our own that knows
    /// nothing of the provider: the rows.
    pub(crate) async fn rows(&self, tenant: &TenantId, sql: &str) -> Vec<Vec<Value>> {
        let (url, account) = (self.server.api_url(), self.server.account_id());
        let base = format!("{url}/accounts/{account}/d1/database/{}", database(tenant));
        let get = self.http.get(&base).bearer_auth(self.server.api_token());
        let found = answer(get).await;
        let uuid = found["result"]["uuid"].as_str().unwrap();
        let base = format!("{url}/accounts/{account}/d1/database/{uuid}/raw");
        let post = self.http.post(base).bearer_auth(self.server.api_token());
        let mut found = answer(post.json(&json!({ "sql": sql }))).await;
        serde_json::from_value(found["result"][0]["results"]["rows"].take()).unwrap()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Value {
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
    answer
}

/// The name of a tenant's first database.
pub(crate) fn database(tenant: &TenantId) -> String {
    format!("tenant_{tenant}")
}

pub(crate) fn ids(prefix: &str, count: usize) -> Vec<TenantId> {
    (0..count).map(|n| tenant(&format!("{prefix}{n:03}"))).collect()
}

/// Makes tenants, several at once.
pub(crate) async fn provision(tenants: &MultiTenancy, ids: &[TenantId]) {
    let made = stream::iter(ids.to_vec()).map(|id| async move { tenants.provision(&id).await });
    made.buffer_unordered(8).try_collect::<Vec<_>>().await.unwrap();
}

/// Migrates everybody, and nobody fails.
pub(crate) async fn migrate(tenants: &MultiTenancy) -> FleetReport {
    let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
    assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
    report
}

/// Which migrations ran on each tenant that was migrated, all of them atomically.
pub(crate) fn ran(report: &FleetReport) -> Vec<(&TenantId, &[String])> {
    let each = report.migrated().map(|one| match &one.outcome {
        Outcome::Migrated { ran, not_atomic } => {
            assert_eq!(not_atomic.len(), 0, "{one:?}");
            (&one.tenant, ran.as_slice())
        }
        other => panic!("{other:?}"),
    });
    each.collect()
}
