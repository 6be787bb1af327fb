use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mt_core::{
    DataAdapters, DatabaseFactory as _, DatabaseInfo, Error, ErrorKind, Generation, Result,
    TenantId, TenantInfo, TenantSource, TenantState,
};
use mt_migration::{Runner, SchemaStatus};
use serde::Serialize;
use tokio::{
    sync::OwnedMutexGuard,
    task::{JoinHandle, JoinSet},
};

use crate::{
    Catalog, DatabaseIsolation, MultiTenancyBuilder, TenantRecord, provider::OpenDatabases,
    providers::Providers,
};

/// The tenants of an application and their databases: makes them, serves them, migrates them,
/// removes them.
///
/// Cheap to clone. While one is alive it watches the catalog, so that a tenant which another
/// process suspends or removes is let go of here within a few seconds.
#[derive(Clone)]
pub struct MultiTenancy {
    pub(crate) inner: Arc<Inner>,
    #[expect(dead_code, reason = "held for its drop")]
    watch: Arc<Watch>,
}

pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) isolation: DatabaseIsolation,
    pub(crate) schema: Option<Runner>,
    pub(crate) main: Option<TenantId>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) open: OpenDatabases,
    pub(crate) states: Mutex<HashMap<TenantId, Seen>>,
    /// One operation at a time per tenant in this process.
    pub(crate) operations: Mutex<HashMap<TenantId, Weak<tokio::sync::Mutex<()>>>>,
    pub(crate) state_ttl: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) min_schema_version: Option<String>,
}

/// What the catalog said of a tenant a moment ago.
#[derive(Clone)]
pub(crate) struct Seen {
    info: TenantInfo,
    /// The refusal, where a provider keeps its database that is not one of ours.
    here: Result<()>,
    read_at: Instant,
}

impl Seen {
    /// Whether the tenant may be served here.
    fn require_served(&self, tenant: &TenantId) -> Result<()> {
        require_active(tenant, &self.info)?;
        self.here.clone()
    }
}

/// Ends the watching with the last clone.
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is known of a tenant, and what one look at its database shows.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct TenantStatus {
    /// The catalog's row.
    #[serde(flatten)]
    pub record: TenantRecord,
    /// The database, if it could be looked at.
    pub database: Option<DatabaseInfo>,
    /// How far its schema is, where one is known.
    pub schema: Option<SchemaStatus>,
    /// Why the database could not be looked at, where that is not as it should be. A suspended
    /// tenant's is closed to everybody where the engine suspends, and that is no fault.
    pub fault: Option<String>,
}

impl MultiTenancy {
    /// Begins to make one.
    pub fn builder() -> MultiTenancyBuilder {
        MultiTenancyBuilder::new()
    }

    pub(crate) fn start<F>(
        inner: Arc<Inner>,
        watch: impl FnOnce(Weak<Inner>, Duration) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = tokio::spawn(watch(Arc::downgrade(&inner), inner.state_ttl));
        Self { inner, watch: Arc::new(Watch(task)) }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// The main tenant, if there is one.
    pub fn main_tenant_id(&self) -> Option<&TenantId> {
        self.inner.main.as_ref()
    }

    /// The adapters of an active tenant: opened at their first use, kept open after it.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `TenantNotFound` | there is no such tenant | no |
    /// | `TenantNotActive` | it is not active | no |
    /// | `SchemaOutdated` | its schema is older than this program serves | no |
    /// | `Config` | a provider keeps its database that is not one of this program's, or cannot be made of its settings | no |
    /// | `Unavailable` | the catalog or the database does not answer, or too many are open | yes |
    ///
    /// And as [`DatabaseFactory::get_adapters`](mt_core::DatabaseFactory::get_adapters).
    pub async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        let inner = &*self.inner;
        let seen = inner.seen(tenant).await?;
        seen.require_served(tenant)?;
        let data = match inner.open.get(tenant).await {
            Err(error) if error.kind() == ErrorKind::TenantNotFound => {
                inner.open_moved(tenant, seen.info.generation, error).await?
            }
            opened => opened?,
        };
        // The tenant may have been suspended or moved after its state was read and before its
        // database was opened. Whoever does that sets the state first and then makes sure that
        // nobody has the database open, so a look after opening sees it.
        if seen.read_at <= data.opened_at() || data.stamp().generation != seen.info.generation {
            let fresh = inner.look(tenant).await?;
            let checked = fresh.require_served(tenant).and_then(|()| {
                data.stamp().check(inner.catalog.deployment(), tenant, fresh.info.generation)
            });
            if let Err(error) = checked {
                inner.open.evict(tenant);
                return Err(error);
            }
        }
        inner.check(tenant, &data)?;
        Ok(data)
    }

