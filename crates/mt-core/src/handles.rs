use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    DataAdapters, Error, ErrorKind, Result, TenantId,
    adapters::{Inner, Parked},
};

/// The handles a factory has given out and that are not closed yet, so that they can be revoked.
///
/// Each provider keeps one and tracks what it opens.
#[derive(Debug, Default)]
pub struct OpenHandles(Arc<Mutex<HashMap<TenantId, Tenant>>>);

#[derive(Debug, Default)]
struct Tenant {
    handles: Vec<Weak<Inner>>,
    /// How many [`Revoked`] there are.
    revoked: usize,
}

/// While it lives, no new handle of its tenant is given out. Whoever goes on in a task of its own
/// takes it along.
#[must_use = "new handles are given out again as soon as this is dropped"]
pub struct Revoked {
    handles: OpenHandles,
    tenant: TenantId,
}

impl OpenHandles {
    /// Refuses a tenant whose handles are being revoked, before anything is opened: whoever revokes
    /// would otherwise have to wait for what cannot be given out anyway.
    ///
    /// # Errors
    /// `InUse`, as [`OpenHandles::track`].
    pub fn admit(&self, tenant: &TenantId) -> Result<()> {
        match self.lock().get(tenant) {
            Some(Tenant { revoked: 1.., .. }) => Err(being_revoked(tenant)),
            _ => Ok(()),
        }
    }

    /// Remembers `data` until it is closed or its last clone is dropped.
    ///
    /// # Errors
    /// `InUse`: the tenant's handles are being revoked, so this one must not be given out.
    pub fn track(&self, data: &DataAdapters) -> Result<()> {
        let mut tenants = self.lock();
        let tenant = tenants.entry(data.tenant().clone()).or_default();
        if tenant.revoked > 0 {
            return Err(being_revoked(data.tenant()));
        }
        tenant.handles.retain(|weak| weak.strong_count() > 0);
        tenant.handles.push(data.park().downgrade());
        Ok(())
    }

    /// Revokes every handle of `tenant`, waits up to `drain` for what runs on them, and closes
    /// them. Afterwards no write on them can be acknowledged, and until the answer is dropped no
    /// new handle is given out.
    ///
    /// # Errors
    /// `InUse`: a transaction or stream was still open after `drain`. The handles stay revoked.
    pub async fn revoke(&self, tenant: &TenantId, drain: Duration) -> Result<Revoked> {
        let (guard, handles) = {
            let mut tenants = self.lock();
            let entry = tenants.entry(tenant.clone()).or_default();
            entry.revoked += 1;
            (
                Revoked { handles: Self(Arc::clone(&self.0)), tenant: tenant.clone() },
                parked(&entry.handles),
            )
        };
        close_all(handles, drain).await.map(|()| guard)
    }

    /// Revokes and closes every handle of every tenant, waiting up to `drain` for what runs.
    ///
    /// # Errors
    /// `InUse`: something was still open on at least one. All stay revoked.
    pub async fn revoke_all(&self, drain: Duration) -> Result<()> {
        let handles = self.lock().values().flat_map(|tenant| parked(&tenant.handles)).collect();
        close_all(handles, drain).await
    }

    /// The tenants with a handle that is not closed yet, in no particular order.
    pub fn tenants(&self) -> Vec<TenantId> {
        let tenants = self.lock();
        let in_use = tenants
            .iter()
            .filter(|(_, tenant)| tenant.handles.iter().any(|handle| handle.strong_count() > 0));
        in_use.map(|(tenant, _)| tenant.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Tenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn being_revoked(tenant: &TenantId) -> Error {
    Error::new(ErrorKind::InUse, "the tenant's database is being removed, replaced or maintained")
        .with_tenant(tenant)
}

fn parked(handles: &[Weak<Inner>]) -> Vec<Parked> {
    handles.iter().filter_map(Parked::upgrade).collect()
}

async fn close_all(handles: Vec<Parked>, drain: Duration) -> Result<()> {
    // All are revoked before any is waited for.
    for handle in &handles {
        handle.gate().revoke();
    }
    let deadline = Instant::now() + drain;
    let close = |handle: Parked| async move {
        handle.close(deadline.saturating_duration_since(Instant::now())).await
    };
    join_all(handles.into_iter().map(close)).await.into_iter().collect()
}

impl Drop for Revoked {
    fn drop(&mut self) {
        let mut tenants = self.handles.lock();
        if let Some(tenant) = tenants.get_mut(&self.tenant) {
            tenant.revoked -= 1;
            tenant.handles.retain(|weak| weak.strong_count() > 0);
            if tenant.revoked == 0 && tenant.handles.is_empty() {
                tenants.remove(&self.tenant);
            }
        }
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoked").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
