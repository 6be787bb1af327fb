use mt_core::{Error, ErrorKind};

/// Why a database did not do what it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// It refused a statement.
    #[error(transparent)]
    Statement(StatementError),
    /// Anything else: no answer, no right, no such thing here.
    #[error(transparent)]
    Other(Error),
}

/// What the database said of a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
#[non_exhaustive]
pub struct StatementError {
    /// The engine's own words, such as `UNIQUE constraint failed: users.email`.
    pub message: String,
    /// The engine's name of the error, such as `SQLITE_CONSTRAINT`, where it is told; the extended
    /// one (`SQLITE_CONSTRAINT_UNIQUE`) where that is.
    pub code: Option<String>,
}

impl StatementError {
    /// What the database said, and its code.
    pub fn new(message: impl Into<String>, code: Option<String>) -> Self {
        Self { message: message.into(), code }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Statement(error) => {
                Self::new(ErrorKind::Statement, error.to_string()).with_source(error)
            }
            Fault::Other(error) => error,
        }
    }
}
