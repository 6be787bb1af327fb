use std::sync::Arc;

use mt_core::{Driver, Error, ErrorKind, FactoryContext, Placement, Result, Revoked, TenantId};
use mt_remote::{ExclusiveLock, Look, NotSwitched, switch_placement};

use super::changed;
use crate::{api::D1Client, look::confirm, place::Place};

/// The tenant's database that is to be replaced.
pub(super) struct Old {
    pub(super) place: Place,
    pub(super) driver: Arc<dyn Driver>,
}

/// A verified database on its way into the place of a tenant's.
pub(super) struct Replacement {
    pub(super) client: D1Client,
    pub(super) context: FactoryContext,
    pub(super) tenant: TenantId,
    pub(super) before: Placement,
    pub(super) after: Placement,
    pub(super) old: Option<Old>,
    pub(super) new: Place,
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) revoked: Revoked,
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) lock: ExclusiveLock,
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) turn: ExclusiveLock,
}

impl Replacement {
    pub(super) async fn run(self) -> Result<()> {
        let replaced = match self.check().await {
            Ok(replaced) => replaced,
            Err(error) => {
                withdraw_new(&self.client, &self.context, &self.tenant, &self.new).await;
                return Err(error);
            }
        };
        let placements = &*self.context.placements;
        match switch_placement(placements, &self.tenant, &self.before, &self.after).await {
            Ok(()) => {}
            Err(NotSwitched::Refused(error)) => {
                withdraw_new(&self.client, &self.context, &self.tenant, &self.new).await;
                return Err(error);
            }
            // Both stay: the placement names one of them, and the next restore or removal finds
            // the other.
            Err(NotSwitched::Unknown(error)) => {
                let message = "whether the tenant's database was replaced is not known";
                return Err(Error::new(error.kind(), message).with_source(error));
            }
        }
        // The tenant has its restored database; what is left of the old one changes nothing. The
        // service cannot be told to refuse writes: what other processes write to it until it is
        // removed is lost, as what was written since the copy is.
        match (&self.old, replaced) {
            (Some(old), Replaced::Own) => withdraw(&self.client, &old.place).await,
            (Some(old), Replaced::Corrupt) => {
                tracing::warn!(tenant = %self.tenant, database = %old.place.name, "the damaged database that was replaced is kept");
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Whether what is replaced is this tenant's, whatever the options allow of the copy; or is no
    /// database any more, which is what backups are for. One that is gone is fine.
    async fn check(&self) -> Result<Replaced> {
        // While the copy was on its way somebody may have restored, removed or provisioned the
        // tenant.
        let now = self.context.placements.get(&self.tenant).await?;
        let is_expected = now.as_ref().is_some_and(|now| *now == self.before || *now == self.after);
        let there = self.client.database_by_name(self.new.name.as_str()).await?;
        if !is_expected || there.is_none_or(|found| *found.uuid != *self.new.uuid) {
            return Err(changed());
        }
        let Some(old) = &self.old else { return Ok(Replaced::Own) };
        let look = match Look::at(&*old.driver, None).await {
            Ok(look) => confirm(look, &*old.driver, self.context.ledger()).await,
            damaged => damaged,
        };
        match look {
            // Nobody was given it yet, so there is nothing to lose.
            Ok(Look::Empty | Look::Unassigned) => Ok(Replaced::Own),
            Ok(look) => {
                let (stamp, _) = look.stamped(&self.tenant)?;
                stamp.check(self.context.deployment, &self.tenant, stamp.generation)?;
                Ok(Replaced::Own)
            }
            Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(Replaced::Own),
            Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Replaced::Corrupt),
            Err(e) => Err(e),
        }
    }
}

/// What a copy takes the place of.
#[derive(Clone, Copy)]
enum Replaced {
    /// The tenant's own database, or none.
    Own,
    /// One whose stamp cannot be read. It is kept.
    Corrupt,
}

/// Removes the new database after a refusal, unless somebody has adopted it meanwhile.
pub(super) async fn withdraw_new(
    client: &D1Client,
    context: &FactoryContext,
    tenant: &TenantId,
    new: &Place,
) {
    let is_adopted = |now: &Placement| {
        Place::remembered(&new.name, now).is_some_and(|place| place.uuid == new.uuid)
    };
    match context.placements.get(tenant).await {
        Ok(now) if !now.as_ref().is_some_and(is_adopted) => withdraw(client, new).await,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(tenant = %tenant, database = %new.name, error = %error.to_chain(), "a database that may not be the tenant's current one is left behind");
        }
    }
}

/// Removes a database that is not the tenant's current one: this one, whatever has its name.
async fn withdraw(client: &D1Client, place: &Place) {
    if let Err(error) = client.delete(&place.uuid).await {
        tracing::warn!(database = %place.name, error = %error.to_chain(), "a database that is not the tenant's current one is left behind");
    }
}
