use mt_core::{DatabaseInfo, TenantId};
use serde::Serialize;

/// How far a database's schema is, seen from the migrations this program knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SchemaStatus {
    /// Known and applied, in the order in which they are applied.
    pub applied: Vec<String>,
    /// Known and not applied, in the order in which they will be.
    pub pending: Vec<String>,
    /// Applied and not known: a newer program did it. Ascending.
    pub unknown: Vec<String>,
    /// The greatest applied name, known or not; what
    /// [`DataAdapters::schema_version`](mt_core::DataAdapters::schema_version) tells.
    pub schema_version: Option<String>,
    /// What it was read from, if it was read from a database.
    #[serde(skip)]
    pub(crate) seen: Option<DatabaseInfo>,
}

impl SchemaStatus {
    pub(crate) fn new(known: &[String], applied: &[String]) -> Self {
        let (done, pending) = known.iter().cloned().partition(|name| applied.contains(name));
        let mut unknown: Vec<String> =
            applied.iter().filter(|name| !known.contains(name)).cloned().collect();
        unknown.sort_unstable();
        let schema_version = applied.iter().max().cloned();
        Self { applied: done, pending, unknown, schema_version, seen: None }
    }

    /// The status of the database that `info` tells of.
    pub(crate) fn of(known: &[String], info: &DatabaseInfo) -> Self {
        Self { seen: Some(info.clone()), ..Self::new(known, &info.applied) }
    }

    /// Every name in the ledger.
    pub(crate) fn ledger(&self) -> Vec<String> {
        self.applied.iter().chain(&self.unknown).cloned().collect()
    }

    /// Whether nothing is pending. What a newer program applied does not count against it.
    pub const fn is_current(&self) -> bool {
        self.pending.is_empty()
    }
}

/// What a run did to one tenant's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The tenant.
    pub tenant: TenantId,
    /// The migrations this run applied or rolled back, in the order in which it did. What another
    /// migrator was faster with is not among them.
    pub ran: Vec<String>,
    /// Those of `ran` that were not one atomic unit with their record: they opted out of
    /// transactions, or, on a database that is reached by a driver without transactions, they asked
    /// for an answer that depends on what they had written. Had they failed half way, half would have stayed.
    pub not_atomic: Vec<String>,
    /// The greatest applied name afterwards.
    pub schema_version: Option<String>,
}
