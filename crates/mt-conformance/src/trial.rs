use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use mt_core::{
    Capabilities, DataAdapters, DatabaseEntry, DatabaseFactory, ErrorKind, MaintenanceMode, Result,
    TenantId,
};
use sea_orm::sea_query::TableCreateStatement;

use crate::{
    Subject,
    fault::{Doing as _, Fault, Outcome, expect_kind},
    probe,
    subject::tail,
};

/// One run of one check: its subject, and the tenants to remove when it is over.
#[derive(Debug)]
pub(crate) struct Trial<'s> {
    subject: &'s Subject,
    tenants: Mutex<Vec<(TenantId, Whose)>>,
}

/// Which installation made a tenant's database, and so can remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Strangers,
}

impl<'s> Trial<'s> {
    pub(crate) const fn new(subject: &'s Subject) -> Self {
        Self { subject, tenants: Mutex::new(Vec::new()) }
    }

    pub(crate) fn factory(&self) -> &'s dyn DatabaseFactory {
        &*self.subject.factory
    }

    /// The factory for a task of its own.
    pub(crate) fn shared(&self) -> Arc<dyn DatabaseFactory> {
        Arc::clone(&self.subject.factory)
    }

    pub(crate) fn stranger(&self) -> &'s dyn DatabaseFactory {
        &*self.subject.stranger
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.subject.factory.capabilities()
    }

    /// The modes that `maintain` has here.
    pub(crate) fn maintenance_modes(&self) -> &'static [MaintenanceMode] {
        if self.capabilities().exclusive_maintenance {
            &[MaintenanceMode::Shared, MaintenanceMode::Exclusive]
        } else {
            &[MaintenanceMode::Shared]
        }
    }

    pub(crate) fn secrets(&self) -> &'s [String] {
        self.subject.secrets()
    }

    /// A tenant of this run, without a database yet.
    pub(crate) fn tenant(&self, label: &str) -> Outcome<TenantId> {
        self.tenant_called(&format!("{label}-{}", tail()))
    }

    /// A tenant of this run that the stranger will give a database.
    pub(crate) fn strangers_tenant(&self, label: &str) -> Outcome<TenantId> {
        self.remember(&format!("{label}-{}", tail()), Whose::Strangers)
    }

    /// A tenant of this run with an id that the check made, random in some part.
    pub(crate) fn tenant_called(&self, id: &str) -> Outcome<TenantId> {
        self.remember(id, Whose::Ours)
    }

    fn remember(&self, id: &str, whose: Whose) -> Outcome<TenantId> {
        let tenant = TenantId::new(id).doing("making a tenant id")?;
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.push((tenant.clone(), whose));
        Ok(tenant)
    }

    /// A tenant with a database, and in it the empty table that most checks write to.
    pub(crate) async fn provisioned(&self, label: &str) -> Outcome<TenantId> {
        let tenant = self.tenant(label)?;
        self.provision(&tenant).await?;
        Ok(tenant)
    }

    /// Gives `tenant` a database, and in it the empty table that most checks write to.
    pub(crate) async fn provision(&self, tenant: &TenantId) -> Outcome {
        self.factory().provision(tenant).await.doing("provision")?;
        self.create(tenant, &[probe::table()]).await
    }

    /// Creates tables, with the rights to do so.
    pub(crate) async fn create(
        &self,
        tenant: &TenantId,
        tables: &[TableCreateStatement],
    ) -> Outcome {
        let maintenance = self
            .factory()
            .maintain(tenant, MaintenanceMode::Shared)
            .await
            .doing("opening for maintenance")?;
        let connection = maintenance.connection();
        let mut outcome = Ok(());
        for table in tables {
            let statement = connection.backend().build(table);
            let made = probe::execute(connection, statement).await;
            outcome = outcome.and(made.map(drop).doing("creating a table in maintenance"));
        }
        maintenance.close().await;
        outcome
    }

    /// Opens `tenant` anew.
    pub(crate) async fn open(&self, tenant: &TenantId) -> Outcome<DataAdapters> {
        let data = self.factory().get_adapters(tenant).await.doing("get_adapters")?;
        if data.tenant() != tenant || data.stamp().tenant != *tenant {
            return Err(Fault::new(format!(
                "get_adapters of {tenant} opened the database of {}, stamped for {}",
                data.tenant(),
                data.stamp().tenant
            )));
        }
        Ok(data)
    }

    /// The rows that a fresh handle of `tenant` sees.
    pub(crate) async fn rows(&self, tenant: &TenantId) -> Outcome<Vec<probe::Row>> {
        let data = self.open(tenant).await?;
        probe::rows(&data).await.doing("reading through a fresh handle")
    }

    /// Fails unless a fresh handle of `tenant` sees `expected` and nothing else.
    pub(crate) async fn expect_rows(
        &self,
        tenant: &TenantId,
        expected: &[probe::Row],
        when: &str,
    ) -> Outcome {
        let seen = self.rows(tenant).await?;
        if seen != expected {
            return Err(Fault::new(format!(
                "{when}, a fresh handle sees {seen:?}, not {expected:?}"
            )));
        }
        Ok(())
    }

    /// Fails unless `tenant` is without a database to whoever asks.
    pub(crate) async fn expect_absent(&self, tenant: &TenantId) -> Outcome {
        let factory = self.factory();
        expect_kind(factory.get_adapters(tenant).await, ErrorKind::TenantNotFound, "get_adapters")?;
        expect_kind(factory.describe(tenant).await, ErrorKind::TenantNotFound, "describe")?;
        match self.entries_of(tenant).await?.as_slice() {
            [] => Ok(()),
            entries => {
                Err(Fault::new(format!("there is no such tenant, yet list has {entries:?}")))
            }
        }
    }

    /// The databases that are listed as those of `tenant`.
    pub(crate) async fn entries_of(&self, tenant: &TenantId) -> Outcome<Vec<DatabaseEntry>> {
        let mut entries = self.listed().await?;
        entries.retain(|entry| entry.tenant.as_ref() == Some(tenant));
        Ok(entries)
    }

    pub(crate) async fn listed(&self) -> Outcome<Vec<DatabaseEntry>> {
        self.factory().list().try_collect().await.doing("list")
    }

    /// Guards against hanging; what it guards ends long before on any engine.
    pub(crate) async fn within_limit<F: Future>(&self, future: F) -> Outcome<F::Output> {
        within(self.subject.limit(), future).await
    }

    /// Removes the tenants of this run.
    pub(crate) async fn clean(&self) -> Outcome {
        let tenants =
            std::mem::take(&mut *self.tenants.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcome = Ok(());
        for (tenant, whose) in tenants {
            let factory = match whose {
                Whose::Ours => self.factory(),
                Whose::Strangers => self.stranger(),
            };
            let removed = self.within_limit(patiently(|| factory.deprovision(&tenant))).await;
            let removed = removed.and_then(|removed| {
                removed.doing("removing the check's tenant when it was over, with deprovision,")
            });
            outcome = outcome.and(removed);
        }
        outcome
    }
}

/// Runs `future` for at most `limit`.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Outcome<F::Output> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|error| Fault::new(format!("no end after {limit:?}: {error}")))
}

/// Repeats what failed with an error that says it may be repeated, as its callers do.
///
/// The caller's guard ends it.
pub(crate) async fn patiently<F, T>(mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    loop {
        match call().await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}
