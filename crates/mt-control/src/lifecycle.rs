//! A tenant's way through its states, one step after the other, each visible in the catalog.

use mt_core::{
    DatabaseFactory as _, Error, ErrorKind, MaintenanceMode, Result, TenantId, TenantState,
};

use crate::{MultiTenancy, TenantRecord, multi_tenancy::Inner, provider::OwnProvider};

use TenantState::{Active, Deleted, Deprovisioning, Failed, Provisioning, Suspended};

/// The states from which `provision` goes on.
const UNFINISHED: [TenantState; 2] = [Failed, Provisioning];

impl MultiTenancy {
    /// Makes a tenant with the provider that new tenants get: reserves its row, creates its database,
    /// migrates and seeds it, runs `on_provision`, looks whether the database answers, and only then
    /// lets it be served. A tenant that was begun on another provider is finished there.
    ///
    /// - A failed step leaves the tenant `failed`, with the error in its row and its database in
    ///   place. Calling again repeats the steps: what is there is adopted.
    /// - Two calls for one tenant in one process run one after the other. In two processes both may
    ///   run the seed and the hooks.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `TenantExists` | the tenant is there already, or one whose id differs only by case |
    /// | `Config` | a provider keeps the tenant's database that is not one of this program's |
    /// | `HookFailed` | the seed or `on_provision` failed |
    ///
    /// And as [`DatabaseFactory::provision`](mt_core::DatabaseFactory::provision) and
    /// [`Runner::up`](mt_migration::Runner::up).
    pub async fn provision(&self, tenant: &TenantId) -> Result<TenantRecord> {
        self.provision_with(tenant, None).await
    }

    /// As [`provision`](Self::provision), with a provider of this program's that need not be the one
    /// that new tenants get.
    ///
    /// # Errors
    /// As there; and `Config`: there is no such provider here, it cannot be made of its settings, or
    /// the tenant was begun on another and not finished.
    pub async fn provision_on(&self, tenant: &TenantId, provider: &str) -> Result<TenantRecord> {
        self.provision_with(tenant, Some(provider)).await
    }

