use std::{fmt, future::Future, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use mt_core::{DataAdapters, DatabaseFactory, Error, ErrorKind, Result, TenantId};

use crate::providers::{Factory, Layer, Make, Providers};

/// What a hook is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HookContext {
    /// The tenant.
    pub tenant: TenantId,
    /// The tenant's provider, for what a hook wants to do beyond its own step. Calling `provision` again is
    /// harmless.
    pub factory: Arc<dyn DatabaseFactory>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Hook = Arc<dyn Fn(HookContext) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;
type Seed = Arc<dyn Fn(DataAdapters) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// How tenants' databases are made, filled and removed: a factory, others beside it, and what the
/// application adds.
///
/// Hooks and seeds may run again after a failed step, so they should be idempotent.
#[derive(Clone)]
#[must_use]
pub struct DatabaseIsolation {
    factory: Factory,
    others: Vec<(String, Make)>,
    layers: Vec<Layer>,
    seed: Option<Seed>,
    on_provision: Option<Hook>,
    on_deprovision: Option<Hook>,
}

impl DatabaseIsolation {
    /// Isolation by `factory`: a provider's, one of your own, or
    /// [`Closures`](crate::Closures).
    pub fn new(factory: impl Into<Arc<dyn DatabaseFactory>>) -> Self {
        Self {
            factory: factory.into(),
            others: Vec::new(),
            layers: Vec::new(),
            seed: None,
            on_provision: None,
            on_deprovision: None,
        }
    }

    /// Another provider, beside the one that new tenants get: it keeps the tenants whose row in the
    /// catalog names it, and those that are
    /// [provisioned on it](crate::MultiTenancy::provision_on). Each has a name of its own: two of one
    /// name are refused with `Config` when [`MultiTenancy`](crate::MultiTenancy) is built.
    pub fn with_factory(self, factory: impl Into<Arc<dyn DatabaseFactory>>) -> Self {
        let factory = factory.into();
        self.with_provider(factory.name(), move || Ok(Arc::clone(&factory)))
    }

    /// As [`with_factory`](Self::with_factory), made when a tenant of it is first asked for. An error
    /// is one of that tenant; the next one tries again.
    pub fn with_provider(
        mut self,
        name: impl Into<String>,
        make: impl Fn() -> Result<Arc<dyn DatabaseFactory>> + Send + Sync + 'static,
    ) -> Self {
        self.others.push((name.into(), Arc::new(make)));
        self
    }

    /// Puts a layer around the factory: one that observes, rations or retries what it is asked. Where
    /// there are several providers, each gets one.
    pub fn layer<F: Into<Arc<dyn DatabaseFactory>>>(
        mut self,
        layer: impl Fn(Arc<dyn DatabaseFactory>) -> F + Send + Sync + 'static,
    ) -> Self {
        self.factory = layer(self.factory).into();
        self.layers.push(Arc::new(move |factory| layer(factory).into()));
        self
    }

    /// # Errors
    /// `Config`: two providers have one name.
    pub(crate) fn providers(&self) -> Result<Providers> {
        Providers::new(Arc::clone(&self.factory), self.others.clone(), self.layers.clone())
    }

    /// Fills a new tenant's database, after its migrations and before `on_provision`.
    pub fn seed<F, E>(mut self, seed: impl Fn(DataAdapters) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.seed =
            Some(Arc::new(move |data| seed(data).map(|done| done.map_err(Into::into)).boxed()));
        self
    }

    /// Runs when the tenant's database is made, migrated and seeded, before the tenant is served.
    pub fn on_provision<F, E>(
        mut self,
        hook: impl Fn(HookContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.on_provision = Some(boxed(hook));
        self
    }

    /// Runs when nobody uses the tenant's database any more, before it is removed. A failure keeps
    /// the database.
    pub fn on_deprovision<F, E>(
        mut self,
        hook: impl Fn(HookContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.on_deprovision = Some(boxed(hook));
        self
    }

    pub(crate) async fn run_seed(&self, data: DataAdapters) -> Result<()> {
        let Some(seed) = &self.seed else { return Ok(()) };
        let tenant = data.tenant().clone();
        seed(data).await.map_err(|e| failed("the seed", &tenant, e))
    }

    pub(crate) async fn run_on_provision(
        &self,
        factory: &Factory,
        tenant: &TenantId,
    ) -> Result<()> {
        run(self.on_provision.as_ref(), "on_provision", factory, tenant).await
    }

    pub(crate) async fn run_on_deprovision(
        &self,
        factory: &Factory,
        tenant: &TenantId,
    ) -> Result<()> {
        run(self.on_deprovision.as_ref(), "on_deprovision", factory, tenant).await
    }

    /// Whether anything of the application's is done to a new database.
    pub(crate) const fn fills(&self) -> bool {
        self.seed.is_some() || self.on_provision.is_some()
    }

    pub(crate) const fn has_on_deprovision(&self) -> bool {
        self.on_deprovision.is_some()
    }
}

async fn run(hook: Option<&Hook>, name: &str, factory: &Factory, tenant: &TenantId) -> Result<()> {
    let Some(hook) = hook else { return Ok(()) };
    let context = HookContext { tenant: tenant.clone(), factory: Arc::clone(factory) };
    hook(context).await.map_err(|e| failed(name, tenant, e))
}

fn boxed<F, E>(hook: impl Fn(HookContext) -> F + Send + Sync + 'static) -> Hook
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    Arc::new(move |context| hook(context).map(|done| done.map_err(Into::into)).boxed())
}

fn failed(what: &str, tenant: &TenantId, cause: BoxError) -> Error {
    Error::new(ErrorKind::HookFailed, format!("{what} failed"))
        .with_tenant(tenant)
        .with_source(cause)
}

impl fmt::Debug for DatabaseIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseIsolation")
            .field("factory", &self.factory)
            .field("others", &self.others.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("seed", &self.seed.is_some())
            .field("on_provision", &self.on_provision.is_some())
            .field("on_deprovision", &self.on_deprovision.is_some())
            .finish()
    }
}
