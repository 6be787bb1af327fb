//! What the server's errors mean.

use libsql_hrana::proto;
use mt_core::{Error, ErrorKind};
use mt_remote::{Fault, StatementError};

use super::door::Effect;
use crate::NAME;

/// What the server said of a statement, or instead of running it.
pub(super) fn of_statement(error: &proto::Error, effect: Effect) -> Fault {
    let message = error.message.strip_prefix("SQLite error: ").unwrap_or(&error.message);
    let refused = |kind, what: &str| {
        let said = StatementError::new(message, Some(error.code.clone()));
        Error::new(kind, what).with_provider(NAME).with_source(said).into()
    };
    match error.code.as_str() {
        "BLOCKED" if names_a_limit(message) => {
            refused(ErrorKind::QuotaExceeded, "a limit of the account is reached")
        }
        "BLOCKED" => refused(ErrorKind::TenantNotActive, "the server blocks the database"),
        "SQLITE_FULL" => refused(ErrorKind::QuotaExceeded, "the database is full"),
        "SQLITE_BUSY" | "SQLITE_LOCKED" | "SQLITE_BUSY_SNAPSHOT" => {
            refused(ErrorKind::Unavailable, "somebody else is writing")
        }
        "TRANSACTION_TIMEOUT" | "TRANSACTION_BUSY" | "STREAM_EXPIRED" => {
            refused(ErrorKind::Unavailable, "the server ended the transaction; nothing of it lasts")
        }
        // The statement had run by the time its answer was found to be too large.
        TOO_LARGE => lost(effect, refused(ErrorKind::Unsupported, "the answer is too large")),
        code => {
            let code = (!code.is_empty()).then(|| code.to_owned());
            Fault::Statement(StatementError::new(message, code))
        }
    }
}

/// An answer of more than 10 MB, on sqld 0.24.32.
const TOO_LARGE: &str = "RESPONSE_TOO_LARGE";

/// The same code stands for a block that the owner asked for and for one that the bill did.
fn names_a_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["quota", "limit", "usage", "upgrade", "plan", "billing"].iter().any(|w| message.contains(w))
}

/// Whether the answer was too large for one piece.
pub(super) fn is_too_large(fault: &Fault) -> bool {
    let Fault::Other(error) = fault else { return false };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(said) = error.downcast_ref::<StatementError>() {
            return said.code.as_deref() == Some(TOO_LARGE);
        }
        cause = error.source();
    }
    false
}

/// An answer was lost. What only read can be asked again; of what may have written nothing is known.
pub(super) fn lost(effect: Effect, cause: Fault) -> Fault {
    match effect {
        Effect::Reads => cause,
        Effect::Writes => Error::new(
            ErrorKind::OutcomeUnknown,
            "the answer was lost; whether it took effect is unknown, look before repeating it",
        )
        .with_provider(NAME)
        .with_source(Error::from(cause))
        .into(),
    }
}

/// What an answer was lost to, if something may have taken effect.
pub(super) fn lost_to(fault: &Fault) -> Option<Error> {
    let Fault::Other(error) = fault else { return None };
    let cause = std::error::Error::source(error)?.downcast_ref::<Error>()?;
    (error.kind() == ErrorKind::OutcomeUnknown).then(|| cause.clone())
}

/// A transaction that was ended because the answer to a write was lost to `cause`.
pub(super) fn undone(cause: Error) -> Fault {
    Error::new(
        cause.kind(),
        "the answer to a write cannot be read, so its transaction was ended; nothing of it lasts",
    )
    .with_provider(NAME)
    .with_source(cause)
    .into()
}

/// A transaction that the server ended by itself.
pub(super) fn ended(what: &str) -> Fault {
    Error::new(ErrorKind::Unavailable, format!("{what}; nothing of it lasts"))
        .with_provider(NAME)
        .into()
}

/// How sqld 0.24.32 writes a number that JSON has none for: which of the two it was is lost.
const INFINITY: &[u8] = br#"{"type":"float","value":null}"#;

/// Whether an answer that cannot be read has an infinite number in it.
pub(super) fn has_infinity(answer: &[u8]) -> bool {
    answer.windows(INFINITY.len()).any(|window| window == INFINITY)
}

pub(super) fn infinite() -> Fault {
    Error::new(
        ErrorKind::Unsupported,
        "an infinite number is in the answer, which JSON cannot carry; the statement has run, ask for the column by CAST(… AS TEXT)",
    )
    .with_provider(NAME)
    .into()
}

/// An infinite number was to be bound.
pub(super) fn no_infinity() -> Fault {
    Error::new(
        ErrorKind::Unsupported,
        "JSON, all that the server has, has no infinite numbers, so none can be bound; write 9e999 in the statement",
    )
    .with_provider(NAME)
    .into()
}

/// An answer that is not of this protocol.
pub(super) fn garbled(what: &str) -> Fault {
    Error::new(ErrorKind::Unavailable, format!("the server's answer cannot be understood: {what}"))
        .with_provider(NAME)
        .into()
}

/// An answer that is not of this encoding.
pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Error::new(ErrorKind::Unavailable, "the server's answer cannot be understood")
        .with_provider(NAME)
        .with_source(error)
        .into()
}
