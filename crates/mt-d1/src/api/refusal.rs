//! What the service says when it does not do what it is told.
//!
//! The code alone does not tell: 7500 stands for a statement that fails, a quota that is used up
//! and a service that is down. So code, status and words are looked at, in this order.

use std::{fmt, time::Duration};

use mt_core::Secret;
use mt_remote::StatementError;
use serde::Deserialize;
use serde_json::Value;

use super::{error::Cause, excerpt::hide};

/// Why the service refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Credentials,
    /// No such account, or an id that is none.
    Account,
    Quota,
    Missing,
    Taken,
    TooLarge,
    /// The database is being exported, and answers nobody meanwhile.
    Exporting,
    /// Too many requests of this token: this one was not looked at.
    Overrun(Option<Duration>),
    /// Too many requests to this database: this one was never taken from the queue.
    Overloaded,
    /// The service's own fault: what became of the request is not said.
    Failing(Option<Duration>),
    Other,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Credentials => "the credentials were refused, or may not do this",
            Self::Account => "the service knows no such account or id",
            Self::Quota => "a limit of the account or of the database is reached",
            Self::Missing => "there is none",
            Self::Taken => "the name is taken",
            Self::TooLarge => "the request is too large; send fewer statements at once",
            Self::Exporting => "it is being exported and answers nobody meanwhile",
            Self::Overrun(after) => return busy(f, "there were too many requests", *after),
            Self::Overloaded => "too many requests stand in line for it",
            Self::Failing(after) => return busy(f, "the service fails", *after),
            Self::Other => "the request was refused",
        };
        f.write_str(text)
    }
}

fn busy(f: &mut fmt::Formatter<'_>, text: &str, after: Option<Duration>) -> fmt::Result {
    match after {
        Some(after) => write!(f, "{text}; it asks to be left alone for {after:?}"),
        None => f.write_str(text),
    }
}

/// The service's own words, without anything secret.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    code: Option<i64>,
    text: String,
}

impl Refusal {
    /// Whether the words are those of the engine itself, in which it hides what it was.
    pub(super) fn is_internal(&self) -> bool {
        self.text.to_ascii_lowercase().contains("internal error; reference")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.text.is_empty() {
            write!(f, ", `{}`", self.text)?;
        }
        match self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

/// An entry of `errors`. Nothing of it is taken for granted.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
}

impl Entry {
    /// Words without a code.
    pub(super) fn of_words(message: Value) -> Self {
        Self { code: Value::Null, message }
    }

