//! What goes wrong at the service, told apart by what a caller can do about it.

use std::{fmt, io, time::Duration};

use mt_core::ErrorKind;
use mt_remote::{Fault, StatementError};

use super::refusal::{Refusal, Why};
use crate::NAME;

/// What was being done, and why it could not be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub(super) struct Error {
    action: Action,
    #[source]
    cause: Cause,
}

/// What an operation does to what.
#[derive(Clone, Debug)]
pub(super) struct Action {
    verb: &'static str,
    subject: Subject,
}

#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// A database, by its name or id.
    Database(String),
    /// A database that is to be made, by its name.
    New(String),
    /// The account's databases.
    Account,
    /// Statements to the database of this id.
    Statements(String),
}

impl Action {
    pub(super) const fn new(verb: &'static str, subject: Subject) -> Self {
        Self { verb, subject }
    }

    pub(super) fn failed(&self, cause: Cause) -> Error {
        Error { action: self.clone(), cause }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Database(name) | Subject::New(name) | Subject::Statements(name) => {
                write!(f, "{} the database `{name}`", self.verb)
            }
            Subject::Account => write!(f, "{} the account", self.verb),
        }
    }
}

/// One variant per cause.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("no connection could be made")]
    Unsent(#[source] reqwest::Error),
    #[error("the connection ended before the answer did")]
    Lost(#[source] reqwest::Error),
    #[error("there was no whole answer within {0:?}")]
    Slow(Duration),
    #[error("the answer is not the service's: status {status}, `{excerpt}`")]
    NotJson { status: u16, excerpt: String },
    #[error(
        "the endpoint answers with a redirect (status {0}), which is not followed: the token would go with it; expected the API itself"
    )]
    Redirected(u16),
    #[error("the answer is longer than {0} bytes; ask for less at once")]
    TooLong(usize),
    #[error(
        "the request has {found} bytes, expected at most {most}; send fewer statements at once"
    )]
    TooLarge { found: usize, most: usize },
    #[error("the answer cannot be understood: {0}")]
    Malformed(String),
    #[error("the answer is about `{0}`")]
    Mismatch(String),
    #[error("{why}: the service answered {refusal}")]
    Refused { why: Why, refusal: Refusal },
    #[error(transparent)]
    Statement(StatementError),
    #[error("statement {number} of {count} was refused although the whole was not")]
    Partly {
        number: usize,
        count: usize,
        #[source]
        source: Box<Self>,
    },
    #[error("the budget of the token did not let it through")]
    NoRight(#[source] mt_core::Error),
    #[error("the time for it is over")]
    Late,
    #[error("the name is taken by a database that cannot be seen: the service answered {0}")]
    Unseen(Refusal),
    #[error("whether it took effect is not known{}; look before repeating it", .0.hint())]
    Unknown(#[source] Box<Self>),
    #[error("{0}")]
    Setting(&'static str),
    #[error("the service gave the export up: {0}")]
    Export(String),
    #[error(
        "the service says that the export is where no secret may be read: neither https nor this machine"
    )]
    Insecure,
    #[error("the export cannot be fetched: status {0}")]
    Fetch(u16),
    #[error("the export cannot be written")]
    Sink(#[source] io::Error),
}

impl Cause {
    /// What became of a request that did not end with an answer.
    pub(super) fn broken(error: reqwest::Error, limit: Duration) -> Self {
        // A signed URL is a secret, and of others the operation is named already.
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            Self::Unsent(error)
        } else if error.is_timeout() {
            Self::Slow(limit)
        } else {
            Self::Lost(error)
        }
    }

    pub(super) const fn why(&self) -> Option<Why> {
        if let Self::Refused { why, .. } = self { Some(*why) } else { None }
    }

    /// Whether what is not there is what was asked for.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self.why(), Some(Why::Missing))
    }

    /// What else there is to know where the outcome is not.
    fn hint(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } if refusal.is_internal() => {
                ": a batch that leaves a deferred foreign key violated is answered in these words too, and then nothing of it lasts"
            }
            _ => "",
        }
    }

    /// Whether the service said that it did nothing, or was never asked.
    pub(super) const fn is_before_effect(&self) -> bool {
        match self {
            Self::Unsent(_)
            | Self::NoRight(_)
            | Self::Late
            | Self::Redirected(_)
            | Self::TooLarge { .. }
            | Self::Statement(_)
            | Self::Unseen(_)
            | Self::Setting(_)
            | Self::Export(_)
            | Self::Insecure
            | Self::Fetch(_)
            | Self::Sink(_) => true,
            Self::Refused { why, refusal } => match why {
                Why::Failing(_) => false,
                Why::Other => refusal.status >= 400,
                Why::Credentials
                | Why::Account
                | Why::Quota
                | Why::Missing
                | Why::Taken
                | Why::TooLarge
                | Why::Exporting
                | Why::Overrun(_)
                | Why::Overloaded => true,
            },
            Self::Lost(_)
            | Self::Slow(_)
            | Self::NotJson { .. }
            | Self::TooLong(_)
            | Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Partly { .. }
            | Self::Unknown(_) => false,
        }
    }

    /// Whether the same request may have another answer later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unsent(error) => !error.is_builder(),
            Self::Lost(_) | Self::Slow(_) | Self::NotJson { .. } => true,
            Self::Refused { why, .. } => {
                matches!(why, Why::Exporting | Why::Overrun(_) | Why::Overloaded | Why::Failing(_))
            }
            Self::Fetch(status) => matches!(status, 408 | 429 | 500..=599),
            Self::Partly { source, .. } => source.is_transient(),
            Self::Redirected(_)
            | Self::TooLong(_)
            | Self::TooLarge { .. }
            | Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Statement(_)
            | Self::NoRight(_)
            | Self::Late
            | Self::Unseen(_)
            | Self::Unknown(_)
            | Self::Setting(_)
            | Self::Export(_)
            | Self::Insecure
            | Self::Sink(_) => false,
        }
    }

    fn kind(&self, subject: &Subject) -> ErrorKind {
        match self {
            Self::Unsent(error) if error.is_builder() => ErrorKind::Config,
            Self::Unsent(_)
            | Self::Lost(_)
            | Self::Slow(_)
            | Self::NotJson { .. }
            | Self::Late
            | Self::Fetch(_) => ErrorKind::Unavailable,
            Self::NoRight(error) => error.kind(),
            Self::Refused { why, .. } => why.kind(subject),
            Self::Statement(_) => match subject {
                Subject::Statements(_) => ErrorKind::Statement,
                Subject::Database(_) | Subject::New(_) | Subject::Account => ErrorKind::Internal,
            },
            Self::Partly { source, .. } => source.kind(subject),
            Self::Redirected(_) | Self::Setting(_) => ErrorKind::Config,
            Self::TooLong(_) | Self::TooLarge { .. } => ErrorKind::Unsupported,
            Self::Unseen(_) => ErrorKind::Conflict,
            Self::Unknown(_) => ErrorKind::OutcomeUnknown,
            Self::Export(words) if words.to_ascii_lowercase().contains("virtual table") => {
                ErrorKind::Unsupported
            }
            Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Export(_)
            | Self::Insecure
            | Self::Sink(_) => ErrorKind::Internal,
        }
    }
}

