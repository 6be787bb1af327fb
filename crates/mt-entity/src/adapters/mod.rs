mod credentials;
mod logs;
mod roles;
mod sessions;
mod settings;
mod users;

use chrono::{DateTime, SubsecRound as _, Utc};
use mt_core::{DataAdapters, DataTransaction, ReadAdapters};
use sea_orm::{ConnectionTrait, DbErr, SqlErr};

pub use credentials::Credentials;
pub use logs::{Logs, NewLog};
pub use roles::{NewRole, Roles};
pub use sessions::Sessions;
pub use settings::{NewSetting, Settings};
pub use users::{NewUser, Users};

/// Typed adapters over a tenant's reference schema: `data.users().list(page)`.
///
/// On a tenant's handle, its read-only view and its transactions. Each adapter has a `new` too, for
/// any other SeaORM connection.
pub trait TenantAdapters: ConnectionTrait + Sized {
    /// The tenant's users.
    fn users(&self) -> Users<'_, Self> {
        Users::new(self)
    }

    /// What users prove to be themselves with.
    fn credentials(&self) -> Credentials<'_, Self> {
        Credentials::new(self)
    }

    /// Where users are signed in.
    fn sessions(&self) -> Sessions<'_, Self> {
        Sessions::new(self)
    }

    /// Roles, and whom they were granted to.
    fn roles(&self) -> Roles<'_, Self> {
        Roles::new(self)
    }

    /// The tenant's settings.
    fn settings(&self) -> Settings<'_, Self> {
        Settings::new(self)
    }

    /// What happened.
    fn logs(&self) -> Logs<'_, Self> {
        Logs::new(self)
    }
}

impl TenantAdapters for DataAdapters {}
impl TenantAdapters for ReadAdapters {}
impl TenantAdapters for DataTransaction {}

/// Why a row was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Another row has this value, which must be unique. On PostgreSQL the transaction it happened
    /// in is over.
    #[error("the {0} is taken")]
    Taken(&'static str),
    /// The database refused it for another reason, or did not answer.
    #[error("the row could not be added")]
    Database(#[source] DbErr),
}

impl CreateError {
    /// What the database said about a row whose `field` must be unique.
    fn new(error: DbErr, field: &'static str) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Self::Taken(field),
            _ => Self::Database(error),
        }
    }
}

/// Now, as exactly as every engine keeps it: PostgreSQL rounds to microseconds.
fn now() -> DateTime<Utc> {
    exact(Utc::now())
}

fn exact(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}