    /// Every tenant that is not deleted, ordered by id.
    ///
    /// # Errors
    /// As [`Catalog::list`].
    pub async fn list(&self) -> Result<Vec<TenantRecord>> {
        self.inner.catalog.list().await
    }

    /// What is known of `tenant`, and what one look at its database shows.
    ///
    /// # Errors
    /// As [`Catalog::get`]. That the database cannot be looked at is part of the answer.
    pub async fn status(&self, tenant: &TenantId) -> Result<TenantStatus> {
        let inner = &*self.inner;
        let record = inner.catalog.get(tenant).await?;
        let described = match inner.provider_of(&record) {
            Ok(provider) => provider.describe(tenant).await,
            Err(error) => Err(error),
        };
        let (database, fault) = match described {
            Ok(info) => (Some(info), None),
            Err(error) if is_closed(&record, &error) => (None, None),
            Err(error) => (None, Some(error.to_chain())),
        };
        let schema = inner.schema.as_ref().zip(database.as_ref());
        let schema = schema.map(|(schema, info)| schema.compare(&info.applied));
        Ok(TenantStatus { record, database, schema, fault })
    }

    /// Stops serving: revokes every open database, waits for what runs, and closes them.
    ///
    /// # Errors
    /// `InUse`: something was still running on at least one.
    pub async fn shutdown(&self) -> Result<()> {
        self.inner.open.close(self.inner.drain_timeout).await
    }
}

/// Whether the engine keeps everybody out of a suspended tenant's database, as it should.
pub(crate) fn is_closed(record: &TenantRecord, error: &Error) -> bool {
    record.state == TenantState::Suspended && error.kind() == ErrorKind::TenantNotActive
}

pub(crate) fn require_active(tenant: &TenantId, info: &TenantInfo) -> Result<()> {
    match info.state {
        TenantState::Active => Ok(()),
        TenantState::Deleted => {
            Err(Error::new(ErrorKind::TenantNotFound, "the tenant is deleted").with_tenant(tenant))
        }
        state => Err(Error::new(ErrorKind::TenantNotActive, format!("the tenant is {state}"))
            .with_tenant(tenant)),
    }
}

impl Inner {
    fn states(&self) -> MutexGuard<'_, HashMap<TenantId, Seen>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the catalog said of the tenant, no older than the limit.
    async fn seen(&self, tenant: &TenantId) -> Result<Seen> {
        if let Some(seen) = self.states().get(tenant)
            && seen.read_at.elapsed() < self.state_ttl
        {
            return Ok(seen.clone());
        }
        self.look(tenant).await
    }

    async fn look(&self, tenant: &TenantId) -> Result<Seen> {
        // Of a moment before the answer, so that it never counts as fresher than it is.
        let read_at = Instant::now();
        let record = self.catalog.get(tenant).await?;
        let seen = Seen { info: record.info(), here: self.require_here(&record), read_at };
        self.states().insert(tenant.clone(), seen.clone());
        Ok(seen)
    }

    /// Opens a tenant whose database was gone. Another process may be restoring it, which moves it
    /// to a new one; where the catalog knows of no other than `generation`, `gone` is the answer.
    async fn open_moved(
        &self,
        tenant: &TenantId,
        generation: Generation,
        gone: Error,
    ) -> Result<DataAdapters> {
        let fresh = self.look(tenant).await?;
        fresh.require_served(tenant)?;
        if fresh.info.generation == generation {
            return Err(gone);
        }
        self.open.get(tenant).await
    }

