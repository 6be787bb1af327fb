//! Making tenants' databases, and removing them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mt_core::{
    Connection, DatabaseName, Driver, Error, ErrorKind, Generation, Placement, Result, Stamp,
    TenantId,
};
use mt_remote::{Look, Stamping};
use sea_orm::{DbBackend, DbErr};
use tokio::time::Instant;

use crate::{
    TursoFactory,
    factory::{blocking, require_libsql},
    names,
    place::Place,
    platform::{Authorization, ConfigurationChange, CreateDatabase, Database, Seed},
};

/// How long to wait between two looks at a database that is being made ready.
const READY_RETRY: Duration = Duration::from_millis(150);
/// How often a database may vanish under us while it is being made.
const ROUNDS: usize = 3;

impl TursoFactory {
    /// Adopts the tenant's database, or makes it.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            match self.make_once(tenant).await {
                // Somebody who could not finish it took it away again.
                Err(e) if e.kind() == ErrorKind::TenantNotFound && rounds < ROUNDS => {}
                made => return made,
            }
        }
    }

    async fn make_once(&self, tenant: &TenantId) -> Result<()> {
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        if self.is_provisioned(tenant, &name, &placement).await? {
            return Ok(());
        }
        let seed = self.seed().await?;
        let created = self.create(&name, placement.generation, seed.clone()).await;
        if let (Err(_), Some(Seed::Database { name, .. })) = (&created, seed) {
            // Perhaps the template went away; the next call makes it again.
            self.places.forget(&DatabaseName::from_stored(name));
        }
        let (place, created) = created?;
        match self.look_when_ready(&place).await? {
            Look::Stamped { stamp, .. } => {
                stamp.check(self.context.deployment, tenant, place.generation).map_err(taken)?;
            }
            Look::Unstamped => return Err(taken(Stamp::missing(tenant))),
            look @ (Look::Empty | Look::Unassigned) => {
                let made = self.fill(tenant, &place, &look).await;
                if let Err(error) = made {
                    return Err(self.take_back(&place, created, error).await);
                }
                let (stamp, _) = self.look_at(&place).await?.stamped(tenant)?;
                stamp.check(self.context.deployment, tenant, place.generation).map_err(taken)?;
            }
        }
        self.remember(tenant, &placement, &place).await
    }

    /// Whether the store remembers a database that is there and the tenant's: then one look tells.
    async fn is_provisioned(
        &self,
        tenant: &TenantId,
        name: &DatabaseName,
        placement: &Placement,
    ) -> Result<bool> {
        let Some(place) = Place::remembered(name, placement) else { return Ok(false) };
        match self.look_at(&place).await {
            Ok(Look::Stamped { stamp, .. }) => {
                let checked = stamp.check(self.context.deployment, tenant, place.generation);
                checked.map(|()| true).map_err(taken)
            }
            Ok(Look::Empty | Look::Unassigned | Look::Unstamped) => Ok(false),
            // Gone, or made anew under its name: the rest of the way finds out.
            Err(e)
                if [ErrorKind::TenantNotFound, ErrorKind::ForeignDatabase].contains(&e.kind()) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a database, or finds it; and says which.
    pub(crate) async fn create(
        &self,
        name: &DatabaseName,
        generation: Generation,
        seed: Option<Seed>,
    ) -> Result<(Place, bool)> {
        let mut create = CreateDatabase::new(name.as_str(), &self.config.group);
        if let Some(seed) = seed {
            create = create.with_seed(seed);
        }
        if let Some(limit) = &self.config.size_limit {
            create = create.with_size_limit(limit);
        }
        let creation = self.platform.create_database(&create).await?;
        require_libsql(&creation.database)?;
        let place = Place::new(generation, &creation.database);
        self.places.put(place.clone());
        Ok((place, creation.created))
    }

    /// Looks at a database that may have been made a moment ago: until it is ready, its server says
    /// that there is no such thing.
    pub(crate) async fn look_when_ready(&self, place: &Place) -> Result<Look> {
        let driver = self.driver(place, Authorization::FullAccess)?;
        let deadline = Instant::now() + self.config.ready_timeout();
        loop {
            match Look::at(&*driver, self.context.ledger()).await {
                Err(e) if e.kind() == ErrorKind::Unavailable && Instant::now() < deadline => {
                    tokio::time::sleep(READY_RETRY).await;
                }
                look => return self.forgetting(place, look),
            }
        }
    }

    /// Gives an empty database its schema and its stamp.
    async fn fill(&self, tenant: &TenantId, place: &Place, look: &Look) -> Result<()> {
        let stamp = Stamp::new(self.context.deployment, tenant, place.generation);
        let driver = self.driver(place, Authorization::FullAccess)?;
        let ledger = self.context.ledger();
        let stamping = Arc::new(Stamping::new(Arc::clone(&driver), &stamp, ledger));
        let Err(error) = self.fill_with(&stamping, look).await else { return Ok(()) };
        if stamping.has_stamped() {
            return Err(error);
        }
        match self.look_at(place).await {
            // Somebody else was faster, or only the answer was lost: what is left of the schema is
            // still to be done. Whose it is, the caller looks.
            Ok(Look::Stamped { stamp: found, .. }) => {
                let own = found.check(self.context.deployment, tenant, place.generation);
                if own.is_ok() { self.apply(driver).await } else { Ok(()) }
            }
            _ => Err(error),
        }
    }

    async fn fill_with(&self, stamping: &Arc<Stamping>, look: &Look) -> Result<()> {
        // What was copied from a template has the schema.
        if *look == Look::Empty {
            self.apply(Arc::clone(stamping) as Arc<dyn Driver>).await?;
        }
        stamping.finish().await.map_err(unstamped)
    }

    /// Applies what is left of the schema.
    async fn apply(&self, driver: Arc<dyn Driver>) -> Result<()> {
        match &self.context.template {
            Some(template) => template.apply(&Connection::Driver(driver)).await,
            None => Ok(()),
        }
    }

    /// Removes the database that was just made, if its schema cannot be applied: nobody could use
    /// it. After any other error it stays, for the next call to finish; and so does one that
    /// somebody has stamped.
    async fn take_back(&self, place: &Place, created: bool, error: Error) -> Error {
        if !created || error.kind() != ErrorKind::MigrationFailed {
            return error;
        }
        match self.remove_if_empty(place).await {
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

    async fn remove_if_empty(&self, place: &Place) -> Result<()> {
        let name = place.name.as_str();
        if !self.is_still(place).await? {
            return Ok(());
        }
        let block = |block| ConfigurationChange::default().with_block_writes(block);
        // So that it stays empty once it was seen to be.
        self.platform.configure(name, &block(true)).await?;
        let look = self.look_at(place).await;
        if matches!(look, Ok(Look::Empty | Look::Unassigned)) {
            return self.delete(place).await;
        }
        self.platform.configure(name, &block(false)).await?;
        look.map(drop)
    }

    /// Stores what the service told, where there is a store.
    async fn remember(&self, tenant: &TenantId, before: &Placement, place: &Place) -> Result<()> {
        let placements = &self.context.placements;
        let after = place.to_placement(before);
        if !placements.can_change() || *before == after {
            return Ok(());
        }
        match placements.compare_and_set(tenant, before, &after).await {
            // Somebody else who provisioned it stored the same.
            Err(e)
                if e.kind() == ErrorKind::Conflict
                    && placements.get(tenant).await?.as_ref() == Some(&after) =>
            {
                Ok(())
            }
            stored => stored,
        }
    }

    /// What a new database is copied from, if anything.
    async fn seed(&self) -> Result<Option<Seed>> {
        let Some(template) =
            self.context.template.as_ref().filter(|_| self.config.seed_from_template)
        else {
            return Ok(None);
        };
        let prefix = &self.config.database_prefix;
        let name = names::template(&self.rules, prefix, template.fingerprint());
        let stored = DatabaseName::from_stored(name.as_str());
        if self.places.get(&stored).is_none() {
            self.make_template(&stored).await?;
        }
        Ok(Some(Seed::Database { name, timestamp: None }))
    }

    /// Makes the template: the schema, and the stamp's table without a stamp.
    ///
    /// That table comes last, and by it a template is known to be whole: what is copied from half a
    /// template has half a schema. One that was left half made is gone on with.
    async fn make_template(&self, name: &DatabaseName) -> Result<()> {
        let (place, _) = self.create(name, Generation::FIRST, None).await?;
        self.places.forget(name);
        match self.look_when_ready(&place).await? {
            Look::Unassigned => {}
            Look::Empty | Look::Unstamped => {
                let driver = self.driver(&place, Authorization::FullAccess)?;
                self.apply(Arc::clone(&driver)).await?;
                let tables = Stamp::to_tables(DbBackend::Sqlite, self.context.ledger());
                driver.batch(tables).await.map_err(unstamped)?;
            }
            Look::Stamped { .. } => {
                return Err(Error::new(
                    ErrorKind::NameTaken,
                    format!("`{name}` is there and is no template"),
                ));
            }
        }
        self.places.put(place);
        Ok(())
    }

    /// Removes every generation of the tenant's database that is stamped for this tenant.
    pub(crate) async fn remove_all(&self, tenant: &TenantId) -> Result<()> {
        let wait = self.config.drain_timeout();
        let _revoked = self.handles.revoke(tenant, wait).await?;
        let _lock = self.locks.exclusive(tenant, wait).await?;
        let mut found = Vec::new();
        for (name, generation) in self.names_of(tenant).await? {
            if let Some(database) = self.platform.database(name.as_str()).await? {
                found.push((Place::new(generation, &database), database));
            }
        }
        // All are looked at before any is removed.
        for (place, database) in &found {
            self.require_removable(tenant, place, database).await?;
        }
        for (place, _) in &found {
            self.remove(place).await?;
        }
        Ok(())
    }

    /// Removes a database whose stamp was checked. The server refuses everybody before it is
    /// removed: no write is acknowledged and then lost.
    pub(crate) async fn remove(&self, place: &Place) -> Result<()> {
        let name = place.name.as_str();
        if self.is_still(place).await? {
            match self.platform.configure(name, &blocking(true)).await {
                Err(e) if e.kind() == ErrorKind::TenantNotFound => {}
                fenced => drop(fenced?),
            }
        }
        let removed = self.delete(place).await;
        if removed.is_err()
            && let Err(error) = self.platform.configure(name, &blocking(false)).await
        {
            tracing::warn!(database = name, error = %error.to_chain(), "a database that could not be removed stays blocked");
        }
        removed
    }

    /// Deletes a database, if its name still means it.
    async fn delete(&self, place: &Place) -> Result<()> {
        let name = place.name.as_str();
        self.places.forget(&place.name);
        if self.is_still(place).await? {
            self.platform.delete_database(name).await?;
        }
        self.tokens.forget(name);
        Ok(())
    }

    /// Whether the name still means this database.
    async fn is_still(&self, place: &Place) -> Result<bool> {
        let found = self.platform.database(place.name.as_str()).await?;
        Ok(found.is_some_and(|found| found.id == place.id))
    }

    /// Refuses a database that is not the tenant's. One that nobody was given yet has nothing in it
    /// to lose.
    async fn require_removable(
        &self,
        tenant: &TenantId,
        place: &Place,
        database: &Database,
    ) -> Result<()> {
        let looked = match database.block_reads {
            true => self.look_behind_block(place).await,
            false => self.look_when_ready(place).await,
        };
        match looked {
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

    /// The names that a tenant's databases may have: of its current generation, of those before it,
    /// and of the next, which a restore that died may have left.
    async fn names_of(&self, tenant: &TenantId) -> Result<BTreeSet<(DatabaseName, Generation)>> {
        let current = match self.placement(tenant).await {
            Ok(placement) => placement,
            // Nothing was ever placed, or the row is gone; the first database may still be there.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                Placement::derived(Generation::FIRST)
            }
            Err(e) => return Err(e),
        };
        let derived = (1..=current.generation.next().get()).filter_map(Generation::new);
        let mut names: BTreeSet<_> = derived
            .map(|generation| {
                (self.rules.encode(&self.config.database_prefix, tenant, generation), generation)
            })
            .collect();
        names.insert((self.name(tenant, &current), current.generation));
        Ok(names)
    }
}

pub(crate) fn taken(source: Error) -> Error {
    let message = "a database of that name is there and is not this tenant's";
    Error::new(ErrorKind::NameTaken, message).with_source(source)
}

fn unstamped(error: DbErr) -> Error {
    Error::from_db_err(error, ErrorKind::Unavailable, "the database could not be stamped")
}
