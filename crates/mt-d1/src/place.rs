//! Where a tenant's database is.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use lru::LruCache;
use mt_core::{DatabaseName, Error, ErrorKind, Generation, Placement, Result};
use tokio::time::Instant;

use crate::{
    NAME,
    api::{D1Client, Database},
};

const UUID: &str = "uuid";
/// The uuid of a database that a restore has made and not switched to yet. Until its copy has
/// arrived there is no stamp in it, and nothing else says whose it is.
const ARRIVING_UUID: &str = "arriving_uuid";
/// The state before the latest maintenance, and when it was.
const BOOKMARK: &str = "bookmark";
const BOOKMARK_AT: &str = "bookmark_at";

/// A database as the service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: DatabaseName,
    pub(crate) generation: Generation,
    /// Tells a database from another that was made under its name later. Requests go to it.
    pub(crate) uuid: Arc<str>,
}

impl Place {
    pub(crate) fn new(generation: Generation, database: &Database) -> Self {
        Self {
            name: DatabaseName::from_stored(&database.name),
            generation,
            uuid: database.uuid.as_str().into(),
        }
    }

    /// The place that a store remembers, if it remembers all of it.
    pub(crate) fn remembered(name: &DatabaseName, placement: &Placement) -> Option<Self> {
        let uuid = placement.attributes.get(UUID)?.as_str().into();
        Some(Self { name: name.clone(), generation: placement.generation, uuid })
    }

    /// The ids of all databases that `placement` remembers as the tenant's.
    pub(crate) fn remembered_ids(placement: &Placement) -> impl Iterator<Item = Arc<str>> {
        [UUID, ARRIVING_UUID]
            .into_iter()
            .filter_map(|key| placement.attributes.get(key))
            .map(|uuid| uuid.as_str().into())
    }

    /// What a store is to remember. What it knew of this same database stays.
    pub(crate) fn to_placement(&self, before: &Placement) -> Placement {
        let mut placement = Placement::derived(self.generation);
        placement.secret.clone_from(&before.secret);
        placement.database = Some(self.name.clone());
        if before.attributes.get(UUID).is_some_and(|uuid| **uuid == *self.uuid) {
            placement.attributes.clone_from(&before.attributes);
        } else {
            placement.attributes = BTreeMap::from([(UUID.to_owned(), self.uuid.to_string())]);
        }
        placement
    }

    /// What a store is to remember of the state before a change: `before`, with the bookmark.
    pub(crate) fn to_bookmarked(
        &self,
        before: &Placement,
        bookmark: String,
        at: String,
    ) -> Placement {
        let mut placement = self.to_placement(before);
        let bookmark = [(BOOKMARK.to_owned(), bookmark), (BOOKMARK_AT.to_owned(), at)];
        placement.attributes.extend(bookmark);
        placement
    }

    /// What a store is to remember while a restore fills this one: `before`, and that it is ours.
    pub(crate) fn to_arriving(&self, before: &Placement) -> Placement {
        let mut placement = before.clone();
        placement.attributes.insert(ARRIVING_UUID.to_owned(), self.uuid.to_string());
        placement
    }

    /// Whether a restore made it for the tenant of `placement`.
    pub(crate) fn is_arriving(&self, placement: &Placement) -> bool {
        placement.attributes.get(ARRIVING_UUID).is_some_and(|uuid| **uuid == *self.uuid)
    }
}

/// Who knows which database has a name.
#[async_trait]
pub(crate) trait Directory: Send + Sync + 'static {
    async fn uuid_of(&self, name: &str) -> Result<Option<String>>;
}

#[async_trait]
impl Directory for D1Client {
    async fn uuid_of(&self, name: &str) -> Result<Option<String>> {
        Ok(self.database_by_name(name).await?.map(|database| database.uuid))
    }
}

/// The databases that no store remembers, found by their names and kept.
///
/// Many callers of one name cause one look-up and share its outcome. It runs on its own, so a
/// caller that gives up does not cancel it for the others. A failure is not kept.
pub(crate) struct Places(Arc<Inner>);

struct Inner {
    directory: Arc<dyn Directory>,
    known: Mutex<Known>,
}

struct Known {
    found: LruCache<DatabaseName, Finding>,
    asking: HashMap<DatabaseName, Asking>,
    /// How many look-ups there have been, so that one is told from the next.
    asked: u64,
}

#[derive(Clone)]
enum Finding {
    There {
        uuid: Arc<str>,
        /// This process has found the tenant's stamp in it.
        checked: bool,
    },
    /// Nothing has this name; asked again after this time.
    Missing(Instant),
}

/// A look-up that is under way.
struct Asking {
    outcome: Outcome,
    number: u64,
}

/// What everybody waits for.
type Outcome = Shared<BoxFuture<'static, Result<Option<Arc<str>>>>>;

/// As many as tenants in one process that the design has in mind.
const PLACES: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not 0");

