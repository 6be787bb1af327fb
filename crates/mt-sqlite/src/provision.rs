//! Making tenants' databases, and removing them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mt_core::{ErrorKind, Generation, Placement, Result, Stamp, TenantId};

use crate::{
    SqliteFactory,
    error::Error,
    factory::blocking,
    files::has_remains,
    look::{Look, Others, look},
    tenant_lock::{Mode, RETRY, TenantLock},
};

impl SqliteFactory {
    /// Adopts the tenant's database, or makes it.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        let deadline = Instant::now() + self.config.drain_timeout();
        loop {
            if self.adopt(tenant).await? {
                // Whoever made it may not have come to make its name durable.
                let files = self.files.clone();
                return blocking(move || Ok(files.sync_directory()?)).await;
            }
            if self.create(tenant).await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Locked(self.files.lock_path(tenant)).into());
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Makes the database; `false`: there is one by now, or somebody is just making it, and the
    /// caller looks whose it is.
    async fn create(&self, tenant: &TenantId) -> Result<bool> {
        let image = match self.image.get() {
            Some(image) => image,
            None => {
                let files = self.files.clone();
                let prepare = move || {
                    files.create_directory()?;
                    files.sweep();
                    Ok(())
                };
                blocking(prepare).await?;
                self.image.make(&self.files, &self.context).await?
            }
        };
        let placement = self.placement(tenant).await?;
        let path = self.path_at(tenant, &placement);
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        // Where nothing is in the way nothing has to be removed, and the link decides between those
        // who come at once. The lock is for removing.
        if has_remains(&path) && !self.clear(tenant, &path).await? {
            return Ok(false);
        }
        let files = self.files.clone();
        blocking(move || Ok(files.publish_new(&path, |file| image.write_stamped(&stamp, file))?))
            .await
    }

    /// Removes what stands in the place of a new database and is none; `false`: it is one, or
    /// somebody is at it.
    async fn clear(&self, tenant: &TenantId, path: &Path) -> Result<bool> {
        let lock_path = self.files.lock_path(tenant);
        let lock = TenantLock::take(&lock_path, Mode::Exclusive, true, Duration::ZERO).await;
        let lock = match lock {
            Err(Error::Locked(_)) => return Ok(false),
            lock => lock?,
        };
        let (files, config, path) = (self.files.clone(), self.config.clone(), path.to_owned());
        blocking(move || {
            let _lock = lock;
            if path.exists() {
                match look(&path, &config, None, Others::Excluded)? {
                    // There is nothing in it to lose.
                    Look::Empty => {}
                    Look::Stamped { .. } | Look::Unstamped => return Ok(false),
                }
            }
            files.remove(&path)?;
            Ok(true)
        })
        .await
    }

    /// Accepts a database that is already there, if it is this tenant's; `false`: nothing is there,
    /// or nothing worth keeping.
    async fn adopt(&self, tenant: &TenantId) -> Result<bool> {
        if !self.database_path(tenant).await?.exists() {
            return Ok(false);
        }
        let Some(glance) = self.glance(tenant).await? else { return Ok(false) };
        let taken = |source: mt_core::Error| {
            mt_core::Error::from(Error::Taken("its stamp says so")).with_source(source)
        };
        match glance.look {
            Look::Empty => Ok(false),
            Look::Unstamped => Err(Error::Taken("it has tables and no stamp").into()),
            Look::Stamped { stamp, .. } => stamp
                .check(self.context.deployment, tenant, glance.placement.generation)
                .map(|()| true)
                .map_err(taken),
        }
    }

    /// Removes every generation of the tenant's database that is stamped for this tenant.
    pub(crate) async fn remove_all(&self, tenant: &TenantId) -> Result<()> {
        let wait = self.config.drain_timeout();
        let lock_path = self.files.lock_path(tenant);
        let mut lock = TenantLock::take(&lock_path, Mode::Exclusive, false, wait).await?;
        let mut paths = self.paths_of(tenant).await?;
        if lock.is_none() {
            if paths.is_empty() {
                return Ok(());
            }
            // The files were copied here without their lock file.
            lock = TenantLock::take(&lock_path, Mode::Exclusive, true, wait).await?;
            paths = self.paths_of(tenant).await?;
        }
        let (files, config) = (self.files.clone(), self.config.clone());
        let (deployment, tenant) = (self.context.deployment, tenant.clone());
        blocking(move || {
            // All are looked at before any is removed.
            for path in &paths {
                let (stamp, _) = look(path, &config, None, Others::Excluded)?.stamped(&tenant)?;
                stamp.check(deployment, &tenant, stamp.generation)?;
            }
            for path in &paths {
                files.remove(path)?;
            }
            match lock {
                Some(lock) => Ok(lock.remove(&lock_path)?),
                None => Ok(()),
            }
        })
        .await
    }

    /// The files there are of a tenant: of its current generation, of those before it, and of the
    /// next, which a restore that died may have left.
    async fn paths_of(&self, tenant: &TenantId) -> Result<Vec<PathBuf>> {
        let current = match self.placement(tenant).await {
            Ok(placement) => placement,
            // Nothing was ever placed, or the row is gone; the first file may still be there.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                Placement::derived(Generation::FIRST)
            }
            Err(e) => return Err(e),
        };
        let mut paths: Vec<PathBuf> = (1..=current.generation.next().get())
            .filter_map(Generation::new)
            .map(|generation| self.path_at(tenant, &Placement::derived(generation)))
            .collect();
        let current_path = self.path_at(tenant, &current);
        if !paths.contains(&current_path) {
            paths.push(current_path);
        }
        paths.retain(|path| path.exists());
        Ok(paths)
    }
}
