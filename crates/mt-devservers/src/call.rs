//! What was asked, and how often.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::Method;

/// One request, as rules match it and counts tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The name of the database that is meant, as far as it is known: by the path or the body on an
    /// API, by the host on Turso's data plane.
    pub database: Option<String>,
    /// The uuid in the path, on D1.
    pub id: Option<String>,
    /// What kind of request it is, on D1.
    pub(crate) kind: Option<&'static str>,
}

impl Call {
    pub(crate) fn new(method: &Method, path: &str, database: Option<String>) -> Self {
        Self { method: method.to_string(), path: path.to_owned(), database, id: None, kind: None }
    }

    /// Whether the database of this name or uuid is meant.
    pub(crate) fn means(&self, database: &str) -> bool {
        self.database.as_deref() == Some(database) || self.id.as_deref() == Some(database)
    }
}

/// How often each request came. Counted when it arrives, whatever then becomes of it.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    counts: Arc<Mutex<BTreeMap<Call, u64>>>,
    present: Arc<AtomicU64>,
    peak: Arc<AtomicU64>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct Present(Arc<AtomicU64>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Requests {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts().values().sum()
    }

    /// Those that meant `database`; on D1 by its name or its uuid.
    pub fn of(&self, database: &str) -> u64 {
        self.sum(|call| call.means(database))
    }

    /// Those with this method, and with `part` in their path.
    pub fn count(&self, method: &str, part: &str) -> u64 {
        self.sum(|call| call.method == method && call.path.contains(part))
    }

    /// Each kind, with how often it came.
    pub fn all(&self) -> Vec<(Call, u64)> {
        self.counts().iter().map(|(call, count)| (call.clone(), *count)).collect()
    }

    /// How many there were at the same time, at most.
    pub fn most_at_once(&self) -> u64 {
        self.peak.load(Ordering::SeqCst)
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        self.counts().clear();
        self.peak.store(self.present.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Counts one, which is present as long as what is returned.
    pub(crate) fn add(&self, call: &Call) -> Present {
        *self.counts().entry(call.clone()).or_default() += 1;
        let present = self.present.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(present, Ordering::SeqCst);
        Present(Arc::clone(&self.present))
    }

    pub(crate) fn sum(&self, is_meant: impl Fn(&Call) -> bool) -> u64 {
        self.counts().iter().filter(|(call, _)| is_meant(call)).map(|(_, count)| count).sum()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Call, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
