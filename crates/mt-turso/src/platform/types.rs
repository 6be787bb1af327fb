//! What the platform knows and can be told, as it writes it.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::{null_is_default, text_or_number};

/// A database, as the platform describes it.
///
/// What an answer leaves out is `None` or `false`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "the service's own flags, each on its own")]
pub struct Database {
    /// Its name in the organization.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its uuid. A database that was deleted and made again has another one.
    #[serde(rename = "DbId")]
    pub id: String,
    /// Where it is reached. Store it: how it is composed differs between regions.
    #[serde(rename = "Hostname")]
    pub hostname: String,
    /// The group it is in.
    pub group: Option<String>,
    /// What it was branched from.
    pub parent: Option<Parent>,
    /// The region of its primary.
    #[serde(rename = "primaryRegion")]
    pub primary_region: Option<String>,
    /// Whether reads are refused.
    #[serde(default, deserialize_with = "null_is_default")]
    pub block_reads: bool,
    /// Whether writes are refused.
    #[serde(default, deserialize_with = "null_is_default")]
    pub block_writes: bool,
    /// Whether deleting it is refused.
    #[serde(default, deserialize_with = "null_is_default")]
    pub delete_protection: bool,
    /// Whether it sleeps for want of use.
    #[serde(default, deserialize_with = "null_is_default")]
    pub sleeping: bool,
    /// Whether its group is archived; [`unarchive_group`](super::PlatformClient::unarchive_group).
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
    /// The engine's name, such as `libsql`.
    pub database_type: Option<String>,
}

impl Database {
    /// The engine behind it; libSQL where the service does not say.
    pub fn engine(&self) -> Engine {
        match self.database_type.as_deref() {
            None | Some("" | "libsql") => Engine::LibSql,
            Some("tursodb" | "turso") => Engine::Turso,
            Some(_) => Engine::Other,
        }
    }
}

/// Which engine runs a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// libSQL, SQLite's fork: what this crate speaks to.
    LibSql,
    /// Turso, the rewrite of SQLite.
    Turso,
    /// One that is not known here.
    Other,
}

/// What a database was branched from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Parent {
    /// Its uuid.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// When, as the service writes it.
    pub branched_at: Option<String>,
}

/// A database to be made.
///
/// A branch, and a restore to a point in time, are new databases with a [`Seed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made until it is given to `create_database`"]
pub struct CreateDatabase {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) seed: Option<Seed>,
    pub(super) size_limit: Option<String>,
}

impl CreateDatabase {
    /// An empty database `name` in `group`. A name is 1 to 64 of `a-z`, `0-9` and `-`.
    pub fn new(name: impl Into<String>, group: impl Into<String>) -> Self {
        Self { name: name.into(), group: group.into(), seed: None, size_limit: None }
    }

    /// Fills it from `seed`. Default: it is empty.
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Lets it grow to `size` at most, as the service writes it: `256mb`, `10gb`. Default: as the
    /// plan allows.
    pub fn with_size_limit(mut self, size: impl Into<String>) -> Self {
        self.size_limit = Some(size.into());
        self
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "group": self.group });
        if let Some(seed) = &self.seed {
            body["seed"] = seed.body();
        }
        if let Some(size) = &self.size_limit {
            body["size_limit"] = json!(size);
        }
        body
    }
}

/// What a new database starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seed {
    /// The content of another database of the organization.
    Database {
        /// Its name.
        name: String,
        /// As it was then, within what the plan keeps (a day to 90 days); `None`: as it is.
        timestamp: Option<DateTime<Utc>>,
    },
    /// A file that [`upload`](super::PlatformClient::upload) will bring.
    Upload,
}

impl Seed {
    /// What the database `name` holds now.
    pub fn database(name: impl Into<String>) -> Self {
        Self::Database { name: name.into(), timestamp: None }
    }

    /// What the database `name` held at `time`.
    pub fn point_in_time(name: impl Into<String>, time: DateTime<Utc>) -> Self {
        Self::Database { name: name.into(), timestamp: Some(time) }
    }

    fn body(&self) -> Value {
        match self {
            Self::Database { name, timestamp: None } => json!({ "type": "database", "name": name }),
            Self::Database { name, timestamp: Some(time) } => json!({
                "type": "database",
                "name": name,
                "timestamp": time.to_rfc3339_opts(SecondsFormat::Millis, true),
            }),
            Self::Upload => json!({ "type": "database_upload" }),
        }
    }
}

/// What became of a [`CreateDatabase`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Creation {
    /// The database. Of one that was just made the service tells name, id and host name, no more.
    pub database: Database,
    /// Whether it was made now. `false`: it was there, in the group asked for, from before or by a
    /// request whose answer was lost.
    pub created: bool,
}

/// Which databases are listed. Default: all of the organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "nothing is listed until it is given to `databases`"]
pub struct DatabaseFilter {
    pub(super) group: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) prefix: String,
}

impl DatabaseFilter {
    /// Those in `group`.
    pub fn with_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Those branched from the database with this uuid.
    pub fn with_parent(mut self, id: impl Into<String>) -> Self {
        self.parent = Some(id.into());
        self
    }

