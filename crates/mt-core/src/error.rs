use std::{error::Error as StdError, fmt, sync::Arc};

use sea_orm::DbErr;

use crate::TenantId;

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync>;

/// What went wrong, for which tenant, at which provider, and why.
///
/// One word wide and cheap to clone, so that everybody who waited for one failed open gets the
/// same answer. `Display` is this error's own message; the cause is in
/// [`source`](StdError::source), never in both. Secrets are in neither.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    provider: Option<&'static str>,
    tenant: Option<TenantId>,
    source: Option<Source>,
}

/// What a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or wrong. Mend it and start again.
    Config,
    /// The text is no tenant id.
    InvalidTenant,
    /// There is no such tenant, or its database is gone.
    TenantNotFound,
    /// The tenant is there already, or one whose id differs only by case.
    TenantExists,
    /// The tenant is there, but not in a state in which it is served.
    TenantNotActive,
    /// A database of that name is there and is not this tenant's.
    NameTaken,
    /// The database that was reached carries another tenant's, another deployment's or no stamp.
    /// It is never served.
    ForeignDatabase,
    /// Somebody is using the database; nothing was done to it.
    InUse,
    /// The engine or the provider cannot do this. Nothing was done.
    Unsupported,
    /// No connection, overload or a timeout, before anything took effect. Repeating may help.
    Unavailable,
    /// Credentials were refused.
    Unauthenticated,
    /// A limit of the account, the disk or the database is reached.
    QuotaExceeded,
    /// What is stored is not what it should be: no database, a wrong checksum, a torn file.
    Corrupt,
    /// The tenant's schema is older than this program can serve.
    SchemaOutdated,
    /// A migration failed. The tenant's database is as it was, unless the error says otherwise.
    MigrationFailed,
    /// A hook or a seed of the application failed.
    HookFailed,
    /// Somebody else changed the same thing first; nothing was done.
    Conflict,
    /// The request may or may not have taken effect. Look before repeating it.
    OutcomeUnknown,
    /// The database refused a statement of the application.
    Statement,
    /// A fault in this library or in the environment that none of the others names.
    Internal,
}

impl Error {
    /// An error of `kind`. `message` says what was being done or what is wrong, in lower case and
    /// without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            provider: None,
            tenant: None,
            source: None,
        }))
    }

    /// An [`ErrorKind::Unsupported`] of `provider`: it cannot do `what`.
    pub fn unsupported(provider: &'static str, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("the provider cannot {what}"))
            .with_provider(provider)
    }

    /// Names the provider.
    #[must_use]
    pub fn with_provider(self, provider: &'static str) -> Self {
        self.map(|inner| inner.provider = Some(provider))
    }

    /// Names the tenant.
    #[must_use]
    pub fn with_tenant(self, tenant: &TenantId) -> Self {
        self.map(|inner| inner.tenant = Some(tenant.clone()))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.map(|inner| inner.source = Some(source.into().into()))
    }

    fn map(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anybody mending anything, and is safe to
    /// repeat. [`ErrorKind::OutcomeUnknown`] is not.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::InUse | ErrorKind::Conflict)
    }

    /// The provider it happened at, by its registered name.
    pub fn provider(&self) -> Option<&'static str> {
        self.0.provider
    }

    /// The tenant it happened to.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.0.tenant.as_ref()
    }

    /// This error inside SeaORM's, which is what [`ConnectionTrait`](sea_orm::ConnectionTrait) can
    /// return. [`Error::in_db_err`] finds it again.
    pub fn into_db_err(self) -> DbErr {
        DbErr::TryIntoErr {
            from: "statement",
            into: "call on the tenant's database",
            source: Arc::new(self),
        }
    }

    /// The error of ours inside SeaORM's: a refusal by the handle (revoked, read-only, a statement
    /// that a handle never runs), as opposed to an answer of the database.
    pub fn in_db_err(error: &DbErr) -> Option<&Self> {
        match error {
            DbErr::TryIntoErr { source, .. } => source.downcast_ref(),
            _ => None,
        }
    }

    /// What SeaORM reported, as an error of `kind` with `message`; an error of ours inside it wins.
    pub fn from_db_err(error: DbErr, kind: ErrorKind, message: impl Into<String>) -> Self {
        match Self::in_db_err(&error) {
            Some(ours) => ours.clone(),
            None => Self::new(kind, message).with_source(error),
        }
    }

    /// The message, and the message of each cause behind it, joined by `: `. What a message ends with
    /// already is not said twice.
    ///
    /// For a log line, a catalog column or a terminal.
    pub fn to_chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match (&self.0.tenant, self.0.provider) {
            (Some(tenant), Some(provider)) => write!(f, " (tenant `{tenant}`, {provider})"),
            (Some(tenant), None) => write!(f, " (tenant `{tenant}`)"),
            (None, Some(provider)) => write!(f, " ({provider})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("tenant", &self.0.tenant)
            .field("provider", &self.0.provider)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_the_way_through_sea_orm() {
        let tenant = TenantId::new("acme").unwrap();
        let error = Error::new(ErrorKind::InUse, "held").with_tenant(&tenant).into_db_err();
        let back = Error::from_db_err(error, ErrorKind::Internal, "other");
        assert_eq!(back.kind(), ErrorKind::InUse);
        assert_eq!(back.tenant(), Some(&tenant));
        assert!(back.is_transient());
    }

    #[test]
    fn what_a_message_ends_with_is_not_said_twice() {
        let said = DbErr::Exec(sea_orm::RuntimeErr::Internal("no".to_owned()));
        assert!(said.to_string().ends_with("no") && said.source().is_some(), "{said:?}");
        let error = Error::new(ErrorKind::Internal, "cannot ask").with_source(said);
        assert_eq!(error.to_chain(), "cannot ask: Execution Error: no");
    }

    #[test]
    fn it_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
