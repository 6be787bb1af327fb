use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use mt_core::{CacheSettings, Error, ErrorKind, Result, TenantId};
use mt_migration::Runner;

use crate::{
    Catalog, DatabaseIsolation, MultiTenancy,
    multi_tenancy::{Inner, watch},
    provider::OpenDatabases,
};

/// Which tenant administers the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessControl {
    /// The application's own tenant. It is a tenant like the others, with a database of its own;
    /// it is made when the [`MultiTenancy`] is built, stays open once it was used, and is never
    /// suspended or removed.
    pub main_tenant_id: TenantId,
}

/// Makes a [`MultiTenancy`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct MultiTenancyBuilder {
    catalog: Option<Catalog>,
    isolation: Option<DatabaseIsolation>,
    schema: Option<Runner>,
    access: Option<AccessControl>,
    cache: CacheSettings,
    state_ttl: Duration,
    drain_timeout: Duration,
    min_schema_version: Option<String>,
}

impl MultiTenancyBuilder {
    pub(crate) fn new() -> Self {
        Self {
            catalog: None,
            isolation: None,
            schema: None,
            access: None,
            cache: CacheSettings::default(),
            state_ttl: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            min_schema_version: None,
        }
    }

    /// The catalog. Required.
    pub fn with_catalog(mut self, catalog: Catalog) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// How tenants' databases are made. Required.
    pub fn with_database_isolation(mut self, isolation: DatabaseIsolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// The migrations every tenant gets. Default: none; the application migrates its own way.
    pub fn with_schema(mut self, schema: Runner) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Which tenant is the main one. Default: there is none.
    pub fn with_access_control(mut self, access: AccessControl) -> Self {
        self.access = Some(access);
        self
    }

    /// How many databases are kept open, of all providers together, and for how long. Default: 100, for an hour.
    pub fn with_cache(mut self, cache: CacheSettings) -> Self {
        self.cache = cache;
        self
    }

    /// How old the state of an open tenant may be, which is how long another process's `suspend`
    /// or `deprovision` takes to reach this one. Default 5 seconds.
    pub const fn with_state_ttl(mut self, ttl: Duration) -> Self {
        self.state_ttl = ttl;
        self
    }

    /// How long `suspend`, `deprovision` and `restore` wait for what runs on the tenant's
    /// database. Default 30 seconds.
    pub const fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// The oldest schema version this program serves; a tenant with an older one answers
    /// `SchemaOutdated`. Default: any. A newer one is always served.
    pub fn with_min_schema_version(mut self, version: impl Into<String>) -> Self {
        self.min_schema_version = Some(version.into());
        self
    }

    /// Checks everything, makes the main tenant if it is not there, and starts watching the
    /// catalog for what other processes do to open tenants.
    ///
    /// # Errors
    /// `Config`: a required part is missing, or two providers have one name. Those of
    /// [`MultiTenancy::provision`] for the main tenant.
    pub async fn build(self) -> Result<MultiTenancy> {
        let missing = |what: &str| {
            Error::new(ErrorKind::Config, format!("no {what}; expected `with_{what}`"))
        };
        let catalog = self.catalog.ok_or_else(|| missing("catalog"))?;
        let isolation = self.isolation.ok_or_else(|| missing("database_isolation"))?;
        if self.state_ttl.is_zero() {
            return Err(Error::new(ErrorKind::Config, "state_ttl is 0, expected some time"));
        }
        let main = self.access.map(|access| access.main_tenant_id);
        let mut cache = self.cache;
        cache.pinned.extend(main.clone());
        let providers = Arc::new(isolation.providers()?);
        let open = OpenDatabases::new(catalog.clone(), Arc::clone(&providers), cache)?;
        let inner = Arc::new(Inner {
            catalog,
            isolation,
            schema: self.schema,
            main: main.clone(),
            providers,
            open,
            states: Mutex::new(HashMap::new()),
            operations: Mutex::new(HashMap::new()),
            state_ttl: self.state_ttl,
            drain_timeout: self.drain_timeout,
            min_schema_version: self.min_schema_version,
        });
        let multi_tenancy = MultiTenancy::start(inner, watch);
        if let Some(main) = main {
            multi_tenancy.ensure_provisioned(&main).await?;
        }
        Ok(multi_tenancy)
    }
}

impl fmt::Debug for MultiTenancyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiTenancyBuilder")
            .field("catalog", &self.catalog)
            .field("isolation", &self.isolation)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
