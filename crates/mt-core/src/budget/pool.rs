//! One tenant's connections.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::{DatabaseConnection, DbBackend};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{
    Connect, Shared,
    line::{Grant, Idle, Rest, Turn},
};
use crate::{Error, ErrorKind, Result};

/// One tenant's connections to one database as one role, out of a
/// [`ConnectionBudget`](crate::ConnectionBudget).
///
/// A [`Connection`](crate::Connection) can be one: each call, transaction and stream on the handle
/// then has a connection of it for as long as it lasts.
#[derive(Clone)]
pub struct ConnectionPool(Arc<Inner>);

struct Inner {
    budget: Arc<Shared>,
    id: u64,
    connect: Arc<dyn Connect>,
    /// In use, being opened, or waiting in the budget's line.
    limit: Arc<Semaphore>,
    most: usize,
    /// Told when somebody has no use of it any more.
    unused: Notify,
}

/// Counts as a use of the pool, from before a connection is there until it is given back, or closed
/// where the pool is.
struct Use(Arc<Inner>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.budget.line().end_use(self.0.id);
        self.0.unused.notify_waiters();
    }
}

/// A place in the budget. Dropping it gives it to whoever waits.
pub(super) struct Place(Option<Arc<Shared>>);

impl Place {
    fn taken(budget: &Arc<Shared>) -> Self {
        Self(Some(Arc::clone(budget)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(budget) = self.0.take() else { return };
        loop {
            let Some(waiter) = budget.line().free_place() else { return };
            let Err(Grant::Place(mut back) | Grant::Idle(Idle { place: mut back, .. })) =
                waiter.send(Grant::Place(Self::taken(&budget)))
            else {
                return;
            };
            // Whoever waited gave up just now: the next, without going through this again.
            back.0 = None;
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// A connection in use. Dropping it gives it back.
pub(crate) struct Lease {
    connection: DatabaseConnection,
    given: Option<(Idle, Use)>,
    /// Nothing runs on it. Where a call was given up, the server goes on with it, and the next call
    /// would wait until it has ended.
    is_quiet: AtomicBool,
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(crate) const fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// Notes whether something runs on it.
    pub(crate) fn set_quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::SeqCst);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((idle, using)) = self.given.take() {
            give_back(idle, using, *self.is_quiet.get_mut());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl ConnectionPool {
    pub(super) fn new(budget: &Arc<Shared>, connect: Arc<dyn Connect>, most: usize) -> Self {
        let id = budget.line().add_pool();
        Self(Arc::new(Inner {
            budget: Arc::clone(budget),
            id,
            connect,
            limit: Arc::new(Semaphore::new(most)),
            most,
            unused: Notify::new(),
        }))
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.0.connect.backend()
    }

    /// A connection for one use.
    ///
    /// # Errors
    /// `Unavailable`: none came free in time, or none could be opened; `TenantNotActive`: the pool
    /// is closed.
    pub(crate) async fn lease(&self) -> Result<Lease> {
        let pool = &self.0;
        let deadline = Instant::now() + pool.budget.settings.acquire_timeout;
        let permit = Arc::clone(&pool.limit).acquire_owned();
        let permit = self.by(deadline, permit).await?.map_err(|_closed| closed())?;
        let using = pool.begin_use()?;
        // On its own line: the budget is not locked while anything is waited for.
        let turn = pool.budget.line().turn(pool.id);
        let idle = match turn {
            Turn::Reuse(idle) => idle,
            Turn::Open => pool.open(Place::taken(&pool.budget)).await?,
            Turn::Replace(coldest) => {
                // Goes on when the caller gives up: its place is free once it is closed.
                let closing = tokio::spawn(close(coldest));
                let place = self.by(deadline, closing).await?.map_err(|_ended| closed())?;
                pool.open(place).await?
            }
            Turn::Wait(grant) => match self.by(deadline, grant).await? {
                Ok(Grant::Idle(idle)) => idle,
                Ok(Grant::Place(place)) => pool.open(place).await?,
                Err(_sent_away) => return Err(closed()),
            },
            Turn::Closed => return Err(closed()),
        };
        let connection = idle.connection.clone();
        let given = Some((idle, using));
        Ok(Lease { connection, given, is_quiet: AtomicBool::new(false), permit })
    }

    async fn by<T>(&self, deadline: Instant, wait: impl Future<Output = T>) -> Result<T> {
        timeout_at(deadline, wait).await.map_err(|_elapsed| self.too_late())
    }

    fn too_late(&self) -> Error {
        let settings = &self.0.budget.settings;
        let usage = self.0.budget.line().usage();
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "no connection came free in {:?}: of {} for all tenants {} are open and {} of them \
                 idle, {} calls wait, and one tenant has at most {}",
                settings.acquire_timeout,
                usage.max,
                usage.open,
                usage.idle,
                usage.waiting,
                self.0.most
            ),
        )
    }

    /// Gives out no connection any more, and closes all, after those in use have come back.
    pub(crate) async fn close(&self) {
        let pool = &self.0;
        pool.limit.close();
        let idle = pool.budget.line().close_pool(pool.id);
        for idle in idle {
            drop(close(idle).await);
        }
        loop {
            let mut unused = pin!(pool.unused.notified());
            // In line before looking.
            unused.as_mut().enable();
            if pool.budget.line().in_use(pool.id) == 0 {
                return;
            }
            unused.await;
        }
    }
}

impl Inner {
    fn begin_use(self: &Arc<Self>) -> Result<Use> {
        let begun = self.budget.line().begin_use(self.id);
        if begun { Ok(Use(Arc::clone(self))) } else { Err(closed()) }
    }

    async fn open(&self, place: Place) -> Result<Idle> {
        let connection = self.connect.connect().await?;
        Ok(Idle { connection, opened_at: Instant::now(), place })
    }
}

fn give_back(idle: Idle, using: Use, is_quiet: bool) {
    let pool = Arc::clone(&using.0);
    let is_good = is_quiet && idle.opened_at.elapsed() < pool.budget.settings.max_lifetime;
    let rest = pool.budget.line().give_back(pool.id, idle, is_good);
    match rest {
        Rest::Kept => watch(&pool.budget),
        Rest::Hand(waiter, idle) => {
            // Who gave up meanwhile has had no use of it.
            if let Err(Grant::Idle(idle)) = waiter.send(Grant::Idle(idle)) {
                give_back(idle, using, is_quiet);
            }
        }
        Rest::Close(idle) => {
            if let Ok(runtime) = Handle::try_current() {
                drop(runtime.spawn(async move {
                    drop(close(idle).await);
                    drop(using);
                }));
            }
        }
    }
}

/// Has somebody look after connections that nobody uses, as long as there are any.
fn watch(budget: &Arc<Shared>) {
    if let Ok(runtime) = Handle::try_current()
        && budget.line().begin_watch()
    {
        drop(runtime.spawn(close_unused(Arc::downgrade(budget))));
    }
}

/// Closes connections that nobody used for long, until none is idle.
async fn close_unused(budget: Weak<Shared>) {
    loop {
        let Some(shared) = budget.upgrade() else { return };
        let coldest = shared.line().pop_unused(shared.settings.idle_timeout);
        drop(shared);
        match coldest {
            None => return,
            Some(Ok(idle)) => drop(close(idle).await),
            Some(Err(left)) => tokio::time::sleep(left).await,
        }
    }
}

/// Closes a connection; its place is the caller's.
async fn close(idle: Idle) -> Place {
    // In this order: its place is free once it is gone, also where this is given up.
    let Idle { place, connection, .. } = idle;
    if let Err(error) = connection.close_by_ref().await {
        tracing::debug!(error = %error, "a connection did not close cleanly");
    }
    place
}

fn closed() -> Error {
    Error::new(
        ErrorKind::TenantNotActive,
        "the handle is closed; ask for the tenant's adapters again",
    )
}

impl Drop for Inner {
    fn drop(&mut self) {
        let idle = self.budget.line().remove_pool(self.id);
        if let (false, Ok(runtime)) = (idle.is_empty(), Handle::try_current()) {
            drop(runtime.spawn(async move {
                for idle in idle {
                    drop(close(idle).await);
                }
            }));
        }
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool")
            .field("connect", &self.0.connect)
            .field("most", &self.0.most)
            .finish_non_exhaustive()
    }
}
