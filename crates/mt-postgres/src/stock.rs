//! Databases made in advance: finished, and nobody's until one is claimed.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mt_core::{DatabaseName, DeploymentId, Placement, Result, TenantId};

use crate::{
    PostgresFactory,
    comment::Comment,
    error::{Error, NO_DATABASE, OBJECT_IN_USE},
    names::{Identity, Part},
    place::Place,
    provision::Claim,
};

/// The spares that this process knows of. Another may be faster with each.
#[derive(Debug, Default)]
pub(crate) struct Stock(Mutex<VecDeque<Identity>>);

impl Stock {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Identity> {
        self.lock().pop_front()
    }

    fn put_back(&self, identity: Identity) {
        self.lock().push_front(identity);
    }

    fn replace(&self, identities: Vec<Identity>) {
        *self.lock() = identities.into();
    }
}

impl PostgresFactory {
    /// Gives a spare to the tenant, if there is one. A spare whose schema is not the context's is
    /// none.
    pub(crate) async fn claim_spare(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        name: &DatabaseName,
    ) -> Result<Claim> {
        let before = Comment::ready_spare(self.context.deployment, self.schema());
        let mut has_looked = false;
        loop {
            let Some(identity) = self.stock.take() else {
                if has_looked {
                    return Ok(Claim::Nothing);
                }
                has_looked = true;
                self.stock.replace(self.ready_spares().await?);
                continue;
            };
            match self.claim(tenant, placement, name, &identity, &before).await {
                Ok(Claim::Done) => return Ok(Claim::Done),
                Ok(Claim::Exists) => {
                    self.stock.put_back(identity);
                    return Ok(Claim::Exists);
                }
                // Somebody was faster with this one, or looks into it.
                Ok(Claim::Nothing) => {}
                Err(error) if error.is(OBJECT_IN_USE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The spares of the context's schema that are finished, the oldest first.
    async fn ready_spares(&self) -> Result<Vec<Identity>> {
        let prefix = &self.config.database_prefix;
        let (deployment, schema) = (self.context.deployment, self.schema());
        let spares = Place::find_nobodys(&self.admin, prefix).await?;
        let is_ready = |place: &Place| {
            let comment = place.comment.as_ref();
            place.is_open
                && !place.is_half_dropped
                && comment.is_some_and(|c| c.is_ready_spare(deployment, &schema))
        };
        let mut ready: Vec<Identity> =
            spares.into_iter().filter(is_ready).filter_map(|place| place.identity).collect();
        ready.sort_unstable_by_key(Identity::spare);
        Ok(ready)
    }

    /// Makes spares until there are as many as the settings say, unless somebody else is at it.
    pub(crate) async fn restock(&self) -> Result<()> {
        let wanted = self.config.spare_databases as usize;
        if wanted == 0 {
            return Ok(());
        }
        let action = "make databases in advance";
        let mut lock = self.admin.pool().begin().await.map_err(Error::server(action))?;
        let is_ours = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_xact_lock($1)")
            .bind(lock_key(&self.config.database_prefix, self.context.deployment))
            .fetch_one(&mut *lock)
            .await;
        if !is_ours.map_err(Error::server(action))? {
            return Ok(());
        }
        let mut ready = self.ready_spares().await?;
        while ready.len() < wanted {
            ready.push(self.make_ready_spare().await?);
        }
        self.stock.replace(ready);
        // The lock goes with the transaction, which did nothing.
        Ok(lock.rollback().await.map_err(Error::server(action))?)
    }

    /// Makes one that can be claimed.
    async fn make_ready_spare(&self) -> Result<Identity> {
        let identity = Identity::new(&self.config.database_prefix);
        let made = async {
            self.make_spare(&identity).await?;
            self.warm(&identity).await?;
            let spare = identity.spare();
            let before = Comment::spare(self.context.deployment).to_guard(&spare)?;
            let ready = Comment::ready_spare(self.context.deployment, self.schema());
            let sql = format!("{before};{}", ready.to_statement(&spare)?);
            match self.admin.run("mark a finished database", sql).await {
                Err(error) if error.is(NO_DATABASE) => Err(Error::Lost.into()),
                marked => Ok(marked?),
            }
        };
        match made.await {
            Ok(()) => Ok(identity),
            Err(error) => {
                self.discard(&identity).await;
                Err(error)
            }
        }
    }

    /// Connects once as the role of requests: that it is let in is known then, and the first
    /// connection to a database takes twice as long as those after it.
    async fn warm(&self, identity: &Identity) -> Result<()> {
        let inside = self.admin.enter(&identity.spare(), identity, Part::Runtime).await?;
        inside.close().await;
        Ok(())
    }
}

/// Of those who fill one stock at once, one does.
fn lock_key(prefix: &str, deployment: DeploymentId) -> i64 {
    use sha2::{Digest as _, Sha256};

    let hash = Sha256::new().chain_update(deployment.to_string()).chain_update(prefix).finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(bytes)
}
