use std::{
    collections::HashSet,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use lru::LruCache;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    DataAdapters, DatabaseFactory, Error, ErrorKind, FactoryLayer, OpenHandles, Result, TenantId,
    adapters::Parked,
};

/// How many databases are kept open, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheSettings {
    /// The most databases open at once, in use or not. Default 100. An open SQLite tenant costs a
    /// thread, about 0.15 MB and four file descriptors.
    pub max: usize,
    /// How long a database stays open after it was opened, used or not. Default 1 hour.
    pub ttl: Duration,
    /// How long a request waits for a place when all are in use. Default 5 seconds.
    pub acquire_timeout: Duration,
    /// Tenants that are not closed to make room for others.
    pub pinned: HashSet<TenantId>,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max: 100,
            ttl: Duration::from_secs(60 * 60),
            acquire_timeout: Duration::from_secs(5),
            pinned: HashSet::new(),
        }
    }
}

impl CacheSettings {
    /// Keeps at most `max` databases open.
    #[must_use]
    pub const fn with_max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Closes a database this long after it was opened.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Waits this long for a place.
    #[must_use]
    pub const fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Never closes `tenant` to make room.
    #[must_use]
    pub fn with_pinned(mut self, tenant: TenantId) -> Self {
        self.pinned.insert(tenant);
        self
    }
}

/// A factory that keeps what another opened: least recently used out, time to live, one open at a
/// time per tenant.
///
/// - Lazy: a database is opened at its first use.
/// - A database past its time to live is opened anew at its next use;
///   [`evict_expired`](Self::evict_expired) closes those that nobody asks for.
/// - Many callers of one tenant that is not open cause one open and share its outcome. It runs on
///   its own, so a caller that gives up does not cancel it for the others. A failure is not kept.
/// - `max` bounds what is open, not what is remembered. What is in use is never closed under its
///   user: when every place is in use, a caller waits for one, then gets `Unavailable`.
#[derive(Clone)]
pub struct CachedFactory(Arc<Cache>);

struct Cache {
    factory: Arc<dyn DatabaseFactory>,
    settings: CacheSettings,
    entries: Mutex<LruCache<TenantId, Entry>>,
    /// One permit per open database; the handle has it until its connections are closed.
    places: Arc<Semaphore>,
    idle: Arc<Notify>,
    openings: AtomicU64,
    handles: OpenHandles,
    closed: AtomicBool,
}

enum Entry {
    /// Being opened; `number` tells one attempt from the next.
    Opening {
        outcome: Outcome,
        number: u64,
    },
    Open {
        parked: Parked,
        since: Instant,
    },
}

/// What everybody waits for. The handle inside counts as a user, so that the database is not
/// closed as idle before those who waited have it.
type Outcome = Shared<BoxFuture<'static, Result<DataAdapters>>>;

