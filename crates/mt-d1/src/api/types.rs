//! What the service knows and can be told.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A database as the service tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Database {
    /// Its id, which another of the same name never has.
    pub uuid: String,
    /// Its name, unique in the account at a time.
    pub name: String,
    /// How much it takes up, in bytes, where it is told.
    pub file_size: Option<u64>,
}

/// What a new database is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CreateDatabase {
    /// Its name.
    pub name: String,
    /// Where its data must stay (`eu`, `fedramp`, `us`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Where it should be (`wnam`, `enam`, `weur`, `eeur`, `apac`, `oc`). The service looks at it
    /// only where there is no jurisdiction.
    #[serde(rename = "primary_location_hint", skip_serializing_if = "Option::is_none")]
    pub location_hint: Option<String>,
}

impl CreateDatabase {
    /// A database `name`, wherever the service puts it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), jurisdiction: None, location_hint: None }
    }

    /// Keeps its data in `jurisdiction`.
    #[must_use]
    pub fn with_jurisdiction(mut self, jurisdiction: Option<String>) -> Self {
        self.jurisdiction = jurisdiction;
        self
    }

    /// Asks for a place near `hint`.
    #[must_use]
    pub fn with_location_hint(mut self, hint: Option<String>) -> Self {
        self.location_hint = hint;
        self
    }
}

/// What became of a request to make a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It was made by this request.
    Created(Database),
    /// One of that name is there: another's, an earlier one's, or of this request whose answer was
    /// lost.
    Exists(Database),
}

/// A state of a database that the service can go back to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Bookmark(pub String);

/// A point to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointInTime {
    /// The state of a bookmark.
    Bookmark(Bookmark),
    /// The state at or right before this time.
    Timestamp(DateTime<Utc>),
}
