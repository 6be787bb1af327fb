//! What the service says when it does not do what it is told. The status alone does not tell:
//! a duplicate is 400, 409 or 422, and a plan's limit may be any of them.

use std::{fmt, time::Duration};

use mt_core::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::error::Cause;
use crate::excerpt::excerpt;

/// Why the service refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Credentials,
    Plan,
    Missing,
    Taken,
    UnknownGroup,
    Asleep,
    Protected,
    /// Too many requests: this one was not looked at.
    Overrun(Option<Duration>),
    /// The service's own fault: what became of the request is not said.
    Failing(Option<Duration>),
    Other,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Credentials => "the credentials were refused",
            Self::Plan => "a limit of the plan is reached",
            Self::Missing => "there is none",
            Self::Taken => "the name is taken",
            Self::UnknownGroup => "there is no such group",
            Self::Asleep => "its group sleeps",
            Self::Protected => "it is protected from deletion; switch delete protection off first",
            Self::Overrun(after) => return busy(f, "there were too many requests", *after),
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

/// The service's own words, shortened and without anything secret.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    text: String,
    code: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.text.is_empty() {
            write!(f, ", `{}`", self.text)?;
        }
        match &self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

/// `{"error": string or object, "code"?: string}`; the data plane says `message`.
#[derive(Deserialize)]
struct Body {
    error: Option<Value>,
    message: Option<Value>,
    code: Option<Value>,
}

/// Reads an answer whose status is no success.
pub(super) fn read(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    secret: &Secret,
) -> Cause {
    let parsed: Option<Body> = serde_json::from_slice(body).ok();
    // A gateway that knows no such path must not pass for a service that knows no such database.
    if status == 404 && parsed.is_none() {
        return Cause::NotJson { status, excerpt: excerpt(body, secret) };
    }
    let refusal = match parsed {
        Some(Body { error, message, code }) => {
            let quoted = |value: Value| match value {
                Value::String(text) => excerpt(text.as_bytes(), secret),
                other => excerpt(other.to_string().as_bytes(), secret),
            };
            let text = error.or(message).map(quoted).unwrap_or_default();
            Refusal { status, text, code: code.map(quoted) }
        }
        None => Refusal { status, text: excerpt(body, secret), code: None },
    };
    Cause::Refused { why: why(&refusal, retry_after), refusal }
}

fn why(refusal: &Refusal, retry_after: Option<Duration>) -> Why {
    let code = refusal.code.as_deref().unwrap_or_default();
    let words = format!("{} {code}", refusal.text).to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    // Before the status: the service was seen to say it in more than one way.
    if words.contains("group") && says(&["is sleeping", "is archived", "group_sleeping"]) {
        return Why::Asleep;
    }
    match refusal.status {
        429 => Why::Overrun(retry_after),
        408 | 500..=599 => Why::Failing(retry_after),
        402 => Why::Plan,
        400..=499 if says(PLAN) => Why::Plan,
        400..=499 if says(&["protect"]) && says(&["delet"]) => Why::Protected,
        401 | 403 => Why::Credentials,
        400 | 404 | 422 if says(&["group not found", "group_not_found"]) => Why::UnknownGroup,
        404 => Why::Missing,
        409 => Why::Taken,
        400 | 422 if says(&["already exists", "not available"]) => Why::Taken,
        _ => Why::Other,
    }
}

/// Words of plans and their limits, such as `feature_not_available_for_starter_plan`.
const PLAN: &[&str] = &[
    "_plan",
    "your plan",
    "plan limit",
    "quota",
    "limit reached",
    "limit exceeded",
    "reached the limit",
    "exceeds the limit",
    "maximum number of",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn why_of(status: u16, body: &str) -> Option<Why> {
        read(status, None, body.as_bytes(), &Secret::new("platform-token")).why()
    }

    #[test]
    fn words_and_status_tell_refusals_apart() {
        for (status, body, expected) in [
            (401, r#"{"error":"unauthorized"}"#, Why::Credentials),
            (403, "<html>", Why::Credentials),
            (402, r#"{"error":"payment required"}"#, Why::Plan),
            (403, r#"{"error":"no","code":"feature_not_available_for_starter_plan"}"#, Why::Plan),
            (400, r#"{"error":"databases limit reached"}"#, Why::Plan),
            (404, r#"{"error":"could not find database"}"#, Why::Missing),
            (400, r#"{"error":"group not found"}"#, Why::UnknownGroup),
            (409, "{}", Why::Taken),
            (400, r#"{"error":"database with same name already exists"}"#, Why::Taken),
            (422, r#"{"error":{"message":"name is not available"}}"#, Why::Taken),
            (400, r#"{"error":"bad expiration"}"#, Why::Other),
            (403, r#"{"error":"database has delete protection enabled"}"#, Why::Protected),
            (400, r#"{"error":"database is protected from deletion"}"#, Why::Protected),
            (401, r#"{"error":"this resource is protected"}"#, Why::Credentials),
            (
                500,
                r#"{"error":"cannot create database on group g because it is sleeping"}"#,
                Why::Asleep,
            ),
            (429, "", Why::Overrun(None)),
            (502, "<html>bad gateway</html>", Why::Failing(None)),
        ] {
            assert_eq!(why_of(status, body), Some(expected), "{status} {body}");
        }
    }

    #[test]
    fn a_gateways_404_is_not_the_services() {
        assert_eq!(why_of(404, "<html>no such page</html>"), None);
        assert_eq!(why_of(404, ""), None);
    }
}