impl Why {
    const fn kind(self, subject: &Subject) -> ErrorKind {
        match self {
            Self::Credentials => ErrorKind::Unauthenticated,
            Self::Account => ErrorKind::Config,
            Self::Quota => ErrorKind::QuotaExceeded,
            Self::Missing => match subject {
                Subject::Database(_) | Subject::Statements(_) => ErrorKind::TenantNotFound,
                Subject::New(_) | Subject::Account => ErrorKind::Config,
            },
            Self::Taken => ErrorKind::NameTaken,
            Self::TooLarge => ErrorKind::Unsupported,
            Self::Exporting => ErrorKind::InUse,
            Self::Overrun(_) | Self::Overloaded | Self::Failing(_) => ErrorKind::Unavailable,
            Self::Other => ErrorKind::Internal,
        }
    }
}

impl From<Error> for mt_core::Error {
    fn from(error: Error) -> Self {
        let kind = error.cause.kind(&error.action.subject);
        Self::new(kind, error.to_string()).with_provider(NAME).with_source(error.cause)
    }
}

impl Error {
    /// As the way to a database reports it. No `From`: who sends statements has one of its own.
    pub(super) fn into_fault(self) -> Fault {
        match (&self.action.subject, self.cause) {
            (Subject::Statements(_), Cause::Statement(said)) => Fault::Statement(said),
            (_, cause) => mt_core::Error::from(self.action.failed(cause)).into(),
        }
    }
}
