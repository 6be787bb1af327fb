//! What was asked, and how often.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::Method;

/// One request, as rules match it and counts tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// Which database is meant: by the path or the body on the API, by the host on the data plane.
    pub database: Option<String>,
}

impl Call {
    pub(crate) fn new(method: &Method, path: &str, database: Option<String>) -> Self {
        Self { method: method.to_string(), path: path.to_owned(), database }
    }
}

/// How often each request came. Counted when it arrives, whatever then becomes of it.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    counts: Arc<Mutex<BTreeMap<Call, u64>>>,
}

impl Requests {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts().values().sum()
    }

    /// Those that meant `database`.
    pub fn of(&self, database: &str) -> u64 {
        self.sum(|call| call.database.as_deref() == Some(database))
    }

    /// Those with this method, and with `part` in their path.
    pub fn count(&self, method: &str, part: &str) -> u64 {
        self.sum(|call| call.method == method && call.path.contains(part))
    }

    /// Each kind, with how often it came.
    pub fn all(&self) -> Vec<(Call, u64)> {
        self.counts().iter().map(|(call, count)| (call.clone(), *count)).collect()
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        self.counts().clear();
    }

    pub(crate) fn add(&self, call: &Call) {
        *self.counts().entry(call.clone()).or_default() += 1;
    }

    fn sum(&self, is_meant: impl Fn(&Call) -> bool) -> u64 {
        self.counts().iter().filter(|(call, _)| is_meant(call)).map(|(_, count)| count).sum()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Call, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
