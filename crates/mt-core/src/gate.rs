use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{Connections, Error, ErrorKind, Result, TenantId, budget::Lease, driver::Way};

const OPEN: u8 = 0;
/// No new calls; what runs may finish.
const DRAINING: u8 = 1;
/// No new calls, and no further statement or commit in what still runs.
const FENCED: u8 = 2;

/// What every call on a handle passes: it lets calls in, counts them, and once revoked lets no
/// more in.
#[derive(Debug)]
pub(crate) struct Gate {
    tenant: TenantId,
    level: AtomicU8,
    in_flight: AtomicUsize,
    drained: Notify,
    /// Handles in the application's hands.
    users: AtomicUsize,
    /// Told when the last user and the last call are gone; a cache listens.
    idle: OnceLock<Arc<Notify>>,
}

impl Gate {
    pub(crate) fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            level: AtomicU8::new(OPEN),
            in_flight: AtomicUsize::new(0),
            drained: Notify::new(),
            users: AtomicUsize::new(0),
            idle: OnceLock::new(),
        }
    }

    /// Lets one call in, for as long as the pass lives, and tells what it is made on.
    pub(crate) async fn enter<'a>(
        self: &Arc<Self>,
        connections: &'a Connections,
    ) -> Result<(Pass, Way<'a>)> {
        self.refuse_from(DRAINING)?;
        // Whoever only waits for a connection does not hold up a drain.
        let (lease, way) =
            connections.take().await.map_err(|error| error.with_tenant(&self.tenant))?;
        // Counted first and looked at second: whoever revokes sets the level first and counts
        // second, so one of the two always sees the other.
        let pass = Pass::count(Arc::clone(self), lease);
        self.refuse_from(DRAINING)?;
        Ok((pass, way))
    }

    fn refuse_from(&self, level: u8) -> Result<()> {
        if self.level.load(Ordering::SeqCst) < level {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TenantNotActive,
            "the handle is revoked; ask for the tenant's adapters again",
        )
        .with_tenant(&self.tenant))
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.level.load(Ordering::SeqCst) > OPEN
    }

    pub(crate) fn revoke(&self) {
        self.level.fetch_max(DRAINING, Ordering::SeqCst);
    }

    pub(crate) fn fence(&self) {
        self.level.fetch_max(FENCED, Ordering::SeqCst);
    }

    pub(crate) fn add_user(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove_user(&self) {
        if self.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.tell_if_idle();
        }
    }

    /// Nobody has a handle, and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.users.load(Ordering::SeqCst) == 0 && self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// Tells `listener` each time the gate becomes idle. The first listener stays.
    pub(crate) fn on_idle(&self, listener: Arc<Notify>) {
        self.idle.get_or_init(|| listener);
    }

    fn tell_if_idle(&self) {
        if self.is_idle()
            && let Some(listener) = self.idle.get()
        {
            listener.notify_one();
        }
    }

    /// Waits until nothing runs any more; `false` when `limit` is over first.
    pub(crate) async fn drained(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, async {
            loop {
                let notified = self.drained.notified();
                if self.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                notified.await;
            }
        })
        .await
        .is_ok()
    }
}

/// One call, transaction or stream that a [`Gate`] let in.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    lease: Option<Lease>,
}

impl Pass {
    fn count(gate: Arc<Gate>, lease: Option<Lease>) -> Self {
        gate.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { gate, lease }
    }

    /// Notes whether something runs on the connection that came with it.
    pub(crate) fn set_quiet(&self, is_quiet: bool) {
        if let Some(lease) = &self.lease {
            lease.set_quiet(is_quiet);
        }
    }

    /// Runs one call on the connection. Who gives it up leaves it running.
    pub(crate) async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.set_quiet(false);
        let done = call.await;
        self.set_quiet(true);
        done
    }

    /// Refuses the next step of a transaction whose handle has been fenced off.
    pub(crate) fn check(&self) -> Result<()> {
        self.gate.refuse_from(FENCED)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.lease = None;
        if self.gate.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.drained.notify_waiters();
            self.gate.tell_if_idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new(TenantId::new("acme").unwrap()))
    }

    #[tokio::test]
    async fn a_revoked_gate_lets_nobody_in_and_waits_for_who_is_in() {
        let gate = gate();
        let connections = Connections::from(sea_orm::DatabaseConnection::default());
        let (pass, _way) = gate.enter(&connections).await.unwrap();
        gate.revoke();
        assert_eq!(gate.enter(&connections).await.unwrap_err().kind(), ErrorKind::TenantNotActive);
        assert!(pass.check().is_ok(), "what runs may finish while draining");
        assert!(!gate.drained(Duration::from_millis(1)).await);
        gate.fence();
        assert!(pass.check().is_err(), "and may not once fenced");
        drop(pass);
        assert!(gate.drained(Duration::from_secs(5)).await);
    }
}
