//! What is said before work is begun where requests are rationed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use mt_cli::Application;
use mt_core::{
    BackupManifest, Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, DatabaseInfo,
    Forecast, Maintenance, MaintenanceMode, RestoreOptions, Result, TenantId, Work,
};
use mt_migration::Migrator;
use sea_orm_migration::MigratorTrait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{migrate_all::Next, support::Place};

/// A factory that is asked for a forecast: 4 requests a second, 5 to provision a tenant, 2 to
/// migrate one and 1 to look into one.
#[derive(Debug)]
struct Rationed {
    inner: Arc<dyn DatabaseFactory>,
    /// How often a database was made or looked into.
    calls: Arc<AtomicU64>,
    /// How often that was, when the last forecast was made.
    calls_before: Arc<AtomicU64>,
}

#[async_trait]
impl DatabaseFactory for Rationed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn forecast(&self, work: Work) -> Option<Forecast> {
        self.calls_before.store(self.calls.load(Ordering::SeqCst), Ordering::SeqCst);
        let requests = 5 * work.provisions + 2 * work.migrations + work.looks;
        Some(Forecast { requests, duration: Duration::from_millis(250 * requests) })
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        self.inner.get_adapters(tenant).await
    }

    async fn provision(&self, tenant: &TenantId) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.provision(tenant).await
    }

    async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        self.inner.deprovision(tenant).await
    }

    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>> {
        self.inner.list()
    }

    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.describe(tenant).await
    }

    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance> {
        self.inner.maintain(tenant, mode).await
    }

    async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        self.inner.suspend(tenant).await
    }

    async fn activate(&self, tenant: &TenantId) -> Result<()> {
        self.inner.activate(tenant).await
    }

    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        self.inner.backup(tenant, sink).await
    }

    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        self.inner.restore(tenant, manifest, source, options).await
    }
}

#[derive(Default)]
struct Counters {
    calls: Arc<AtomicU64>,
    calls_before: Arc<AtomicU64>,
}

impl Counters {
    fn application<M: MigratorTrait>(&self) -> Application<M> {
        let (calls, calls_before) = (Arc::clone(&self.calls), Arc::clone(&self.calls_before));
        Application::new().with_isolation(move |isolation| {
            let (calls, calls_before) = (Arc::clone(&calls), Arc::clone(&calls_before));
            isolation.layer(move |inner| -> Arc<dyn DatabaseFactory> {
                let (calls, calls_before) = (Arc::clone(&calls), Arc::clone(&calls_before));
                Arc::new(Rationed { inner, calls, calls_before })
            })
        })
    }

    /// How much was done after the last forecast, and how much before it since the last call.
    fn take(&self) -> (u64, u64) {
        let (all, before) =
            (self.calls.swap(0, Ordering::SeqCst), self.calls_before.swap(0, Ordering::SeqCst));
        (all - before, before)
    }
}

/// The lines of `err` that tell a forecast.
fn forecasts(err: &str) -> Vec<&str> {
    err.lines().filter(|line| line.contains("rate limit")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rationed_work_says_beforehand_what_it_will_cost() {
    let (place, counters) = (Place::new(), Counters::default());
    let (application, next) = (counters.application::<Migrator>(), counters.application::<Next>());
    for tenant in ["a", "b", "c"] {
        let ran = place.run_as(&application, &["provision", tenant]).await.done();
        let told =
            "about 7 requests, about 2 s at the rate limit of sqlite, unless others spend it";
        assert_eq!(forecasts(&ran.err), [told]);
        let (after, before) = counters.take();
        assert!(after > 0 && before == 0, "{before} calls before the forecast, {after} after it");
    }
    // It is there: nothing is going to be made.
    let again = ["provision", "a", "--if-not-exists"];
    let ran = place.run_as(&application, &again).await.done();
    assert!(forecasts(&ran.err).is_empty(), "{ran:?}");

    counters.take();
    let ran = place.run_as(&next, &["migrate-all", "--dry-run"]).await.done();
    assert_eq!(
        forecasts(&ran.err),
        ["about 3 requests, about 1 s at the rate limit of sqlite, unless others spend it"]
    );
    let ran = place.run_as(&next, &["migrate-all", "--tenants", "a"]).await.done();
    assert_eq!(
        forecasts(&ran.err),
        ["about 2 requests, about 1 s at the rate limit of sqlite, unless others spend it"]
    );
    // Two are left; the catalog has the third as current, and it is looked into all the same.
    counters.take();
    let ran = place.run_as(&next, &["migrate-all", "--verify", "--json"]).await.done();
    assert_eq!(
        forecasts(&ran.err),
        ["about 5 requests, about 2 s at the rate limit of sqlite, unless others spend it"]
    );
    assert_eq!(ran.json()["counts"]["migrated"], 2);
    let (after, before) = counters.take();
    assert!(after >= 3 && before == 0, "{before} calls before the forecast, {after} after it");
    // Nothing is left, so there is nothing to say.
    let ran = place.run_as(&next, &["migrate-all"]).await.done();
    assert!(forecasts(&ran.err).is_empty(), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_rationed_nothing_is_said() {
    let place = Place::new();
    let provisioned = place.run(&["provision", "a"]).await.done();
    let migrated = place.run_as(&Application::<Next>::new(), &["migrate-all"]).await.done();
    for ran in [provisioned, migrated] {
        assert!(forecasts(&ran.err).is_empty(), "{ran:?}");
    }
}