    /// Defence in depth: what the factory opened is the tenant's, whatever kind of factory it is.
    fn check(&self, tenant: &TenantId, data: &DataAdapters) -> Result<()> {
        data.stamp().check(self.catalog.deployment(), tenant, data.stamp().generation)?;
        match (&self.min_schema_version, data.schema_version()) {
            (Some(min), version) if version.is_none_or(|version| version < min.as_str()) => {
                self.open.evict(tenant);
                Err(Error::new(
                    ErrorKind::SchemaOutdated,
                    format!(
                        "the tenant's schema is at {}, expected {min} or newer; migrate it",
                        version.unwrap_or("the beginning")
                    ),
                )
                .with_tenant(tenant))
            }
            _ => Ok(()),
        }
    }

    /// Forgets what is known of a tenant, so that the next request looks.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.states().remove(tenant);
        self.open.evict(tenant);
    }

    /// Ends the use of a tenant's database, if another process suspended, moved or removed it.
    async fn let_go(&self, tenant: &TenantId) {
        let before = self.states().get(tenant).map(|seen| seen.info.generation);
        let ended = match self.look(tenant).await {
            Ok(seen) => {
                seen.require_served(tenant).is_err()
                    || before.is_some_and(|before| before != seen.info.generation)
            }
            // A catalog that does not answer ends nothing; a tenant that is gone does.
            Err(error) => error.kind() == ErrorKind::TenantNotFound,
        };
        if ended && let Err(error) = self.revoke(tenant).await {
            tracing::warn!(tenant = %tenant, error = %error.to_chain(), "a tenant that is no longer active is still in use");
        }
    }

    /// Ends all use of the tenant's database in this process.
    pub(crate) async fn revoke(&self, tenant: &TenantId) -> Result<()> {
        self.forget(tenant);
        self.open.revoke(tenant, self.drain_timeout).await
    }

    /// Waits until no other operation on the tenant runs in this process.
    pub(crate) async fn operate(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
            operations.retain(|_, lock| lock.strong_count() > 0);
            let known = operations.get(tenant).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                operations.insert(tenant.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

/// Looks at the state of every open tenant each `interval`, and lets go of those that another
/// process suspended, moved or removed.
pub(crate) async fn watch(inner: Weak<Inner>, interval: Duration) {
    // Ends with this one. It may take longer than all else, and holds it up for nobody.
    let mut tending = JoinSet::new();
    // Each on its own: one that is slow to let go holds nobody up.
    let (mut letting_go, mut slow) = (JoinSet::new(), HashSet::new());
    loop {
        tokio::time::sleep(interval).await;
        let Some(inner) = inner.upgrade() else { return };
        if tending.try_join_next().is_some() || tending.is_empty() {
            let inner = Arc::clone(&inner);
            tending.spawn(async move { inner.tend().await });
        }
        while let Some(done) = letting_go.try_join_next() {
            match done {
                Ok(tenant) => drop(slow.remove(&tenant)),
                // Which one it was is not known; all are looked at again.
                Err(_panicked) => slow.clear(),
            }
        }
        for tenant in inner.open.tenants() {
            if slow.insert(tenant.clone()) {
                let inner = Arc::clone(&inner);
                letting_go.spawn(async move {
                    inner.let_go(&tenant).await;
                    tenant
                });
            }
        }
        inner.open.evict_expired();
        // The states of tenants nobody asks for any more.
        let limit = inner.state_ttl;
        inner.states().retain(|_, seen| seen.read_at.elapsed() < limit);
    }
}

#[async_trait]
impl TenantSource for MultiTenancy {
    async fn tenant(&self, tenant: &TenantId) -> Result<TenantInfo> {
        Ok(self.inner.seen(tenant).await?.info)
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        Self::get_adapters(self, tenant).await
    }
}

impl fmt::Debug for MultiTenancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiTenancy")
            .field("isolation", &self.inner.isolation)
            .field("main", &self.inner.main)
            .field("open", &self.inner.open)
            .finish_non_exhaustive()
    }
}
