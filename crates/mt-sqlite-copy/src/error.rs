use std::{io, path::PathBuf};

use mt_core::ErrorKind;
use rusqlite::ErrorCode;

/// What goes wrong in here, one variant per cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action}")]
    Sqlite {
        action: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{object} cannot be made in a SQLite file, so there is no exact copy of the database")]
    Object {
        object: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{0} is not the same in a SQLite file, so there is no exact copy of the database")]
    Differs(String),
    #[error("the copy's text is encoded in {0}, expected UTF-8")]
    Encoding(String),
    #[error("a row for {table} has {found} values, expected {expected}")]
    Row { table: String, found: usize, expected: usize },
    #[error("cannot write the copy to its destination")]
    Sink(#[source] io::Error),
    #[error("cannot read the copy from its source")]
    Source(#[source] io::Error),
    #[error("the copy is not what its manifest says: {0}")]
    Damaged(String),
    #[error("a worker thread ended early")]
    Worker(#[from] tokio::task::JoinError),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn sqlite(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { action, source }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => file_kind(source),
            Self::Sqlite { source, .. } => sqlite_kind(source.sqlite_error_code()),
            Self::Object { .. } | Self::Differs(_) | Self::Encoding(_) => ErrorKind::Unsupported,
            Self::Sink(source) => match file_kind(source) {
                ErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
                _ => ErrorKind::Unavailable,
            },
            Self::Source(_) => ErrorKind::Unavailable,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Row { .. } | Self::Worker(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for mt_core::Error {
    fn from(cause: Error) -> Self {
        // The message is the cause's own, so what stands behind it is the cause's source.
        let error = Self::new(cause.kind(), cause.to_string());
        match cause {
            Error::File { source, .. } | Error::Sink(source) | Error::Source(source) => {
                error.with_source(source)
            }
            Error::Sqlite { source, .. } | Error::Object { source, .. } => {
                error.with_source(source)
            }
            Error::Worker(source) => error.with_source(source),
            Error::Differs(_) | Error::Encoding(_) | Error::Row { .. } | Error::Damaged(_) => error,
        }
    }
}

/// What a caller can do about a file that could not be read or written.
pub fn file_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::QuotaExceeded
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::NotFound => ErrorKind::Config,
        _ => ErrorKind::Internal,
    }
}

/// What a caller can do about what SQLite answered.
pub const fn sqlite_kind(code: Option<ErrorCode>) -> ErrorKind {
    match code {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
        Some(ErrorCode::DiskFull) => ErrorKind::QuotaExceeded,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Unavailable,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ErrorKind::Config
        }
        _ => ErrorKind::Internal,
    }
}
