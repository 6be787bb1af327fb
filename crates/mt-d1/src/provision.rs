//! Making tenants' databases, and removing them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mt_core::{
    Connection, DatabaseName, Driver, Error, ErrorKind, Generation, Placement, Result, Stamp,
    TenantId,
};
use mt_remote::{Look, Stamping};
use sea_orm::DbErr;
use tokio::time::Instant;

use crate::{
    D1Factory, NAME,
    api::{CreateDatabase, Creation},
    budget::Lane,
    config::{Jurisdiction, LocationHint},
    names::RULES,
    place::Place,
    wires::Patient,
};

/// How long to wait before a database that went away under us is made again.
const AGAIN: Duration = Duration::from_millis(250);

impl D1Factory {
    /// Adopts the tenant's database, or makes it.
    ///
    /// A place that is known is looked at first. Where none is, the database is made without asking
    /// for it: the service refuses a name that is there, so the question would only be a request
    /// more for every new tenant.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        let deadline = Instant::now() + self.config.ready_timeout();
        let placement = self.placement(tenant).await?;
        let place = loop {
            match self.make_once(tenant, &placement, deadline).await {
                Ok(place) => break place,
                Err(e) if is_unsettled(&e) && Instant::now() + AGAIN < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                    let message = "the new database does not answer yet; ask again";
                    return Err(Error::new(ErrorKind::Unavailable, message).with_source(e));
                }
                Err(e) => return Err(e),
            }
        };
        self.remember(tenant, &placement, &place).await
    }

    async fn make_once(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        deadline: Instant,
    ) -> Result<Place> {
        let name = self.name(tenant, placement);
        if let Some(place) = self.known(&name, placement) {
            match self.adopt(tenant, &place, Instant::now()).await {
                // Gone: it is made again.
                Err(e) if e.kind() == ErrorKind::TenantNotFound => self.places.forget_gone(&place),
                adopted => return adopted.map(|()| place),
            }
        }
        let (place, created) = self.create(&name, placement.generation).await?;
        if created {
            self.fill(tenant, &place, created, deadline).await?;
        } else {
            self.adopt(tenant, &place, deadline).await?;
        }
        Ok(place)
    }

    fn known(&self, name: &DatabaseName, placement: &Placement) -> Option<Place> {
        Place::remembered(name, placement).or_else(|| {
            let (name, generation) = (name.clone(), placement.generation);
            self.places.get(&name).map(|uuid| Place { name, generation, uuid })
        })
    }

    /// Makes a database, or finds it; and says which.
    pub(crate) async fn create(
        &self,
        name: &DatabaseName,
        generation: Generation,
    ) -> Result<(Place, bool)> {
        let text = str::to_owned;
        let (jurisdiction, hint) = (self.config.jurisdiction, self.config.primary_location_hint);
        let create = CreateDatabase::new(name.as_str())
            .with_jurisdiction(jurisdiction.map(Jurisdiction::as_str).map(text))
            .with_location_hint(hint.map(LocationHint::as_str).map(text));
        let (database, created) = match self.client.create(&create).await {
            Ok(Creation::Created(database)) => (database, true),
            Ok(Creation::Exists(database)) => (database, false),
            // A full account need not tell that the name is there.
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => {
                (self.client.database_by_name(name.as_str()).await?.ok_or(e)?, false)
            }
            Err(e) => return Err(e),
        };
        let place = Place::new(generation, &database);
        self.places.put(&place);
        Ok((place, created))
    }

    /// Takes a database that is there for the tenant's, if its stamp says so or it is empty.
    async fn adopt(&self, tenant: &TenantId, place: &Place, deadline: Instant) -> Result<()> {
        let driver = self.patient(place, deadline);
        let look = self.look_over(&*driver).await;
        match self.forgetting(place, look)? {
            Look::Stamped { stamp, .. } if self.is_mark(tenant, &stamp) => {
                self.delete(place).await?;
                Err(taken_away(place))
            }
            Look::Stamped { stamp, .. } => {
                stamp.check(self.context.deployment, tenant, place.generation).map_err(taken)
            }
            Look::Unstamped => Err(taken(Stamp::missing(tenant))),
            Look::Empty | Look::Unassigned => self.fill(tenant, place, false, deadline).await,
        }
    }

    /// A driver that waits for a database that was made a moment ago.
    fn patient(&self, place: &Place, deadline: Instant) -> Arc<dyn Driver> {
        let wire = self.wire(place, Lane::Control);
        self.driver_over(Arc::new(Patient::new(wire, deadline)))
    }

    /// Gives an empty database its schema and its stamp, in one request.
    async fn fill(
        &self,
        tenant: &TenantId,
        place: &Place,
        created: bool,
        deadline: Instant,
    ) -> Result<()> {
        let stamp = Stamp::new(self.context.deployment, tenant, place.generation);
        let driver = self.patient(place, deadline);
        let stamping = Arc::new(Stamping::new(Arc::clone(&driver), &stamp, self.context.ledger()));
        let filled = async {
            self.apply(Arc::clone(&stamping) as Arc<dyn Driver>).await?;
            stamping.finish().await.map_err(unstamped)
        };
        let Err(error) = filled.await else { return Ok(()) };
        if stamping.has_stamped() || error.kind() == ErrorKind::TenantNotFound {
            return Err(error);
        }
        match self.look_at(place).await {
            Ok(Look::Stamped { stamp, .. }) if self.is_mark(tenant, &stamp) => {
                Err(taken_away(place))
            }
            // Somebody else was faster, or only the answer was lost: what is left of the schema is
            // still to be done.
            Ok(Look::Stamped { stamp: found, .. }) => {
                found.check(self.context.deployment, tenant, place.generation).map_err(taken)?;
                self.apply(driver).await
            }
            Ok(Look::Empty | Look::Unassigned)
                if created && error.kind() == ErrorKind::MigrationFailed =>
            {
                Err(self.take_back(tenant, place, error).await)
            }
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Applies what is left of the schema.
    async fn apply(&self, driver: Arc<dyn Driver>) -> Result<()> {
        match &self.context.template {
            Some(template) => template.apply(&Connection::Driver(driver)).await,
            None => Ok(()),
        }
    }

    /// Removes the database that was just made, because its schema cannot be applied: nobody could
    /// use it. After any other error it stays, for the next call to finish.
    ///
    /// Nothing keeps another process from giving it to the tenant meanwhile; so it is marked first,
    /// with a stamp that nobody serves and that leaves no room for another. Where that fails, it is
    /// somebody's, and stays. Where this process dies after it, the next call knows the mark.
    async fn take_back(&self, tenant: &TenantId, place: &Place, error: Error) -> Error {
        let mark = Stamp::new(self.context.deployment, tenant, mark());
        let driver = self.driver(place, Lane::Control);
        if let Err(reason) = Stamping::new(driver, &mark, None).finish().await {
            tracing::debug!(database = %place.name, error = %reason, "a new database stays");
            return error;
        }
        match self.delete(place).await {
            Ok(()) => error,
            Err(second) => Error::new(
                error.kind(),
                format!(
                    "{}; and the empty database `{}` could not be removed: {}",
                    error.to_chain(),
                    place.name,
                    second.to_chain()
                ),
            ),
        }
    }

    /// Whether a stamp says that whoever made the database is about to remove it.
    fn is_mark(&self, tenant: &TenantId, stamp: &Stamp) -> bool {
        stamp.check(self.context.deployment, tenant, mark()).is_ok()
    }

    /// Stores what the service told, where there is a store.
    pub(crate) async fn remember(
        &self,
        tenant: &TenantId,
        before: &Placement,
        place: &Place,
    ) -> Result<()> {
        let placements = &self.context.placements;
        let after = place.to_placement(before);
        if !placements.can_change() || *before == after {
            return Ok(());
        }
        match placements.compare_and_set(tenant, before, &after).await {
            // Somebody else who provisioned it stored the same.
            Err(e) if e.kind() == ErrorKind::Conflict => {
                let now = self.placement(tenant).await?;
                let known = Place::remembered(&self.name(tenant, &now), &now);
                if known.as_ref() == Some(place) { Ok(()) } else { Err(e) }
            }
            stored => stored,
        }
    }

    /// Removes every generation of the tenant's database that is stamped for this tenant.
    pub(crate) async fn remove_all(&self, tenant: &TenantId) -> Result<()> {
        let wait = self.config.drain_timeout();
        let _revoked = self.handles.revoke(tenant, wait).await?;
        let _lock = self.locks.exclusive(tenant, wait).await?;
        let found = self.find_all(tenant).await?;
        // All are looked at before any is removed.
        for place in &found {
            self.require_removable(tenant, place).await?;
        }
        for place in &found {
            self.delete(place).await?;
        }
        Ok(())
    }

    /// All databases that have one of the tenant's names now.
    ///
    /// By name, whatever id is remembered: what is removed is what has the name. But one that was
    /// made a moment ago may not be known by its name yet; so those that are remembered and were
    /// not found are asked for by their ids.
    async fn find_all(&self, tenant: &TenantId) -> Result<Vec<Place>> {
        let current = self.last_placement(tenant).await?;
        let names = self.names_of(tenant, &current);
        let mut ids: BTreeSet<Arc<str>> = Place::remembered_ids(&current).collect();
        let mut found = Vec::new();
        for (name, generation) in &names {
            ids.extend(self.places.get(name));
            if let Some(database) = self.client.database_by_name(name.as_str()).await? {
                found.push(Place::new(*generation, &database));
            }
            self.places.forget(name);
        }
        for uuid in ids {
            if found.iter().any(|place: &Place| place.uuid == uuid) {
                continue;
            }
            let Some(database) = self.client.database(&uuid).await? else { continue };
            // Under any other name it is not the tenant's, whatever the store says.
            if let Some(generation) = names.get(&DatabaseName::from_stored(&database.name)) {
                found.push(Place::new(*generation, &database));
            }
        }
        Ok(found)
    }

    /// Deletes a database whose stamp was checked, by its id: its name may mean another by now.
    pub(crate) async fn delete(&self, place: &Place) -> Result<()> {
        let deleted = self.client.delete(&place.uuid).await;
        self.places.forget_gone(place);
        deleted
    }

    /// Refuses a database that is not the tenant's. One that nobody was given yet has nothing in it
    /// to lose.
    async fn require_removable(&self, tenant: &TenantId, place: &Place) -> Result<()> {
        match self.look_at(place).await {
            Ok(Look::Empty | Look::Unassigned) => Ok(()),
            // What a restore that died left half filled.
            Ok(Look::Unstamped) if self.is_arriving(tenant, place).await? => Ok(()),
            Ok(look) => look.stamped(tenant).and_then(|(stamp, _)| {
                stamp.check(self.context.deployment, tenant, stamp.generation)
            }),
            // It went away meanwhile.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn is_arriving(&self, tenant: &TenantId, place: &Place) -> Result<bool> {
        let placement = self.context.placements.get(tenant).await?;
        Ok(placement.is_some_and(|placement| place.is_arriving(&placement)))
    }

    /// Where the tenant's database is, or would be if there were a row of it.
    async fn last_placement(&self, tenant: &TenantId) -> Result<Placement> {
        match self.placement(tenant).await {
            // Nothing was ever placed, or the row is gone; the first database may still be there.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                Ok(Placement::derived(Generation::FIRST))
            }
            placement => placement,
        }
    }

    /// The names that a tenant's databases may have: of its current generation, of those before it,
    /// and of the next, which a restore that died may have left. Each is a request; where
    /// placements cannot change there has never been more than one.
    fn names_of(
        &self,
        tenant: &TenantId,
        current: &Placement,
    ) -> BTreeMap<DatabaseName, Generation> {
        let mut names = BTreeMap::new();
        if self.context.placements.can_change() {
            let all = (1..=current.generation.next().get()).filter_map(Generation::new);
            names.extend(all.map(|generation| {
                (RULES.encode(&self.config.database_prefix, tenant, generation), generation)
            }));
        }
        names.insert(self.name(tenant, current), current.generation);
        names
    }
}

/// The generation of the stamp that marks a database for removal. No tenant comes to have it.
fn mark() -> Generation {
    Generation::new(u32::MAX).expect("it is not 0")
}

/// Whether the next round may find what is there: somebody who could not finish it took it away
/// again, an answer was lost, or its name is not free yet.
fn is_unsettled(error: &Error) -> bool {
    let kinds = [ErrorKind::TenantNotFound, ErrorKind::OutcomeUnknown, ErrorKind::Conflict];
    kinds.contains(&error.kind())
}

fn taken_away(place: &Place) -> Error {
    let message = format!("the database `{}` was being taken away again", place.name);
    Error::new(ErrorKind::TenantNotFound, message).with_provider(NAME)
}

pub(crate) fn taken(source: Error) -> Error {
    let message = "a database of that name is there and is not this tenant's";
    Error::new(ErrorKind::NameTaken, message).with_source(source)
}

fn unstamped(error: DbErr) -> Error {
    Error::from_db_err(error, ErrorKind::Unavailable, "the database could not be stamped")
}
