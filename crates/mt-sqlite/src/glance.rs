//! Looking at tenants' databases without opening them for use.

use std::time::Instant;

use mt_core::{DatabaseFactory as _, DatabaseInfo, ErrorKind, Placement, Result, TenantId};

use crate::{
    SqliteFactory,
    factory::{blocking, told},
    files::size_bytes,
    look::{Look, look},
    tenant_lock::{RETRY, TenantLock},
};

/// What one look at a tenant's current database showed.
#[derive(Debug)]
pub(crate) struct Glance {
    pub(crate) placement: Placement,
    pub(crate) look: Look,
    pub(crate) size_bytes: u64,
}

impl SqliteFactory {
    /// Looks at the tenant's database, if there is one.
    pub(crate) async fn glance(&self, tenant: &TenantId) -> Result<Option<Glance>> {
        let deadline = Instant::now() + self.config.busy_timeout();
        loop {
            let placement = self.placement(tenant).await?;
            let glance = self.glancer(tenant, placement);
            match blocking(glance).await {
                // It is being removed or replaced.
                Err(e) if e.kind() == ErrorKind::InUse && Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                glance => return glance,
            }
        }
    }

    /// One look at the tenant's database, as blocking work.
    ///
    /// It may look at the file that a restore is just replacing: what it tells is then of a moment
    /// ago. If nobody has the database open, it keeps others out while it looks, which makes the
    /// look three times cheaper; they wait for it as they would for a write.
    fn glancer(
        &self,
        tenant: &TenantId,
        placement: Placement,
    ) -> impl FnOnce() -> Result<Option<Glance>> + Send + use<> {
        let path = self.path_at(tenant, &placement);
        let (lock_path, config) = (self.files.lock_path(tenant), self.config.clone());
        let ledger = self.context.ledger().map(str::to_owned);
        move || {
            if !path.exists() {
                return Ok(None);
            }
            let (_lock, others) = TenantLock::try_take_any(&lock_path)?;
            let size_bytes = size_bytes(&path);
            match look(&path, &config, ledger.as_deref(), others) {
                // Removed between being there and being locked.
                Err(_) if !path.exists() => Ok(None),
                look => Ok(Some(Glance { placement, look: look?, size_bytes: size_bytes? })),
            }
        }
    }

    fn told_by(&self, tenant: &TenantId, glance: Option<Glance>) -> Result<DatabaseInfo> {
        let Some(Glance { placement, look, size_bytes }) = glance else {
            return Err(mt_core::Error::new(
                ErrorKind::TenantNotFound,
                format!("the tenant has no database in {}", self.files.directory.display()),
            ));
        };
        let (stamp, applied) = look.stamped(tenant)?;
        stamp.check(self.context.deployment, tenant, placement.generation)?;
        let name = self.files.name(tenant, &placement);
        let info = DatabaseInfo::new(name, stamp).with_size_bytes(size_bytes);
        Ok(match self.context.ledger() {
            Some(ledger) => info.with_applied(ledger, applied),
            None => info,
        })
    }

    pub(crate) async fn look_for(&self, tenant: &TenantId) -> Result<DatabaseInfo> {
        let glance = self.glance(tenant).await?;
        self.told_by(tenant, glance)
    }

    /// One query for all placements, and one blocking thread for all looks.
    pub(crate) async fn look_for_many(
        &self,
        tenants: &[TenantId],
    ) -> Result<Vec<Result<DatabaseInfo>>> {
        let placements = self.context.placements.get_many(tenants).await?;
        let glancers: Vec<_> = tenants
            .iter()
            .zip(placements)
            .map(|(tenant, placement)| placement.map(|p| self.glancer(tenant, p)))
            .collect();
        let glances = blocking(move || {
            Ok(glancers.into_iter().map(|g| g.map_or(Ok(None), |g| g())).collect::<Vec<_>>())
        })
        .await?;
        let mut infos = Vec::with_capacity(tenants.len());
        for (tenant, glance) in tenants.iter().zip(glances) {
            infos.push(match glance {
                // It is being removed or replaced; this one waits for that.
                Err(e) if e.kind() == ErrorKind::InUse => self.describe(tenant).await,
                glance => told(tenant, glance.and_then(|g| self.told_by(tenant, g))),
            });
        }
        Ok(infos)
    }
}
