//! From what the file system and SQLite say to what a caller can act on.

use std::{io, path::Path};

use mt_core::{Error, ErrorKind, Result, TenantId};
use sea_orm::{DbErr, RuntimeErr, sqlx};

use crate::NAME;

/// Names the tenant and the provider in every error that leaves.
pub(crate) fn told<T>(tenant: &TenantId, result: Result<T>) -> Result<T> {
    result.map_err(|e| e.with_tenant(tenant).with_provider(NAME))
}

pub(crate) fn io_error(action: &str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
        // What is left is for the administrator to mend: rights, a file in the way.
        _ => ErrorKind::Config,
    };
    Error::new(kind, format!("cannot {action} {}", path.display())).with_source(error)
}

pub(crate) fn db_error(action: &str, error: DbErr) -> Error {
    let kind = engine_kind(&error).unwrap_or(ErrorKind::Unavailable);
    Error::from_db_err(error, kind, format!("cannot {action}"))
}

/// Sharpens what mt-core could only call no answer.
pub(crate) fn sharpen(error: Error) -> Error {
    let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<DbErr>());
    match (error.kind(), source.and_then(engine_kind)) {
        (ErrorKind::Unavailable, Some(kind)) => {
            Error::new(kind, "cannot open the tenant's database").with_source(error)
        }
        _ => error,
    }
}

/// What SQLite's own code says, where it says more than no (<https://www.sqlite.org/rescode.html>).
fn engine_kind(error: &DbErr) -> Option<ErrorKind> {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return None;
    };
    let sqlx::Error::Database(error) = &**error else { return None };
    // An extended code has the primary one in its lowest byte.
    match error.code()?.parse::<u32>().ok()? & 0xff {
        11 | 26 => Some(ErrorKind::Corrupt),
        13 => Some(ErrorKind::QuotaExceeded),
        3 | 8 | 14 => Some(ErrorKind::Config),
        _ => None,
    }
}
