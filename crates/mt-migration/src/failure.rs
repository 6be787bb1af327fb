use std::{error::Error as StdError, io};

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
    #[error("somebody else has held the lock of migrators for minutes")]
    Crowded,
    #[error("the ledger `{ledger}` could not be used")]
    Ledger { ledger: String, source: DbErr },
    #[error("how far the schema is could not be recorded beside the database")]
    Record(#[source] DbErr),
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
    #[error("{verb} {} in one batch failed", quoted(.names))]
    Batch { verb: &'static str, names: Vec<String>, source: DbErr },
    #[error(
        "{verb} migration `{name}` stopped when its transaction ended by itself; a server gives a transaction some seconds only, so one that needs longer should be split, or written as text statements that nothing is read between, which go as one batch"
    )]
    Ended { verb: &'static str, name: String, source: DbErr },
    #[error("the answer to {verb} {} was lost", quoted(.names))]
    Lost { verb: &'static str, names: Vec<String>, source: DbErr },
    #[error("{verb} migration `{name}` panicked: {message}")]
    Panicked { verb: &'static str, name: String, message: String },
    #[error("migration `{name}` does not run on a database that is reached by a driver: {reason}")]
    Refused { name: String, reason: &'static str },
    #[error(
        "dropping table `{table}` would delete or change rows of {}, which refer to it, and foreign keys cannot be switched off here; drop those tables first, or change it with ALTER TABLE",
        quoted(.by)
    )]
    Referenced { table: String, by: Vec<String> },
    #[error("the tables' foreign keys could not be read, which is needed to drop a table")]
    References(#[source] DbErr),
    #[error("the database is not the one that was looked at")]
    Foreign(#[source] Error),
    #[error("other migrators changed the ledger before {} could be done", quoted(.names))]
    Overtaken { names: Vec<String> },
    #[error("no thread could be started to run migrations")]
    Thread(#[source] io::Error),
    #[error("the thread that runs migrations ended before they did")]
    Gone,
}

impl Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Thread(_) | Self::Ended { .. } | Self::Crowded => ErrorKind::Unavailable,
            Self::Begin(source) => match kind_without_answer(source) {
                // A transaction that nobody hears of does nothing.
                None | Some(ErrorKind::OutcomeUnknown) => ErrorKind::Unavailable,
                Some(kind) => kind,
            },
            Self::Pooled | Self::Gone => ErrorKind::Internal,
            Self::Ledger { source, .. } | Self::Record(source) | Self::Migration { source, .. }
                if is_passing(source) =>
            {
                ErrorKind::Unavailable
            }
            Self::Ledger { source, .. }
            | Self::Record(source)
            | Self::Migration { source, .. }
            | Self::Batch { source, .. }
            | Self::References(source) => {
                kind_without_answer(source).unwrap_or(ErrorKind::MigrationFailed)
            }
            Self::Check { .. }
            | Self::Orphans { .. }
            | Self::Panicked { .. }
            | Self::Commit { known: true, .. } => ErrorKind::MigrationFailed,
            Self::Commit { known: false, .. } | Self::Lost { .. } => ErrorKind::OutcomeUnknown,
            Self::Newer { .. } | Self::Refused { .. } | Self::Referenced { .. } => {
                ErrorKind::Unsupported
            }
            Self::Foreign(source) => source.kind(),
            Self::Overtaken { .. } => ErrorKind::Conflict,
        }
    }

    fn into_source(self) -> Option<Box<dyn StdError + Send + Sync>> {
        match self {
            Self::Begin(source)
            | Self::Record(source)
            | Self::Ledger { source, .. }
            | Self::Migration { source, .. }
            | Self::Check { source, .. }
            | Self::Commit { source, .. }
            | Self::Batch { source, .. }
            | Self::Lost { source, .. }
            | Self::Ended { source, .. }
            | Self::References(source) => Some(match Error::in_db_err(&source) {
                // SeaORM's error says nothing more than the one of ours inside it.
                Some(ours) => Box::new(ours.clone()),
                None => Box::new(source),
            }),
            Self::Foreign(source) => Some(Box::new(source)),
            Self::Thread(source) => Some(Box::new(source)),
            Self::Pooled
            | Self::Crowded
            | Self::Orphans { .. }
            | Self::Newer { .. }
            | Self::Panicked { .. }
            | Self::Refused { .. }
            | Self::Referenced { .. }
            | Self::Overtaken { .. }
            | Self::Gone => None,
        }
    }
}

/// Whether it was no fault of the statement: others used what it needs, or the server went away. The
/// transaction that it was in is taken back then.
#[cfg(feature = "postgres")]
fn is_passing(error: &DbErr) -> bool {
    use sea_orm::{RuntimeErr, sqlx::Error};

    let (DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))
    | DbErr::Conn(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    match &**error {
        // `lock_not_available`, `deadlock_detected`, and those of a server that ends or begins
        // (<https://www.postgresql.org/docs/18/errcodes-appendix.html>).
        Error::Database(error) => error.code().is_some_and(|code| {
            ["55P03", "40P01", "57P01", "57P02", "57P03"].contains(&&*code)
                || code.starts_with("08")
        }),
        Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::PoolClosed => true,
        _ => false,
    }
}

#[cfg(not(feature = "postgres"))]
const fn is_passing(_error: &DbErr) -> bool {
    false
}

/// The kind of an error of ours inside SeaORM's that says why a statement was not run: no
/// connection, no right, no room. `None`: the database has answered, whoever reports it.
pub(crate) fn kind_without_answer(error: &DbErr) -> Option<ErrorKind> {
    let kind = Error::in_db_err(error)?.kind();
    (!matches!(kind, ErrorKind::Statement | ErrorKind::Internal)).then_some(kind)
}

/// What stopped a run, and what it left behind.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// A migration that is not one atomic unit had begun to change things.
    pub(crate) stays: bool,
    /// What the run had done by then, in groups of their own.
    pub(crate) earlier: Vec<String>,
}

impl From<Failure> for Error {
    fn from(Failure { fault, stays, earlier }: Failure) -> Self {
        let kind = match fault.kind() {
            ErrorKind::OutcomeUnknown => ErrorKind::OutcomeUnknown,
            // Other kinds promise that nothing was done.
            _ if stays => ErrorKind::MigrationFailed,
            kind => kind,
        };
        let state = match (kind, stays) {
            (ErrorKind::OutcomeUnknown, _) => {
                "whether they are in is unknown; look before repeating"
            }
            (_, true) => {
                "it is not one atomic unit, so what it did stays, and its record is unchanged"
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
