//! What goes wrong at the platform, told apart by status and by words.

use std::{fmt, io, time::Duration};

use mt_core::ErrorKind;

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
    Database(String),
    Group(String),
    Organization,
    /// The database behind a host name.
    Host(String),
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
            Subject::Database(name) => write!(f, "{} the database `{name}`", self.verb),
            Subject::Group(name) => write!(f, "{} the group `{name}`", self.verb),
            Subject::Organization => write!(f, "{} the organization", self.verb),
            Subject::Host(name) => write!(f, "{} the database at {name}", self.verb),
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
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the answer cannot be understood: {0}")]
    Malformed(String),
    #[error("the answer is about `{0}`")]
    Mismatch(String),
    #[error("{why}: the service answered {refusal}")]
    Refused { why: Why, refusal: Refusal },
    #[error("the service asked to be left alone; {0:?} of that are left")]
    Paused(Duration),
    #[error("no place among the requests at once came free in time")]
    Crowded,
    #[error("one of that name is there, {0}")]
    Foreign(String),
    #[error("the name is taken by a database that cannot be seen: the service answered {0}")]
    Unseen(Refusal),
    #[error("its group `{group}` sleeps and could not be woken")]
    NotWoken {
        group: String,
        #[source]
        source: Box<Self>,
    },
    #[error("whether it took effect is not known")]
    Unknown(#[source] Box<Self>),
    #[error("the list does not move on from the cursor `{0}`")]
    Stuck(String),
    #[error("{0}")]
    Setting(String),
    #[error("the file cannot be read")]
    File(#[source] io::Error),
    #[error("the file has {found} bytes, expected {expected}")]
    ShortFile { found: u64, expected: u64 },
}

impl Cause {
    /// What became of a request that did not end with an answer.
    pub(super) fn broken(error: reqwest::Error, limit: Duration) -> Self {
        // The URL holds no secret, but the operation is named already.
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

    /// How long the service wants to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        if let Self::Paused(left) = self {
            return Some(*left);
        }
        if let Some(Why::Overrun(after) | Why::Failing(after)) = self.why() { after } else { None }
    }

    /// Whether the service said that it did nothing, or was never asked.
    pub(super) const fn is_before_effect(&self) -> bool {
        match self {
            Self::Unsent(_) | Self::Paused(_) | Self::Crowded => true,
            Self::Refused { why, .. } => !matches!(why, Why::Failing(_)),
            Self::Foreign(_)
            | Self::Unseen(_)
            | Self::NotWoken { .. }
            | Self::Setting(_)
            | Self::File(_)
            | Self::ShortFile { .. } => true,
            Self::Lost(_)
            | Self::Slow(_)
            | Self::NotJson { .. }
            | Self::TooLong(_)
            | Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Unknown(_)
            | Self::Stuck(_) => false,
        }
    }

    /// Whether the same request may have another answer later.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Unsent(_)
            | Self::Lost(_)
            | Self::Slow(_)
            | Self::NotJson { .. }
            | Self::Paused(_)
            | Self::Unseen(_)
            | Self::Crowded => true,
            Self::Refused { why, .. } => {
                matches!(why, Why::Overrun(_) | Why::Failing(_) | Why::Asleep)
            }
            Self::TooLong(_)
            | Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Foreign(_)
            | Self::NotWoken { .. }
            | Self::Unknown(_)
            | Self::Stuck(_)
            | Self::Setting(_)
            | Self::File(_)
            | Self::ShortFile { .. } => false,
        }
    }

    fn kind(&self, subject: &Subject) -> ErrorKind {
        match self {
            Self::Unsent(_)
            | Self::Lost(_)
            | Self::Slow(_)
            | Self::NotJson { .. }
            | Self::Paused(_)
            | Self::Crowded => ErrorKind::Unavailable,
            Self::Refused { why, .. } => match why {
                Why::Credentials => ErrorKind::Unauthenticated,
                Why::Plan => ErrorKind::QuotaExceeded,
                Why::Missing => match subject {
                    Subject::Database(_) | Subject::Host(_) => ErrorKind::TenantNotFound,
                    Subject::Group(_) | Subject::Organization => ErrorKind::Config,
                },
                Why::Taken => ErrorKind::NameTaken,
                Why::UnknownGroup | Why::Protected => ErrorKind::Config,
                Why::Asleep | Why::Overrun(_) | Why::Failing(_) => ErrorKind::Unavailable,
                Why::Other => ErrorKind::Internal,
            },
            Self::Foreign(_) => ErrorKind::NameTaken,
            Self::Unseen(_) => ErrorKind::Conflict,
            Self::NotWoken { source, .. } => source.kind(subject),
            Self::Unknown(_) => ErrorKind::OutcomeUnknown,
            Self::Setting(_) => ErrorKind::Config,
            Self::TooLong(_)
            | Self::Malformed(_)
            | Self::Mismatch(_)
            | Self::Stuck(_)
            | Self::File(_)
            | Self::ShortFile { .. } => ErrorKind::Internal,
        }
    }
}

impl From<Error> for mt_core::Error {
    fn from(error: Error) -> Self {
        let kind = error.cause.kind(&error.action.subject);
        Self::new(kind, error.to_string()).with_provider(NAME).with_source(error.cause)
    }
}
