//! What work on many tenants will cost, before it is begun.

use std::collections::{BTreeMap, HashSet};

use mt_core::{DatabaseFactory as _, Error, ErrorKind, Forecast, Result, TenantId, Work};

use crate::{MigrateAll, MultiTenancy, fleet, multi_tenancy::Inner};

/// What the tenants of one provider will cost, where it rations requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderForecast {
    /// The provider.
    pub provider: String,
    /// What they will cost.
    pub forecast: Forecast,
}

impl MultiTenancy {
    /// What making `tenants` tenants will cost with the provider that new tenants get, where it
    /// rations requests. Does no I/O.
    pub fn forecast_provision(&self, tenants: u64) -> Option<ProviderForecast> {
        let inner = &*self.inner;
        // Whether the schema is current, opening it, and whether it answers after the hooks.
        let looks = 1 + u64::from(inner.schema.is_some()) + u64::from(inner.isolation.fills());
        let work = Work::provision(tenants).with_looks(tenants.saturating_mul(looks));
        inner.forecast(inner.providers.default().name(), work)
    }

    /// What [`MultiTenancy::status`] of `tenants` will cost, for each provider that rations requests.
    /// Reads the catalog, and no tenant's database.
    ///
    /// # Errors
    /// As [`Catalog::list`](crate::Catalog::list).
    pub async fn forecast_status(&self, tenants: &[TenantId]) -> Result<Vec<ProviderForecast>> {
        let inner = &*self.inner;
        let asked: HashSet<&TenantId> = tenants.iter().collect();
        let mut works: BTreeMap<String, Work> = BTreeMap::new();
        for record in inner.catalog.list().await? {
            if asked.contains(&record.tenant) && inner.elsewhere(&record).is_none() {
                works.entry(record.provider).or_default().looks += 1;
            }
        }
        Ok(inner.forecasts(&works))
    }

    /// What [`MultiTenancy::migrate_all`] with `options` will cost, for each provider that rations
    /// requests. Reads the catalog, and no tenant's database.
    ///
    /// It is the most that the catalog gives reason to expect: each tenant whose schema it does not
    /// have as current is migrated. With `verify` the others are looked into.
    ///
    /// # Errors
    /// As [`MultiTenancy::migrate_all`], before anything is migrated.
    pub async fn forecast_migrate_all(
        &self,
        options: &MigrateAll,
    ) -> Result<Vec<ProviderForecast>> {
        let inner = &*self.inner;
        let schema = inner.schema.as_ref();
        let schema = schema.ok_or_else(|| Error::new(ErrorKind::Config, fleet::NO_SCHEMA))?;
        let records = fleet::choose(inner.catalog.list().await?, options)?;
        let mut works: BTreeMap<String, Work> = BTreeMap::new();
        for record in records.iter().filter(|record| inner.needs_look(schema, options, record)) {
            let work = works.entry(record.provider.clone()).or_default();
            if options.is_dry_run() || fleet::is_current(schema, record) {
                work.looks += 1;
            } else {
                work.migrations += 1;
            }
        }
        Ok(inner.forecasts(&works))
    }
}

impl Inner {
    fn forecasts(&self, works: &BTreeMap<String, Work>) -> Vec<ProviderForecast> {
        works.iter().filter_map(|(provider, work)| self.forecast(provider, *work)).collect()
    }

    fn forecast(&self, provider: &str, work: Work) -> Option<ProviderForecast> {
        // Nothing to do is nothing to say.
        if work.is_none() {
            return None;
        }
        // What is wrong with a provider, the work itself will tell.
        let forecast = self.provider(provider).ok()?.forecast(work)?;
        Some(ProviderForecast { provider: provider.to_owned(), forecast })
    }
}