    /// Those whose name begins so. The service does not know this one: all are transferred.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A service that does not know a filter leaves it out, so each database is looked at.
    pub(super) fn matches(&self, database: &Database) -> bool {
        let parent = database.parent.as_ref().and_then(|parent| parent.id.as_deref());
        let group = database.group.as_deref();
        database.name.starts_with(&self.prefix)
            && (self.group.is_none() || group.is_none() || group == self.group.as_deref())
            && (self.parent.is_none() || parent.is_none() || parent == self.parent.as_deref())
    }
}

/// The settings of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Configuration {
    /// The most it may grow to, as the service writes it; `None`: as the plan allows.
    #[serde(deserialize_with = "text_or_number")]
    pub size_limit: Option<String>,
    /// Whether reads are refused.
    #[serde(deserialize_with = "null_is_default")]
    pub block_reads: bool,
    /// Whether writes are refused.
    #[serde(deserialize_with = "null_is_default")]
    pub block_writes: bool,
    /// Whether deleting it is refused.
    #[serde(deserialize_with = "null_is_default")]
    pub delete_protection: bool,
}

/// Settings to be changed. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use = "nothing is changed until it is given to `configure`"]
pub struct ConfigurationChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    size_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_reads: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_writes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_protection: Option<bool>,
}

impl ConfigurationChange {
    /// Blocks reads and writes, or neither.
    pub fn block(block: bool) -> Self {
        Self::default().with_block_reads(block).with_block_writes(block)
    }

    /// The most it may grow to, as the service writes it: `256mb`, `10gb`.
    pub fn with_size_limit(mut self, size: impl Into<String>) -> Self {
        self.size_limit = Some(size.into());
        self
    }

    /// Whether reads are refused.
    pub const fn with_block_reads(mut self, block: bool) -> Self {
        self.block_reads = Some(block);
        self
    }

    /// Whether writes are refused.
    pub const fn with_block_writes(mut self, block: bool) -> Self {
        self.block_writes = Some(block);
        self
    }

    /// Whether deleting it is refused.
    pub const fn with_delete_protection(mut self, protect: bool) -> Self {
        self.delete_protection = Some(protect);
        self
    }
}

/// What a database was used for in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Rows that statements looked at.
    pub rows_read: u64,
    /// Rows that statements wrote.
    pub rows_written: u64,
    /// Room it takes, in bytes.
    pub storage_bytes: u64,
    /// What replicas fetched, in bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub bytes_synced: u64,
}

/// One copy of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its uuid.
    pub uuid: String,
    /// Its name, which is the region's.
    pub name: Option<String>,
    /// `primary` or `replica`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where it is.
    pub region: Option<String>,
    /// Where it alone is reached.
    pub hostname: Option<String>,
}

/// A group: databases that live in the same place and may share a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// Its name in the organization.
    pub name: String,
    /// Its uuid.
    pub uuid: Option<String>,
    /// The region of its primaries.
    pub primary: Option<String>,
    /// All its regions.
    #[serde(default, deserialize_with = "null_is_default")]
    pub locations: Vec<String>,
    /// Whether it sleeps for want of use; nothing in it can be reached or made.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
    /// Whether deleting it is refused.
    #[serde(default, deserialize_with = "null_is_default")]
    pub delete_protection: bool,
}

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenScope<'n> {
    /// One database, by its name.
    Database(&'n str),
    /// Every database of a group, also those that are made later.
    Group(&'n str),
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authorization {
    /// Reading and writing.
    FullAccess,
    /// Reading; the engine refuses the rest.
    ReadOnly,
}

impl Authorization {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::FullAccess => "full-access",
            Self::ReadOnly => "read-only",
        }
    }
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// This long, rounded up to whole minutes: the service counts in no smaller unit.
    After(Duration),
    /// Until the keys are rotated.
    Never,
}

impl fmt::Display for Expiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::After(duration) = self else { return f.write_str("never") };
        let minutes = duration.as_secs().div_ceil(60).max(1);
        let parts = [
            (minutes / (7 * 24 * 60), 'w'),
            (minutes / (24 * 60) % 7, 'd'),
            (minutes / 60 % 24, 'h'),
            (minutes % 60, 'm'),
        ];
        parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_written_in_the_services_units() {
        let after = |seconds| Expiration::After(Duration::from_secs(seconds)).to_string();
        assert_eq!(after(0), "1m");
        assert_eq!(after(61), "2m");
        assert_eq!(after(3600), "1h");
        assert_eq!(after(15 * 86_400 + 30 * 60), "2w1d30m");
        assert_eq!(Expiration::Never.to_string(), "never");
    }

    #[test]
    fn only_what_is_asked_is_sent() {
        let plain = CreateDatabase::new("a", "g");
        assert_eq!(plain.body(), json!({ "name": "a", "group": "g" }));
        let timestamp = DateTime::from_timestamp_millis(1_753_600_000_123);
        let seeded = plain.with_seed(Seed::Database { name: "t".into(), timestamp });
        assert_eq!(
            seeded.with_size_limit("256mb").body(),
            json!({
                "name": "a",
                "group": "g",
                "seed": { "type": "database", "name": "t", "timestamp": "2025-07-27T07:06:40.123Z" },
                "size_limit": "256mb",
            })
        );
        let change = ConfigurationChange::default().with_block_reads(false);
        assert_eq!(serde_json::to_value(change).unwrap(), json!({ "block_reads": false }));
    }
}