    fn code(&self) -> Option<i64> {
        self.code.as_i64().or_else(|| self.code.as_str()?.parse().ok())
    }
}

/// Reads a refusal.
pub(super) fn read(
    status: u16,
    retry_after: Option<Duration>,
    entries: &[Entry],
    token: &Secret,
) -> Cause {
    let nothing = Entry::default();
    let words = |entry: &Entry| match &entry.message {
        Value::Null => String::new(),
        Value::String(text) => hide(text, token),
        other => hide(&other.to_string(), token),
    };
    // The first that is known; what comes beside it says less.
    let known = entries.iter().find(|entry| {
        let meaning = of(status, retry_after, entry.code(), &words(entry));
        !matches!(meaning, Meaning::Refusal(Why::Other))
    });
    let entry = known.or_else(|| entries.first()).unwrap_or(&nothing);
    let (code, text) = (entry.code(), words(entry));
    match of(status, retry_after, code, &text) {
        Meaning::Statement(error) => Cause::Statement(error),
        Meaning::Refusal(why) => Cause::Refused { why, refusal: Refusal { status, code, text } },
    }
}

#[derive(Debug, PartialEq)]
enum Meaning {
    Statement(StatementError),
    Refusal(Why),
}

/// A statement, or a request of statements, did not do.
const STATEMENT: i64 = 7500;

fn of(status: u16, retry_after: Option<Duration>, code: Option<i64>, text: &str) -> Meaning {
    let words = text.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    let by_code = match code {
        _ if status == 429 => Some(Why::Overrun(retry_after)),
        Some(7502) => Some(Why::Taken),
        Some(7406) => Some(Why::Quota),
        Some(7404) => Some(Why::Missing),
        Some(7003) => Some(Why::Account),
        // Of any request that is not understood; only of an id is it known what to do.
        Some(7400) if text.is_empty() || says(&["decode id", "uuid"]) => Some(Why::Account),
        Some(7403 | 10_000) => Some(Why::Credentials),
        _ => None,
    };
    if let Some(why) = by_code {
        return Meaning::Refusal(why);
    }
    let statement = engine_words(text);
    if statement.code.is_some() || ENGINE.iter().any(|start| statement.message.starts_with(start)) {
        return match statement.code.as_deref() {
            Some("SQLITE_FULL") => Meaning::Refusal(Why::Quota),
            Some(code) if is_no_verdict(code) => Meaning::Refusal(Why::Failing(retry_after)),
            _ => Meaning::Statement(statement),
        };
    }
    Meaning::Refusal(if says(&["long-running export"]) {
        Why::Exporting
    } else if says(OVERLOADED) {
        Why::Overloaded
    } else if says(FAILING) {
        Why::Failing(retry_after)
    } else if says(QUOTA) {
        Why::Quota
    } else {
        match status {
            401 | 403 => Why::Credentials,
            404 => Why::Missing,
            408 | 500..=599 => Why::Failing(retry_after),
            413 => Why::TooLarge,
            // Refused before the engine looked at it: no statement, parameters that do not fit.
            200 | 400 if code == Some(STATEMENT) && !text.is_empty() => {
                return Meaning::Statement(statement);
            }
            _ => Why::Other,
        }
    })
}

/// `text` without what servers put before it and with the code split off:
/// `UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)`.
fn engine_words(text: &str) -> StatementError {
    let mut text = text;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    match split_code(text) {
        Some((message, code)) => StatementError::new(message, Some(code.to_owned())),
        None => StatementError::new(text, None),
    }
}

/// The words and the most exact code behind them. A trigger may say anything in its own words, so
/// only what is last is a code.
fn split_code(text: &str) -> Option<(&str, &str)> {
    let extended = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (extended: "));
    let (message, base) = extended.map_or(text, |(head, _)| head).rsplit_once(": ")?;
    let code = extended.map_or(base, |(_, code)| code);
    (is_code(base) && is_code(code)).then_some((message, code))
}

const PREFIXES: [&str; 3] = ["D1_ERROR: ", "D1_EXEC_ERROR: ", "D1_TYPE_ERROR: "];

fn is_code(text: &str) -> bool {
    text.starts_with("SQLITE_")
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Codes that say nothing of the statement, but of the machine it ran on.
fn is_no_verdict(code: &str) -> bool {
    ["SQLITE_IOERR", "SQLITE_NOMEM", "SQLITE_INTERRUPT", "SQLITE_BUSY", "SQLITE_LOCKED"]
        .iter()
        .any(|base| code.starts_with(base))
}

/// How the engine begins to speak of a statement. Its code is not always told.
const ENGINE: &[&str] = &[
    "UNIQUE constraint failed",
    "NOT NULL constraint failed",
    "CHECK constraint failed",
    "FOREIGN KEY constraint failed",
    "no such table",
    "no such column",
    "no such function",
    "near \"",
];

/// In line and never taken from it (<https://developers.cloudflare.com/d1/observability/debug-d1/>).
const OVERLOADED: &[&str] = &["requests queued for too long", "too many requests queued"];

/// From the same page. What ran until then is not said.
const FAILING: &[&str] = &[
    "internal error",
    "network connection lost",
    "reset because its code was updated",
    "to be reset",
    "cannot resolve d1 db",
    "can't read from request stream",
    "exceeded timeout",
    "exceeded its memory limit",
    "exceeded its cpu time limit",
    "overloaded",
];

const QUOTA: &[&str] = &[
    "exceeded maximum db size",
    "quota",
    "daily",
    "free tier",
    "free-tier",
    "storage limit",
    "limit reached",
    "maximum number of databases",
];

#[cfg(test)]
mod tests;
