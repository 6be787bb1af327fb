//! Where a tenant's database is, and the tokens that open it.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use lru::LruCache;
use mt_core::{DatabaseName, Generation, Placement, Result, Secret};

use crate::{
    hrana::Access,
    platform::{Authorization, Database, PlatformClient},
    tokens::{Tokens, made_anew},
};

const HOSTNAME: &str = "hostname";
const DATABASE_ID: &str = "database_id";
/// The id of a database that a restore has made and not switched to yet. Until its copy has arrived
/// there is no stamp in it, and nothing else says whose it is.
const ARRIVING_ID: &str = "arriving_database_id";

/// A database as the service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: DatabaseName,
    pub(crate) generation: Generation,
    /// As the service gave it: it is not to be built from the name.
    pub(crate) hostname: String,
    /// Tells a database from another that was made under its name later.
    pub(crate) id: String,
}

impl Place {
    pub(crate) fn new(generation: Generation, database: &Database) -> Self {
        Self {
            name: DatabaseName::from_stored(&database.name),
            generation,
            hostname: database.hostname.clone(),
            id: database.id.clone(),
        }
    }

    /// The place that a store remembers, if it remembers all of it.
    pub(crate) fn remembered(name: &DatabaseName, placement: &Placement) -> Option<Self> {
        Some(Self {
            name: name.clone(),
            generation: placement.generation,
            hostname: placement.attributes.get(HOSTNAME)?.clone(),
            id: placement.attributes.get(DATABASE_ID)?.clone(),
        })
    }

    /// What a store is to remember.
    pub(crate) fn to_placement(&self, before: &Placement) -> Placement {
        let mut placement = Placement::derived(self.generation);
        placement.secret.clone_from(&before.secret);
        placement.database = Some(self.name.clone());
        placement.attributes = BTreeMap::from([
            (HOSTNAME.to_owned(), self.hostname.clone()),
            (DATABASE_ID.to_owned(), self.id.clone()),
        ]);
        placement
    }

    /// What a store is to remember while a restore fills this one: `before`, and that it is ours.
    pub(crate) fn to_arriving(&self, before: &Placement) -> Placement {
        let mut placement = before.clone();
        placement.attributes.insert(ARRIVING_ID.to_owned(), self.id.clone());
        placement
    }

    /// Whether a restore made it for the tenant of `placement`.
    pub(crate) fn is_arriving(&self, placement: &Placement) -> bool {
        placement.attributes.get(ARRIVING_ID) == Some(&self.id)
    }
}

/// The places that no store remembers.
#[derive(Debug)]
pub(crate) struct Places(Mutex<LruCache<DatabaseName, Place>>);

/// As many as tenants in one process that the design has in mind.
const PLACES: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not 0");

impl Default for Places {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(PLACES)))
    }
}

impl Places {
    pub(crate) fn get(&self, name: &DatabaseName) -> Option<Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn put(&self, place: Place) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.put(place.name.clone(), place);
    }

    pub(crate) fn forget(&self, name: &DatabaseName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(name);
    }
}

/// What opens one database, for one purpose.
pub(crate) struct Keys {
    platform: PlatformClient,
    tokens: Arc<Tokens>,
    place: Place,
    authorization: Authorization,
}

impl Keys {
    pub(crate) const fn new(
        platform: PlatformClient,
        tokens: Arc<Tokens>,
        place: Place,
        authorization: Authorization,
    ) -> Self {
        Self { platform, tokens, place, authorization }
    }
}

#[async_trait]
impl Access for Keys {
    async fn token(&self) -> Result<Secret> {
        let Place { name, id, .. } = &self.place;
        self.tokens.get(name.as_str(), id, self.authorization).await
    }

    fn refused(&self, token: &Secret) -> bool {
        let Place { name, id, .. } = &self.place;
        self.tokens.refused(name.as_str(), id, self.authorization, token)
    }

    async fn exists(&self) -> Result<bool> {
        let name = self.place.name.as_str();
        match self.platform.database(name).await? {
            None => Ok(false),
            Some(found) if found.id == self.place.id => Ok(true),
            Some(_) => Err(made_anew(name)),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("database", &self.place.name)
            .field("authorization", &self.authorization)
            .finish_non_exhaustive()
    }
}
