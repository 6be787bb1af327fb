//! What work on many tenants will cost, before it is begun.

use mt_core::{DatabaseFactory as _, Error, ErrorKind, Forecast, Result, Work};

use crate::{MigrateAll, MultiTenancy, fleet};

impl MultiTenancy {
    /// What making `tenants` tenants will cost, where the provider rations requests. Does no I/O.
    pub fn forecast_provision(&self, tenants: u64) -> Option<Forecast> {
        let inner = &*self.inner;
        // Whether the schema is current, opening it, and whether it answers after the hooks.
        let looks = 1 + u64::from(inner.schema.is_some()) + u64::from(inner.isolation.fills());
        inner.forecast(Work::provision(tenants).with_looks(tenants.saturating_mul(looks)))
    }

    /// What [`MultiTenancy::status`] of `tenants` tenants will cost, where the provider rations
    /// requests. Does no I/O.
    pub fn forecast_status(&self, tenants: u64) -> Option<Forecast> {
        self.inner.forecast(Work::default().with_looks(tenants))
    }

    /// What [`MultiTenancy::migrate_all`] with `options` will cost, where the provider rations
    /// requests. Reads the catalog, and no tenant's database.
    ///
    /// It is the most that the catalog gives reason to expect: each tenant whose schema it does not
    /// have as current is migrated. With `verify` the others are looked into.
    ///
    /// # Errors
    /// As [`MultiTenancy::migrate_all`], before anything is migrated.
    pub async fn forecast_migrate_all(&self, options: &MigrateAll) -> Result<Option<Forecast>> {
        let inner = &*self.inner;
        let schema = inner.schema.as_ref();
        let schema = schema.ok_or_else(|| Error::new(ErrorKind::Config, fleet::NO_SCHEMA))?;
        let records = fleet::choose(inner.catalog.list().await?, options)?;
        let mut work = Work::default();
        for record in records.iter().filter(|record| inner.needs_look(schema, options, record)) {
            if options.is_dry_run() || fleet::is_current(schema, record) {
                work.looks += 1;
            } else {
                work.migrations += 1;
            }
        }
        Ok(inner.forecast(work))
    }
}

impl crate::multi_tenancy::Inner {
    fn forecast(&self, work: Work) -> Option<Forecast> {
        // Nothing to do is nothing to say.
        if work.is_none() { None } else { self.cached.forecast(work) }
    }
}
