//! Putting a copy in the place of a tenant's database.
//!
//! The copy goes to a new database under a name of its own, is looked at there, and then takes the
//! name of the tenant's next generation. A copy is code: `pg_restore` runs it as a role that can do
//! nothing outside of the new database, and what it left there is looked at before anybody else
//! comes in.

mod archive;
mod arrival;
mod inspection;
mod replacement;

use mt_core::{BackupManifest, Error, RestoreOptions, Result, TenantId};
use tokio::io::AsyncRead;

use self::{arrival::Arrival, replacement::Replacement};
use crate::{NAME, PostgresFactory, backup::ENCODING};

impl PostgresFactory {
    pub(crate) async fn put_back(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()> {
        if !self.context.placements.can_change() {
            let what = "restore without a placement store that can change; give the factory one";
            return Err(Error::unsupported(NAME, what));
        }
        let found = self.programs("put a copy in the place of a tenant's database").await?;
        manifest.check(NAME, ENCODING, self.context.deployment, tenant, options)?;
        let before = self.placement(tenant).await?;
        let replaced = self.find(&self.name(tenant, &before)).await?;
        if let Some(place) = &replaced {
            // Whatever the options allow of the copy.
            let (stamp, _) = place.stamped(tenant)?;
            stamp.check(self.context.deployment, tenant, stamp.generation)?;
        }
        let arrival = Arrival { factory: self, found, manifest };
        let new = arrival.receive(source).await?;

        let drain = self.config.drain_timeout();
        let taken_over = async {
            let revoked = self.handles.revoke(tenant, drain).await?;
            Ok((revoked, self.turn(tenant).await?))
        };
        let (revoked, turn) = match taken_over.await {
            Ok(taken_over) => taken_over,
            Err(error) => {
                new.discard().await;
                return Err(error);
            }
        };
        let mut after = before.clone();
        if replaced.is_some() {
            after.generation = before.generation.next();
            after.database = None;
        }
        let replacement = Replacement {
            admin: self.admin.clone(),
            context: self.context.clone(),
            prefix: self.config.database_prefix.clone(),
            drain,
            tenant: tenant.clone(),
            from: self.name(tenant, &before),
            to: self.name(tenant, &after),
            before,
            after,
            replaces: replaced.is_some(),
            new,
            version: manifest.schema_version.clone(),
            revoked,
            turn,
        };
        // A task of its own: whoever asked may give up, but nobody is let in until it is done.
        tokio::spawn(replacement.run()).await.map_err(crate::error::Error::from)?
    }
}