impl CachedFactory {
    /// A cache around `factory`.
    ///
    /// # Errors
    /// `Config`: `max` is 0 or does not leave a place beside the pinned tenants.
    pub fn new(factory: Arc<dyn DatabaseFactory>, settings: CacheSettings) -> Result<Self> {
        if settings.max <= settings.pinned.len() {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "cache max is {}, expected more than the {} pinned tenants",
                    settings.max,
                    settings.pinned.len()
                ),
            ));
        }
        Ok(Self(Arc::new(Cache {
            factory,
            entries: Mutex::new(LruCache::unbounded()),
            places: Arc::new(Semaphore::new(settings.max)),
            idle: Arc::new(Notify::new()),
            openings: AtomicU64::new(0),
            handles: OpenHandles::default(),
            closed: AtomicBool::new(false),
            settings,
        })))
    }

    /// How many databases are open, those included that left the cache and are still in use.
    pub fn open_count(&self) -> usize {
        self.0.settings.max - self.0.places.available_permits()
    }

    /// The tenants whose databases are open, in the cache or only in use any more, in no particular
    /// order.
    pub fn open_tenants(&self) -> Vec<TenantId> {
        self.0.handles.tenants()
    }

    /// Forgets the tenant's open database. It is closed as soon as nobody uses it.
    pub fn evict(&self, tenant: &TenantId) {
        drop(self.0.lock().pop(tenant));
    }

    /// Forgets all, and closes them as soon as nobody uses them.
    pub fn evict_all(&self) {
        self.0.lock().clear();
    }

    /// Closes what is past its time, not in use and not pinned.
    pub fn evict_expired(&self) {
        let ttl = self.0.settings.ttl;
        let mut entries = self.0.lock();
        let expired: Vec<TenantId> = entries
            .iter()
            .filter(|(tenant, entry)| match entry {
                _ if self.0.settings.pinned.contains(*tenant) => false,
                Entry::Open { parked, since } => since.elapsed() >= ttl && parked.gate().is_idle(),
                Entry::Opening { .. } => false,
            })
            .map(|(tenant, _)| tenant.clone())
            .collect();
        let closing: Vec<_> = expired.iter().filter_map(|tenant| entries.pop(tenant)).collect();
        drop(entries);
        drop(closing);
    }

    /// Revokes every handle of `tenant` that was given out, in the cache or not, waits up to
    /// `drain` for what runs on them, and closes them.
    ///
    /// # Errors
    /// `InUse`: a transaction or stream was still open after `drain`. The handles stay revoked.
    pub async fn revoke(&self, tenant: &TenantId, drain: Duration) -> Result<()> {
        self.evict(tenant);
        let revoked = self.0.handles.revoke(tenant, drain).await;
        // What was being opened meanwhile is not kept either.
        self.evict(tenant);
        revoked.map(drop)
    }

    /// Opens nothing any more, revokes and closes everything, waiting up to `drain` for what runs.
    ///
    /// # Errors
    /// `InUse`: something was still running on at least one.
    pub async fn close(&self, drain: Duration) -> Result<()> {
        self.0.closed.store(true, Ordering::SeqCst);
        let outcome = self.0.handles.revoke_all(drain).await;
        self.evict_all();
        outcome
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, LruCache<TenantId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open now, or the open that everybody waits for.
    fn find_or_open(self: &Arc<Self>, tenant: &TenantId) -> Result<DataAdapters, Outcome> {
        let mut entries = self.lock();
        match entries.get(tenant) {
            Some(Entry::Opening { outcome, .. }) => return Err(outcome.clone()),
            Some(Entry::Open { parked, since }) if !parked.gate().is_revoked() => {
                // In use, and no place to open it anew: better late than not at all.
                let stays = !parked.gate().is_idle() && self.places.available_permits() == 0;
                if stays || since.elapsed() < self.settings.ttl {
                    return Ok(parked.lend());
                }
            }
            _ => {}
        }
        let stale = entries.pop(tenant);
        let number = self.openings.fetch_add(1, Ordering::Relaxed);
        let outcome = self.open(tenant.clone(), number);
        entries.put(tenant.clone(), Entry::Opening { outcome: outcome.clone(), number });
        drop(entries);
        // Outside the lock: letting go of the last handle starts closing it.
        drop(stale);
        Err(outcome)
    }

    /// Opens in a task of its own, so that no caller can cancel it for the others.
    fn open(self: &Arc<Self>, tenant: TenantId, number: u64) -> Outcome {
        let task = tokio::spawn({
            let (cache, tenant) = (Arc::clone(self), tenant.clone());
            async move {
                let outcome = cache.open_one(&tenant).await;
                let opened = outcome
                    .as_ref()
                    .ok()
                    .map(|data| Entry::Open { parked: data.park(), since: Instant::now() });
                cache.settle(&tenant, number, opened);
                outcome
            }
        });
        // Weak: what waits for an outcome must not keep the cache alive.
        let cache = Arc::downgrade(self);
        async move {
            task.await.unwrap_or_else(|e| {
                if let Some(cache) = Weak::upgrade(&cache) {
                    cache.settle(&tenant, number, None);
                }
                Err(Error::new(ErrorKind::Internal, "opening the database was interrupted")
                    .with_tenant(&tenant)
                    .with_source(e))
            })
        }
        .boxed()
        .shared()
    }

    async fn open_one(&self, tenant: &TenantId) -> Result<DataAdapters> {
        let closed = || {
            Error::new(ErrorKind::Unavailable, "the cache of open databases is closed")
                .with_tenant(tenant)
        };
        if self.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        let place = self.place(tenant).await?;
        let data = self.factory.get_adapters(tenant).await?;
        self.handles.track(&data)?;
        let parked = data.park();
        parked.hold(place);
        parked.gate().on_idle(Arc::clone(&self.idle));
        // Closed meanwhile: either it was found and revoked, or this sees it.
        if self.closed.load(Ordering::SeqCst) { Err(closed()) } else { Ok(data) }
    }

    /// Puts the outcome of attempt `number` in its place, unless the tenant was evicted since:
    /// then those who waited may use it, and nobody after them.
    fn settle(&self, tenant: &TenantId, number: u64, outcome: Option<Entry>) {
        let mut entries = self.lock();
        let is_current = matches!(
            entries.peek(tenant), Some(Entry::Opening { number: n, .. }) if *n == number
        );
        if is_current {
            let _attempt = entries.pop(tenant);
            if let Some(entry) = outcome {
                entries.put(tenant.clone(), entry);
            }
        }
    }

    /// A place for one more open database, made by closing the least recently used idle one.
    async fn place(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit> {
        let wait = async {
            loop {
                // In line before looking: two that become idle at once wake two.
                let mut idle = pin!(self.idle.notified());
                idle.as_mut().enable();
                if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                    return Ok(place);
                }
                if let Some(parked) = self.pop_idle() {
                    // It is idle, so there is nothing to wait for but the closing itself.
                    parked.close(Duration::ZERO).await.ok();
                    continue;
                }
                tokio::select! {
                    place = Arc::clone(&self.places).acquire_owned() => {
                        return place.map_err(|e| {
                            Error::new(ErrorKind::Internal, "the cache is closed").with_source(e)
                        });
                    }
                    () = idle => {}
                }
            }
        };
        tokio::time::timeout(self.settings.acquire_timeout, wait).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "all {} open databases are in use, and none came free in {:?}",
                    self.settings.max, self.settings.acquire_timeout
                ),
            )
            .with_tenant(tenant)
            .with_provider(self.factory.name()))
        })
    }

    fn pop_idle(&self) -> Option<Parked> {
        let mut entries = self.lock();
        let tenant = entries.iter().rev().find_map(|(tenant, entry)| match entry {
            Entry::Open { parked, .. }
                if parked.gate().is_idle() && !self.settings.pinned.contains(tenant) =>
            {
                Some(tenant.clone())
            }
            _ => None,
        })?;
        match entries.pop(&tenant) {
            Some(Entry::Open { parked, .. }) => Some(parked),
            _ => None,
        }
    }
}

#[async_trait]
impl FactoryLayer for CachedFactory {
    fn inner(&self) -> &dyn DatabaseFactory {
        &*self.0.factory
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        match self.0.find_or_open(tenant) {
            Ok(data) => Ok(data),
            Err(outcome) => outcome.await,
        }
    }

    fn forget(&self, tenant: &TenantId) {
        self.evict(tenant);
    }
}

impl fmt::Debug for CachedFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFactory")
            .field("factory", &self.0.factory)
            .field("settings", &self.0.settings)
            .field("open", &self.open_count())
            .finish_non_exhaustive()
    }
}

impl From<CachedFactory> for Arc<dyn DatabaseFactory> {
    fn from(factory: CachedFactory) -> Self {
        Arc::new(factory)
    }
}
