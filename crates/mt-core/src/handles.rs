use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::{
    DataAdapters, Result, TenantId,
    adapters::{Inner, Parked},
};

/// The handles a factory has given out and nobody has dropped yet, so that they can be revoked.
///
/// Each provider keeps one and tracks what it opens.
#[derive(Debug, Default)]
pub struct OpenHandles(Mutex<HashMap<TenantId, Vec<Weak<Inner>>>>);

impl OpenHandles {
    /// Remembers `data` until its last clone is dropped.
    pub fn track(&self, data: &DataAdapters) {
        let mut open = self.lock();
        let handles = open.entry(data.tenant().clone()).or_default();
        handles.retain(|weak| weak.strong_count() > 0);
        handles.push(data.park().downgrade());
    }

    /// Revokes every handle of `tenant`, waits up to `drain` for what runs on them, and closes
    /// them. Afterwards no write on them can be acknowledged.
    ///
    /// # Errors
    /// `InUse`: a transaction or stream was still open after `drain`. All handles stay revoked.
    pub async fn revoke(&self, tenant: &TenantId, drain: Duration) -> Result<()> {
        let handles = self.lock().remove(tenant).unwrap_or_default();
        let handles: Vec<Parked> = handles.iter().filter_map(Parked::upgrade).collect();
        // All at once, before waiting for any.
        for handle in &handles {
            handle.gate().revoke();
        }
        let deadline = Instant::now() + drain;
        let mut outcome = Ok(());
        for handle in handles {
            let closed = handle.close(deadline.saturating_duration_since(Instant::now())).await;
            if closed.is_err() {
                // It is still open, so the next try must find it.
                self.lock().entry(tenant.clone()).or_default().push(handle.downgrade());
            }
            outcome = outcome.and(closed);
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Vec<Weak<Inner>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
