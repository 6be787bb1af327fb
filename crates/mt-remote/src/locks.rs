use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use mt_core::{Error, ErrorKind, Result, TenantId};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Keeps apart, within this process, who works on a tenant's database and who takes it away.
#[derive(Debug, Default)]
pub struct TenantLocks(Mutex<HashMap<TenantId, Weak<RwLock<()>>>>);

/// While it lives nobody takes the tenant's database away.
#[derive(Debug)]
pub struct SharedLock(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

/// While it lives nobody else works on the tenant's database.
#[derive(Debug)]
pub struct ExclusiveLock(
    #[expect(dead_code, reason = "held for its drop")] OwnedRwLockWriteGuard<()>,
);

impl TenantLocks {
    /// Waits up to `wait` for those who take the database away.
    ///
    /// # Errors
    /// `InUse`.
    pub async fn shared(&self, tenant: &TenantId, wait: Duration) -> Result<SharedLock> {
        let lock = tokio::time::timeout(wait, self.lock(tenant).read_owned()).await;
        lock.map(SharedLock).map_err(|_elapsed| in_use(tenant, wait))
    }

    /// Waits up to `wait` for those who work on the database.
    ///
    /// # Errors
    /// `InUse`.
    pub async fn exclusive(&self, tenant: &TenantId, wait: Duration) -> Result<ExclusiveLock> {
        let lock = tokio::time::timeout(wait, self.lock(tenant).write_owned()).await;
        lock.map(ExclusiveLock).map_err(|_elapsed| in_use(tenant, wait))
    }

    fn lock(&self, tenant: &TenantId) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(tenant).and_then(Weak::upgrade) {
            return lock;
        }
        // Rare enough to sweep the whole map each time: only work on a tenant that nobody else
        // works on gets here.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(RwLock::new(()));
        locks.insert(tenant.clone(), Arc::downgrade(&lock));
        lock
    }
}

fn in_use(tenant: &TenantId, wait: Duration) -> Error {
    Error::new(
        ErrorKind::InUse,
        format!("somebody still works on the tenant's database after {wait:?}; nothing was done"),
    )
    .with_tenant(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn taking_away_waits_for_work() {
        let locks = TenantLocks::default();
        let (acme, other) = (TenantId::new("acme").unwrap(), TenantId::new("other").unwrap());
        let none = Duration::ZERO;
        let work =
            [locks.shared(&acme, none).await.unwrap(), locks.shared(&acme, none).await.unwrap()];
        let error = locks.exclusive(&acme, none).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::InUse, Some(&acme)));
        let _others = locks.exclusive(&other, none).await.unwrap();
        drop(work);
        let _mine = locks.exclusive(&acme, none).await.unwrap();
        assert!(locks.shared(&acme, none).await.is_err());
    }
}
