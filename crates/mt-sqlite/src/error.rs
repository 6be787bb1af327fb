use std::{io, path::PathBuf};

use mt_core::ErrorKind;
use mt_sqlite_copy::{file_kind, sqlite_kind};
use sea_orm::{DbErr, RuntimeErr, sqlx};

use crate::NAME;

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
    #[error("there is no database {}", .0.display())]
    NoDatabase(PathBuf),
    #[error("{} is used by somebody else; nothing was done", .0.display())]
    Locked(PathBuf),
    #[error("a database of that name is there and is not this tenant's: {0}")]
    Taken(&'static str),
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
            Self::NoDatabase(_) => ErrorKind::TenantNotFound,
            Self::Locked(_) => ErrorKind::InUse,
            Self::Taken(_) => ErrorKind::NameTaken,
            Self::Worker(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for mt_core::Error {
    fn from(cause: Error) -> Self {
        Self::new(cause.kind(), cause.to_string()).with_provider(NAME).with_source_of(cause)
    }
}

/// The message is the cause's own, so what stands behind it is the cause's source.
trait WithSourceOf {
    fn with_source_of(self, cause: Error) -> Self;
}

impl WithSourceOf for mt_core::Error {
    fn with_source_of(self, cause: Error) -> Self {
        match cause {
            Error::File { source, .. } => self.with_source(source),
            Error::Sqlite { source, .. } => self.with_source(source),
            Error::Worker(source) => self.with_source(source),
            Error::NoDatabase(_) | Error::Locked(_) | Error::Taken(_) => self,
        }
    }
}

/// Sharpens what others could only call no answer, or a failed migration, by the engine's own code.
pub(crate) fn sharpen(error: mt_core::Error) -> mt_core::Error {
    let mut causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
    let code = causes.find_map(|cause| engine_code(cause.downcast_ref::<DbErr>()?));
    let kind = match code {
        Some(SHM_FULL) => ErrorKind::QuotaExceeded,
        Some(code) => sqlite_kind(Some(rusqlite::ffi::Error::new(code).code)),
        None => return error.with_provider(NAME),
    };
    // Of a migration's many ways to fail only this one is not its own fault.
    if error.kind() != ErrorKind::Unavailable && kind != ErrorKind::QuotaExceeded {
        return error.with_provider(NAME);
    }
    let message = match kind {
        ErrorKind::QuotaExceeded => "there is no room for the tenant's database",
        _ => "cannot open the tenant's database",
    };
    let mut sharper = mt_core::Error::new(kind, message).with_provider(NAME);
    if let Some(tenant) = error.tenant() {
        sharper = sharper.with_tenant(tenant);
    }
    sharper.with_source(error)
}

/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the log
/// (<https://www.sqlite.org/rescode.html#ioerr_shmsize>).
const SHM_FULL: i32 = 4874;

fn engine_code(error: &DbErr) -> Option<i32> {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return None;
    };
    match &**error {
        sqlx::Error::Database(error) => error.code()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error: mt_core::Error = Error::file("write", "x")(full).into();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert!(!error.to_chain().contains("write x: cannot"), "{}", error.to_chain());
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), None);
        let error: mt_core::Error = Error::sqlite("stamp the database")(full).into();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    }
}
