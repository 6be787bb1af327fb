use mt_core::{Error, ErrorKind};
use sea_orm::DbErr;

/// What stopped a group of migrations.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the migrating transaction could not be begun")]
    Begin(#[source] DbErr),
    #[error(
        "the connection for changing the schema keeps foreign keys on; it must be a single connection"
    )]
    Pooled,
    #[error("the ledger `{ledger}` could not be used")]
    Ledger { ledger: String, source: DbErr },
    #[error("{verb} migration `{name}` failed")]
    Migration { verb: &'static str, name: String, source: DbErr },
    #[error("foreign keys could not be checked after {}", quoted(.names))]
    Check { names: Vec<String>, source: DbErr },
    #[error("{} left rows without their parent in {}", quoted(.names), quoted(.tables))]
    Orphans { names: Vec<String>, tables: Vec<String> },
    #[error("{} could not be committed", quoted(.names))]
    Commit { names: Vec<String>, source: DbErr, known: bool },
    #[error("{} cannot be rolled back: a newer program applied {} after it", quoted(.names), quoted(.newer))]
    Newer { names: Vec<String>, newer: Vec<String> },
}

impl Fault {
    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Begin(_) => ErrorKind::Unavailable,
            Self::Pooled => ErrorKind::Internal,
            Self::Ledger { .. }
            | Self::Migration { .. }
            | Self::Check { .. }
            | Self::Orphans { .. }
            | Self::Commit { known: true, .. } => ErrorKind::MigrationFailed,
            Self::Commit { known: false, .. } => ErrorKind::OutcomeUnknown,
            Self::Newer { .. } => ErrorKind::Unsupported,
        }
    }

    fn into_source(self) -> Option<DbErr> {
        match self {
            Self::Begin(source)
            | Self::Ledger { source, .. }
            | Self::Migration { source, .. }
            | Self::Check { source, .. }
            | Self::Commit { source, .. } => Some(source),
            Self::Pooled | Self::Orphans { .. } | Self::Newer { .. } => None,
        }
    }
}

/// What stopped a run, and what it left behind.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The group ran outside of a transaction and had begun to change things.
    pub(crate) stays: bool,
    /// What the run had done by then, in groups of their own.
    pub(crate) earlier: Vec<String>,
}

impl From<Failure> for Error {
    fn from(Failure { fault, stays, earlier }: Failure) -> Self {
        let kind = fault.kind();
        let state = match (kind, stays) {
            (ErrorKind::OutcomeUnknown, _) => {
                "whether they are in is unknown; look before repeating"
            }
            (_, true) => {
                "it runs outside of a transaction, so what it did stays, and its record is unchanged"
            }
            (_, false) if earlier.is_empty() => "the database is as it was",
            (_, false) => "what its transaction did is taken back",
        };
        let message = format!("{fault}; {state}{}", kept(&earlier));
        let error = Self::new(kind, message);
        match fault.into_source() {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// What remains of a run that stopped after `earlier`, for the end of a message.
pub(crate) fn kept(earlier: &[String]) -> String {
    if earlier.is_empty() {
        String::new()
    } else {
        format!("; done before that and kept: {}", quoted(earlier))
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
