use std::sync::Arc;

use mt_core::{Driver, Error, ErrorKind, FactoryContext, Placement, Result, Revoked, TenantId};
use mt_remote::{ExclusiveLock, Look, NotSwitched, switch_placement};

use super::changed;
use crate::{
    Tokens, TursoFactory,
    place::Place,
    platform::{Authorization, ConfigurationChange, Database, PlatformClient},
};

/// The tenant's database that is to be replaced.
pub(super) struct Old {
    place: Place,
    driver: Arc<dyn Driver>,
    reads_blocked: bool,
    writes_blocked: bool,
}

impl Old {
    pub(super) fn new(
        factory: &TursoFactory,
        before: &Placement,
        database: &Database,
    ) -> Result<Self> {
        let place = Place::new(before.generation, database);
        let driver = factory.driver(&place, Authorization::FullAccess)?;
        let (reads_blocked, writes_blocked) = (database.block_reads, database.block_writes);
        Ok(Self { place, driver, reads_blocked, writes_blocked })
    }

    /// Has the server refuse writes, or no more; one that refused them before goes on to.
    async fn block_writes(&self, platform: &PlatformClient, block: bool) -> Result<()> {
        let name = self.place.name.as_str();
        // One that is gone takes no writes, and what has its name now is somebody else's.
        let found = platform.database(name).await?;
        if self.writes_blocked || found.is_none_or(|found| found.id != self.place.id) {
            return Ok(());
        }
        let change = ConfigurationChange::default().with_block_writes(block);
        match platform.configure(name, &change).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// A verified database on its way into the place of a tenant's.
pub(super) struct Replacement {
    pub(super) platform: PlatformClient,
    pub(super) tokens: Arc<Tokens>,
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
                withdraw_new(&self.platform, &self.context, &self.tenant, &self.new).await;
                return Err(error);
            }
        };
        match self.switch_fenced().await {
            Ok(()) => {}
            Err(NotSwitched::Refused(error)) => {
                self.take_fence_away().await;
                withdraw_new(&self.platform, &self.context, &self.tenant, &self.new).await;
                return Err(error);
            }
            // Both stay: the placement names one of them, and the next restore or removal finds
            // the other.
            Err(NotSwitched::Unknown(error)) => {
                let message = "whether the tenant's database was replaced is not known; if it was not, it takes no writes until `activate`";
                return Err(Error::new(error.kind(), message).with_source(error));
            }
        }
        // The tenant has its restored database; what is left of the old one changes nothing.
        match (&self.old, replaced) {
            (Some(old), Replaced::Own) => {
                withdraw(&self.platform, &old.place).await;
                self.tokens.forget(old.place.name.as_str());
            }
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
        let there = self.platform.database(self.new.name.as_str()).await?;
        let is_expected = now.as_ref().is_some_and(|now| *now == self.before || *now == self.after);
        if !is_expected || there.is_none_or(|found| found.id != self.new.id) {
            return Err(changed());
        }
        let Some(old) = &self.old else { return Ok(Replaced::Own) };
        match self.look_at(old).await {
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

    /// Looks at the old database, also where the tenant is suspended: then it is open for reading
    /// meanwhile, and for nothing else.
    async fn look_at(&self, old: &Old) -> Result<Look> {
        let block = async |block: bool| {
            let change = ConfigurationChange::default().with_block_reads(block);
            self.platform.configure(old.place.name.as_str(), &change).await
        };
        if !old.reads_blocked {
            return Look::at(&*old.driver, None).await;
        }
        block(false).await?;
        let look = Look::at(&*old.driver, None).await;
        block(true).await?;
        look
    }

    /// Switches while nobody can write to what is replaced. Other processes learn of the switch
    /// later, and would be told until then that their writes last.
    async fn switch_fenced(&self) -> Result<(), NotSwitched> {
        if let Some(old) = &self.old {
            old.block_writes(&self.platform, true).await.map_err(NotSwitched::Refused)?;
        }
        let placements = &*self.context.placements;
        switch_placement(placements, &self.tenant, &self.before, &self.after).await
    }

    async fn take_fence_away(&self) {
        let Some(old) = &self.old else { return };
        if let Err(error) = old.block_writes(&self.platform, false).await {
            tracing::warn!(tenant = %self.tenant, database = %old.place.name, error = %error.to_chain(), "a database that was not replaced takes no writes until `activate`");
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
    platform: &PlatformClient,
    context: &FactoryContext,
    tenant: &TenantId,
    new: &Place,
) {
    let is_adopted =
        |now: &Placement| Place::remembered(&new.name, now).is_some_and(|place| place.id == new.id);
    match context.placements.get(tenant).await {
        Ok(now) if !now.as_ref().is_some_and(is_adopted) => withdraw(platform, new).await,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(tenant = %tenant, database = %new.name, error = %error.to_chain(), "a database that may not be the tenant's current one is left behind");
        }
    }
}

/// Removes a database that is not the tenant's current one, if the name still means it.
async fn withdraw(platform: &PlatformClient, place: &Place) {
    let name = place.name.as_str();
    let removed = async {
        match platform.database(name).await? {
            Some(found) if found.id == place.id => platform.delete_database(name).await.map(drop),
            _ => Ok(()),
        }
    };
    if let Err(error) = removed.await {
        tracing::warn!(database = name, error = %error.to_chain(), "a database that is not the tenant's current one is left behind");
    }
}
