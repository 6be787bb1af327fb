use std::{io, process::ExitStatus};

use mt_core::{ErrorKind, TenantId};
use sqlx::error::Error as Sqlx;

use crate::{NAME, child::Told};

/// What goes wrong in here, one variant per cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action}{}", advice(action, source))]
    Server {
        action: &'static str,
        #[source]
        source: Sqlx,
    },
    #[error("the server is PostgreSQL {0}, expected {OLDEST} or newer")]
    Old(u32),
    #[error("there is no database `{0}`")]
    NoDatabase(String),
    #[error("the server crashed and lost the database that was being made; try again")]
    Lost,
    #[error("the database `{0}` is in use; nothing was removed")]
    InUse(String),
    #[error(
        "somebody else is replacing, removing or opening {0}'s database and took too long; try again"
    )]
    Busy(TenantId),
    #[error(
        "the database `{0}` takes no connections: it is being removed or replaced, or whoever did that is gone; `activate` opens it"
    )]
    Closed(String),
    #[error(
        "the database `{0}` was being dropped when that was cut off; what is left of it can only be dropped, which `deprovision` does"
    )]
    HalfDropped(String),
    #[error(
        "the database `{database}` is there and is not this tenant's: {why}; rename it, or drop it"
    )]
    Taken { database: String, why: &'static str },
    #[error("the database `{database}` carries no stamp: {why}; it is not served")]
    NoStamp { database: String, why: &'static str },
    #[error(
        "the database `{0}` has a template's name, and its comment does not say that it is one; drop it, and `provision` makes another"
    )]
    NoTemplate(String),
    #[error(
        "too many databases are looked into or migrated at once, and none was done with for a minute"
    )]
    Crowded,
    #[error("the comment of a database cannot be written")]
    Comment(#[from] serde_json::Error),
    #[error("the tenant's database changed while the copy was on its way; nothing was replaced")]
    Changed,
    #[error("cannot run `{name}`")]
    Start { name: &'static str, source: io::Error },
    #[error("`{name}` failed ({status})")]
    Program { name: &'static str, status: ExitStatus, kind: ErrorKind, source: Told },
    #[error("cannot prepare a folder for PostgreSQL's programs")]
    Surroundings(#[source] io::Error),
    #[error("cannot talk to PostgreSQL's programs")]
    Pipe(#[source] io::Error),
    #[error("cannot write the copy to its destination")]
    Sink(#[source] io::Error),
    #[error("cannot read the copy from its source")]
    Source(#[source] io::Error),
    #[error("the copy is not what its manifest says: {0}")]
    Damaged(String),
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn server(action: &'static str) -> impl FnOnce(Sqlx) -> Self {
        move |source| Self::Server { action, source }
    }

    /// The server's code of what is wrong, where it was the server that said so.
    pub(crate) fn code(&self) -> Option<String> {
        match self {
            Self::Server { source: Sqlx::Database(error), .. } => {
                error.code().map(std::borrow::Cow::into_owned)
            }
            _ => None,
        }
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.code().as_deref() == Some(code)
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { action, source } => kind_of(action, source),
            Self::Old(_) => ErrorKind::Unsupported,
            Self::NoDatabase(_) | Self::HalfDropped(_) => ErrorKind::TenantNotFound,
            Self::InUse(_) | Self::Closed(_) | Self::Busy(_) => ErrorKind::InUse,
            Self::Taken { .. } | Self::NoTemplate(_) => ErrorKind::NameTaken,
            Self::NoStamp { .. } => ErrorKind::ForeignDatabase,
            Self::Crowded | Self::Lost => ErrorKind::Unavailable,
            Self::Changed => ErrorKind::Conflict,
            Self::Start { .. } => ErrorKind::Config,
            Self::Program { kind, .. } => *kind,
            Self::Sink(source) | Self::Surroundings(source) if is_full(source) => {
                ErrorKind::QuotaExceeded
            }
            Self::Surroundings(_) => ErrorKind::Config,
            Self::Sink(_) | Self::Source(_) => ErrorKind::Unavailable,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Comment(_) | Self::Pipe(_) | Self::Task(_) => ErrorKind::Internal,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    let full =
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    full.contains(&error.kind())
}

/// The oldest server that makes a copy of a database without forcing checkpoints.
pub(crate) const OLDEST: u32 = 15;

/// What is done when a role is let into a database, or not.
pub(crate) const CONNECT: &str = "connect to the tenant's database";

/// There is a database of that name; and what one of two hears who give it at the same moment.
pub(crate) const DUPLICATE_DATABASE: [&str; 2] = ["42P04", "23505"];
/// Somebody is connected to it.
pub(crate) const OBJECT_IN_USE: &str = "55006";
/// There is no table of that name.
pub(crate) const NO_TABLE: &str = "42P01";
/// It was waited for as long as was allowed.
pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Its state forbids that: such as of a database that is being dropped.
pub(crate) const WRONG_STATE: &str = "55000";
/// There is no role of that name.
pub(crate) const NO_ROLE: &str = "42704";
/// There is none.
pub(crate) const NO_DATABASE: &str = "3D000";

/// By the server's code (<https://www.postgresql.org/docs/18/errcodes-appendix.html>).
fn kind_of(action: &str, error: &Sqlx) -> ErrorKind {
    let Sqlx::Database(error) = error else {
        return match error {
            Sqlx::Configuration(_) | Sqlx::Tls(_) => ErrorKind::Config,
            // What is no answer comes of a server that ends while it is spoken to.
            Sqlx::Io(_)
            | Sqlx::Protocol(_)
            | Sqlx::PoolTimedOut
            | Sqlx::PoolClosed
            | Sqlx::WorkerCrashed => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        };
    };
    let code = error.code().unwrap_or_default();
    match &*code {
        NO_DATABASE => ErrorKind::TenantNotFound,
        // Of a connection it is the database's, which the tenant's roles may not enter.
        "42501" if action == CONNECT => ErrorKind::TenantNotActive,
        "42501" => ErrorKind::Config,
        "28000" | "28P01" => ErrorKind::Unauthenticated,
        WRONG_STATE | OBJECT_IN_USE => ErrorKind::InUse,
        code if DUPLICATE_DATABASE.contains(&code) => ErrorKind::NameTaken,
        "53100" => ErrorKind::QuotaExceeded,
        "57P01" | "57P02" | "57P03" | "57P05" | "57014" | LOCK_NOT_AVAILABLE => {
            ErrorKind::Unavailable
        }
        // A server that only reads is not the one that is to be administered: it may become it.
        "25006" | "25P03" => ErrorKind::Unavailable,
        code if ["08", "40", "53"].iter().any(|class| code.starts_with(class)) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

/// What to do where the server's own words do not say it.
fn advice(action: &str, source: &Sqlx) -> &'static str {
    let code = match source {
        Sqlx::PoolTimedOut => {
            return "; nobody answered in time at the address in `admin_url`, or all connections to it were in use";
        }
        Sqlx::Database(error) => error.code().unwrap_or_default(),
        _ => return "",
    };
    match &*code {
        "28000" | "28P01" if action == CONNECT => {
            "; `role_secret` is not the one with which the tenant's roles were made, or they were changed: mend it, or `activate` the tenant, which gives its roles the passwords of this one"
        }
        "28000" | "28P01" => "; mend `admin_url`",
        "42501" if action != CONNECT => {
            "; the role in `admin_url` needs CREATEDB and CREATEROLE, and to have made the tenant's roles"
        }
        _ => "",
    }
}

impl From<Error> for mt_core::Error {
    fn from(cause: Error) -> Self {
        let error = Self::new(cause.kind(), cause.to_string()).with_provider(NAME);
        // The message is the cause's own, so what stands behind it is the cause's source.
        match cause {
            Error::Server { source, .. } => error.with_source(source),
            Error::Comment(source) => error.with_source(source),
            Error::Task(source) => error.with_source(source),
            Error::Program { source, .. } => error.with_source(source),
            Error::Start { source, .. }
            | Error::Surroundings(source)
            | Error::Pipe(source)
            | Error::Sink(source)
            | Error::Source(source) => error.with_source(source),
            Error::Old(_)
            | Error::NoDatabase(_)
            | Error::Lost
            | Error::InUse(_)
            | Error::Busy(_)
            | Error::Closed(_)
            | Error::HalfDropped(_)
            | Error::Taken { .. }
            | Error::NoStamp { .. }
            | Error::NoTemplate(_)
            | Error::Crowded
            | Error::Changed
            | Error::Damaged(_) => error,
        }
    }
}