/// How long a name that nothing has is not asked for again: a tenant that is not there must not
/// cost a request of the token's four a second each time somebody asks for it. Only where no store
/// tells that it was made meanwhile.
const MISSING: Duration = Duration::from_secs(2);

impl Places {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        let found = LruCache::new(PLACES);
        let known = Known { found, asking: HashMap::new(), asked: 0 };
        Self(Arc::new(Inner { directory, known: Mutex::new(known) }))
    }

    /// The uuid that is kept of `name`.
    pub(crate) fn get(&self, name: &DatabaseName) -> Option<Arc<str>> {
        match self.0.lock().found.get(name) {
            Some(Finding::There { uuid, .. }) => Some(Arc::clone(uuid)),
            Some(Finding::Missing(_)) | None => None,
        }
    }

    /// The uuid of `name`: the one that is kept, or what the service says.
    pub(crate) async fn find(&self, name: &DatabaseName) -> Result<Option<Arc<str>>> {
        match self.0.find_or_ask(name) {
            Ok(found) => Ok(found),
            Err(outcome) => outcome.await,
        }
    }

    pub(crate) fn put(&self, place: &Place) {
        let mut known = self.0.lock();
        // What is being asked for was asked before this was known.
        known.asking.remove(&place.name);
        let finding = Finding::There { uuid: Arc::clone(&place.uuid), checked: false };
        known.found.put(place.name.clone(), finding);
    }

    /// Notes that the stamp in `place` was found to be its tenant's, if `place` is what is kept.
    pub(crate) fn note_checked(&self, place: &Place) {
        if let Some(Finding::There { uuid, checked }) = self.0.lock().found.get_mut(&place.name)
            && *uuid == place.uuid
        {
            *checked = true;
        }
    }

    /// Whether `place` is what is kept, and its stamp was found to be its tenant's.
    pub(crate) fn was_checked(&self, place: &Place) -> bool {
        matches!(
            self.0.lock().found.get(&place.name),
            Some(Finding::There { uuid, checked: true }) if *uuid == place.uuid
        )
    }

    pub(crate) fn forget(&self, name: &DatabaseName) {
        let mut known = self.0.lock();
        known.asking.remove(name);
        known.found.pop(name);
    }

    /// Forgets a database that is gone, unless the name is known to be another's already.
    pub(crate) fn forget_gone(&self, place: &Place) {
        let mut known = self.0.lock();
        if let Some(Finding::There { uuid, .. }) = known.found.peek(&place.name)
            && *uuid == place.uuid
        {
            known.found.pop(&place.name);
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept, or the look-up that everybody waits for.
    fn find_or_ask(self: &Arc<Self>, name: &DatabaseName) -> Result<Option<Arc<str>>, Outcome> {
        let mut known = self.lock();
        match known.found.get(name) {
            Some(Finding::There { uuid, .. }) => return Ok(Some(Arc::clone(uuid))),
            Some(Finding::Missing(until)) if Instant::now() < *until => return Ok(None),
            Some(Finding::Missing(_)) | None => {}
        }
        if let Some(asking) = known.asking.get(name) {
            return Err(asking.outcome.clone());
        }
        known.asked += 1;
        let number = known.asked;
        let outcome = self.ask(name.clone(), number);
        known.asking.insert(name.clone(), Asking { outcome: outcome.clone(), number });
        Err(outcome)
    }

    /// Asks in a task of its own, so that no caller can cancel it for the others.
    fn ask(self: &Arc<Self>, name: DatabaseName, number: u64) -> Outcome {
        let task = tokio::spawn({
            let (places, name) = (Arc::clone(self), name.clone());
            async move {
                let outcome = places.directory.uuid_of(name.as_str()).await;
                let outcome = outcome.map(|uuid| uuid.map(Arc::<str>::from));
                places.settle(&name, number, &outcome);
                outcome
            }
        });
        // Weak: what waits for an outcome must not keep the places alive.
        let places = Arc::downgrade(self);
        let outcome = async move {
            task.await.unwrap_or_else(|e| {
                let error = Err(Error::new(ErrorKind::Internal, "a look-up was interrupted")
                    .with_provider(NAME)
                    .with_source(e));
                if let Some(places) = places.upgrade() {
                    places.settle(&name, number, &error);
                }
                error
            })
        };
        outcome.boxed().shared()
    }

    /// Keeps the outcome of look-up `number`, unless the name was forgotten or told since: then
    /// those who waited may use it, and nobody after them.
    fn settle(&self, name: &DatabaseName, number: u64, outcome: &Result<Option<Arc<str>>>) {
        let mut known = self.lock();
        if known.asking.get(name).is_none_or(|asking| asking.number != number) {
            return;
        }
        known.asking.remove(name);
        let finding = match outcome {
            Ok(Some(uuid)) => Finding::There { uuid: Arc::clone(uuid), checked: false },
            Ok(None) => Finding::Missing(Instant::now() + MISSING),
            Err(_) => return,
        };
        known.found.put(name.clone(), finding);
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("kept", &self.0.lock().found.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