    async fn provision_with(
        &self,
        tenant: &TenantId,
        chosen: Option<&str>,
    ) -> Result<TenantRecord> {
        let inner = &*self.inner;
        let _turn = inner.operate(tenant).await;
        let known = inner.catalog.find(tenant).await?;
        known.as_ref().map_or(Ok(()), |record| inner.require_here(record))?;
        // Before a row is reserved: what is wrong with a provider's settings leaves no tenant behind.
        let fresh = chosen.unwrap_or_else(|| inner.providers.default().name());
        inner.provider(fresh).map_err(|e| e.with_tenant(tenant))?;
        let begun = known.filter(|record| record.state != Deleted);
        match begun {
            Some(record) if record.restoring => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the tenant is being made of a backup; if whoever did it is gone, deprovision it and restore it again",
                )
                .with_tenant(tenant));
            }
            Some(record)
                if UNFINISHED.contains(&record.state)
                    && chosen.is_some_and(|chosen| chosen != record.provider) =>
            {
                let message = format!(
                    "the tenant was begun on `{}` and not finished; provision it there, or deprovision it first",
                    record.provider
                );
                return Err(Error::new(ErrorKind::Config, message).with_tenant(tenant));
            }
            Some(record)
                if UNFINISHED.contains(&record.state)
                    && inner.catalog.move_to(tenant, &UNFINISHED, Provisioning, None).await? =>
            {
                inner.forget(tenant);
            }
            // Or another process was at it, and has finished or removed it by now.
            _ => drop(inner.catalog.reserve(tenant, fresh, false).await?),
        }
        let done = inner.make(tenant).await;
        // Active already: another process made it at the same time, and was faster.
        inner.settle(tenant, &[Provisioning, Active], Active, done).await?;
        let record = inner.catalog.get(tenant).await?;
        tracing::info!(tenant = %tenant, provider = record.provider, "provisioned");
        Ok(record)
    }

    /// [`MultiTenancy::provision`], where a tenant that is there already is success, be it with
    /// another provider.
    pub(crate) async fn ensure_provisioned(&self, tenant: &TenantId) -> Result<()> {
        match (self.provision(tenant).await, self.inner.catalog.find(tenant).await?) {
            // It is there itself, and not one whose id differs by case.
            (Err(e), Some(_)) if e.kind() == ErrorKind::TenantExists => Ok(()),
            // Nor is it in the way of what this program does to the tenants that are here, such as
            // moving them.
            (Err(e), Some(record)) if self.inner.elsewhere(&record).is_some() => {
                tracing::warn!(tenant = %tenant, error = %e.to_chain(), "the main tenant is not served here");
                Ok(())
            }
            (provisioned, _) => provisioned.map(drop),
        }
    }

    /// Removes a tenant and its database: takes it out of service, ends all use of its database in
    /// this process and waits for the others, runs `on_deprovision`, removes the database, and
    /// keeps the row as a receipt.
    ///
    /// - No write of this process is acknowledged after `on_deprovision` began; where the provider
    ///   has exclusive maintenance, none of any process.
    /// - A tenant that is suspended in its engine is opened there for `on_deprovision`.
    /// - A failed step keeps the database as it is. The tenant is then `failed`, or in service again
    ///   if nothing had begun; calling again goes on.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `TenantNotFound` | there is no such tenant, or it is deleted already |
    /// | `Unsupported` | it is the main tenant |
    /// | `Config` | a provider keeps the tenant's database that is not one of this program's; nothing was done |
    /// | `InUse` | a transaction, or another process, did not let go in time; nothing was removed |
    /// | `HookFailed` | `on_deprovision` failed; the database is kept |
    ///
    /// And as [`DatabaseFactory::deprovision`](mt_core::DatabaseFactory::deprovision).
    pub async fn deprovision(&self, tenant: &TenantId) -> Result<()> {
        let inner = &*self.inner;
        inner.refuse_main(tenant, "removed")?;
        let _turn = inner.operate(tenant).await;
        let record = inner.catalog.get(tenant).await?;
        let provider = inner.provider_of(&record)?;
        let before = record.state;
        let from = [Active, Suspended, Failed, Provisioning, Deprovisioning];
        inner.require_moved(tenant, &from, Deprovisioning).await?;
        let is_there = match inner.end_use(&provider, tenant).await {
            Ok(is_there) => is_there,
            // A restore that died may leave a database that has no stamp yet. The factory knows
            // whether it is one of those, and removes nothing else.
            Err(error) if record.restoring && error.kind() == ErrorKind::ForeignDatabase => false,
            Err(error) => {
                let back = if before == Deprovisioning { Failed } else { before };
                inner.put_back(tenant, back, &error).await;
                return Err(error);
            }
        };
        let done = async {
            // Without a database, the hook has run before or has nothing to do.
            if is_there {
                inner.isolation.run_on_deprovision(provider.factory(), tenant).await?;
            }
            provider.deprovision(tenant).await
        };
        let done = done.await;
        inner.settle(tenant, &[Deprovisioning], Deleted, done).await?;
        inner.forget(tenant);
        tracing::info!(tenant = %tenant, provider = provider.name(), "deprovisioned");
        Ok(())
    }

    /// Takes an active tenant out of service: nobody gets its adapters, and those given out in this
    /// process are revoked. Where the engine can, it refuses connections too. Idempotent.
    ///
    /// # Errors
    /// `TenantNotFound`; `Unsupported`: it is the main tenant; `TenantNotActive`: it is neither
    /// active nor suspended; `Config`: a provider keeps its database that is not one of this program's; `InUse`: something still
    /// ran after the drain timeout. It is suspended all the same then.
    pub async fn suspend(&self, tenant: &TenantId) -> Result<()> {
        let inner = &*self.inner;
        inner.refuse_main(tenant, "suspended")?;
        let _turn = inner.operate(tenant).await;
        let provider = inner.provider_of(&inner.catalog.get(tenant).await?)?;
        inner.require_moved(tenant, &[Active, Suspended], Suspended).await?;
        inner.catalog.clear_restore(tenant).await?;
        inner.revoke(tenant).await?;
        if provider.capabilities().suspend {
            provider.suspend(tenant).await?;
        }
        Ok(())
    }

    /// Puts a suspended tenant back into service. Idempotent: the engine is told again that it may
    /// let an active tenant in, in case it did not hear the first time.
    ///
    /// # Errors
    /// `TenantNotFound`; `TenantNotActive`: it is neither suspended nor active; `Config`: a
    /// provider keeps its database that is not one of this program's.
    pub async fn activate(&self, tenant: &TenantId) -> Result<()> {
        let inner = &*self.inner;
        let _turn = inner.operate(tenant).await;
        let record = inner.catalog.get(tenant).await?;
        let provider = inner.provider_of(&record)?;
        let is_kept = [Active, Suspended].contains(&record.state);
        if is_kept && provider.capabilities().suspend {
            provider.activate(tenant).await?;
        }
        inner.require_moved(tenant, &[Suspended, Active], Active).await?;
        inner.catalog.clear_restore(tenant).await?;
        inner.forget(tenant);
        Ok(())
    }
}

