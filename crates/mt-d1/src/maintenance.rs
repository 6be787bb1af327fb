//! Databases opened for changing their schema.

use chrono::{SecondsFormat, Utc};
use mt_core::{
    Connection, DatabaseInfo, Error, ErrorKind, Maintenance, Placement, Result, TenantId,
};

use crate::{D1Factory, budget::Lane, place::Place};

/// How often a bookmark is tried to be kept while others change the same placement.
const ROUNDS: usize = 5;

impl D1Factory {
    pub(crate) async fn open_for_maintenance(
        &self,
        tenant: &TenantId,
        seen: Option<&DatabaseInfo>,
    ) -> Result<Maintenance> {
        let lock = self.locks.shared(tenant, self.config.drain_timeout()).await?;
        let before = self.placement(tenant).await?;
        let place = self.locate_by(tenant, &before).await?;
        let (place, stamp) = match seen {
            Some(seen) if seen.name == place.name && self.was_checked(&place, &before) => {
                seen.stamp.check(self.context.deployment, tenant, place.generation)?;
                (place, seen.stamp.clone())
            }
            _ => {
                let (place, info) = self.look_for(tenant, &before).await?;
                (place, info.stamp)
            }
        };
        if self.config.bookmark_before_migrations {
            self.keep_bookmark(tenant, &before, &place).await?;
        }
        let driver = self.driver(&place, Lane::Control);
        Ok(Maintenance::new(stamp, Connection::Driver(driver), lock))
    }

    /// Whether the stamp of the very database was checked: by whoever had the store remember its
    /// id, or by this process. What has its name may be another by now.
    fn was_checked(&self, place: &Place, placement: &Placement) -> bool {
        Place::remembered(&place.name, placement).is_some() || self.places.was_checked(place)
    }

    /// Takes a bookmark of the state that the database is in, and has the store remember it.
    /// `seen` is the placement by which it was found.
    async fn keep_bookmark(
        &self,
        tenant: &TenantId,
        seen: &Placement,
        place: &Place,
    ) -> Result<()> {
        let bookmark = self.client.bookmark(&place.uuid, None).await?.0;
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let placements = &self.context.placements;
        let mut rounds = 1;
        loop {
            let now = self.placement(tenant).await?;
            // By name, generation and id: any other is not what the bookmark is of.
            if now != *seen && !self.is_at(tenant, &now, place) {
                let message = "the tenant was moved to another database; nothing was done";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let after = place.to_bookmarked(&now, bookmark.clone(), at.clone());
            match placements.compare_and_set(tenant, &now, &after).await {
                Err(e) if e.kind() == ErrorKind::Conflict && rounds < ROUNDS => rounds += 1,
                kept => return kept,
            }
        }
    }

    /// Whether `placement` says that the tenant's database is `place`, or says nothing else.
    fn is_at(&self, tenant: &TenantId, placement: &Placement, place: &Place) -> bool {
        let name = self.name(tenant, placement);
        name == place.name
            && placement.generation == place.generation
            && Place::remembered(&name, placement).is_none_or(|known| known == *place)
    }
}