impl Inner {
    /// Everything between the reserved row and the active tenant. Each step can be repeated.
    async fn make(&self, tenant: &TenantId) -> Result<()> {
        let provider = self.provider_of(&self.catalog.get(tenant).await?)?;
        provider.provision(tenant).await?;
        self.finish(&provider, tenant, true).await
    }

    /// Brings a database that is there up to date, and looks whether it can be served.
    pub(crate) async fn finish(
        &self,
        provider: &OwnProvider,
        tenant: &TenantId,
        seed: bool,
    ) -> Result<()> {
        if let Some(schema) = &self.schema {
            let report = schema.up(provider, tenant).await?;
            let version = report.schema_version.as_deref();
            let generation = self.catalog.get(tenant).await?.placement.generation;
            let fingerprint = Some(schema.fingerprint());
            self.catalog.note_schema(tenant, generation, version, fingerprint).await?;
        }
        // Not through the cache: a sign-up takes no place from those who are served.
        let data = provider.factory().get_adapters(tenant).await?;
        data.stamp().check(self.catalog.deployment(), tenant, data.stamp().generation)?;
        if seed {
            self.isolation.run_seed(data.clone()).await?;
        }
        self.isolation.run_on_provision(provider.factory(), tenant).await?;
        // It answered when it was opened; what the application did since is what has to be seen.
        if self.isolation.fills() {
            data.ping().await.map_err(|e| {
                Error::from_db_err(e, ErrorKind::Unavailable, "the new database does not answer")
                    .with_tenant(tenant)
            })?;
        }
        data.close(self.drain_timeout).await
    }

    /// Ends all use in this process, then waits until no other process has the database open.
    /// `false`: there is no database.
    async fn end_use(&self, provider: &OwnProvider, tenant: &TenantId) -> Result<bool> {
        self.revoke(tenant).await?;
        match provider.maintain(tenant, MaintenanceMode::Exclusive).await {
            Ok(maintenance) => {
                maintenance.close().await;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(false),
            // The factory has no such door; what other processes do is the application's business.
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                self.look_before_the_hook(provider, tenant).await
            }
            Err(e) => Err(e),
        }
    }

    /// Whether the tenant has a database, and lets `on_deprovision` into one that is suspended in
    /// its engine.
    async fn look_before_the_hook(
        &self,
        provider: &OwnProvider,
        tenant: &TenantId,
    ) -> Result<bool> {
        match provider.describe(tenant).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(false),
            // It cannot be looked at either.
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(true),
            Err(e) if e.kind() == ErrorKind::TenantNotActive => {
                if self.isolation.has_on_deprovision() && provider.capabilities().suspend {
                    provider.activate(tenant).await?;
                }
                Ok(true)
            }
            // Somebody who died while he removed or replaced it may have left it closed. Whoever is
            // still at it is waited for.
            Err(e) if e.kind() == ErrorKind::InUse && provider.capabilities().suspend => {
                provider.activate(tenant).await.map(|()| true)
            }
            Err(e) => Err(e),
        }
    }

    /// Notes how a step ended: `to`, or `failed` with the error.
    pub(crate) async fn settle(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        to: TenantState,
        done: Result<()>,
    ) -> Result<()> {
        match done {
            Ok(()) => self.require_moved(tenant, from, to).await,
            Err(error) => {
                let error =
                    if error.tenant().is_none() { error.with_tenant(tenant) } else { error };
                self.put_back(tenant, Failed, &error).await;
                Err(error)
            }
        }
    }

    /// Leaves the tenant in `state`, with the error in its row.
    pub(crate) async fn put_back(&self, tenant: &TenantId, state: TenantState, error: &Error) {
        let from = [Provisioning, Deprovisioning, Suspended, Failed];
        let chain = error.to_chain();
        if let Err(second) = self.catalog.move_to(tenant, &from, state, Some(&chain)).await {
            tracing::error!(tenant = %tenant, error = %chain, second = %second.to_chain(), "a failed step could not be noted in the catalog");
        }
        self.forget(tenant);
    }

    pub(crate) async fn require_moved(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        to: TenantState,
    ) -> Result<()> {
        if self.catalog.move_to(tenant, from, to, None).await? {
            self.forget(tenant);
            return Ok(());
        }
        let state = self.catalog.get(tenant).await?.state;
        Err(Error::new(
            ErrorKind::TenantNotActive,
            format!("the tenant is {state}, and cannot become {to} from there"),
        )
        .with_tenant(tenant))
    }

    fn refuse_main(&self, tenant: &TenantId, what: &str) -> Result<()> {
        if self.main.as_ref() == Some(tenant) {
            let message = format!("the main tenant is never {what}");
            return Err(Error::new(ErrorKind::Unsupported, message).with_tenant(tenant));
        }
        Ok(())
    }
}
