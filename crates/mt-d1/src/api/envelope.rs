//! What is around every answer of the service.

use std::time::Duration;

use mt_core::Secret;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    error::Cause,
    excerpt::excerpt,
    refusal::{self, Entry},
};

/// An answer that says of itself that it is a success. What is in it may say otherwise.
#[derive(Debug, Deserialize)]
pub(super) struct Success<T> {
    success: bool,
    pub(super) result: Option<T>,
    #[serde(rename = "result_info")]
    pub(super) page: Option<PageInfo>,
}

/// Which part of a list an answer is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct PageInfo {
    pub(super) per_page: Option<usize>,
    pub(super) total_count: Option<usize>,
}

impl<T> Success<T> {
    /// What was asked for.
    pub(super) fn needed(self) -> Result<T, Cause> {
        self.result.ok_or_else(|| Cause::Malformed("it has no result".to_owned()))
    }
}

/// As much of an answer as tells whether it is a success.
#[derive(Deserialize)]
struct Head {
    success: Option<bool>,
    #[serde(default)]
    errors: Option<Vec<Entry>>,
}

/// Reads an answer. It is a success only if status, envelope and form agree.
pub(super) fn read<T: DeserializeOwned>(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    token: &Secret,
) -> Result<Success<T>, Cause> {
    if (300..400).contains(&status) {
        return Err(Cause::Redirected(status));
    }
    let is_success = (200..300).contains(&status);
    // Once for nearly every answer; the others are short.
    let whole = if is_success {
        match serde_json::from_slice::<Success<T>>(body) {
            Ok(answer) if answer.success => return Ok(answer),
            Ok(_) => None,
            Err(error) => Some(error),
        }
    } else {
        None
    };
    let Ok(head) = serde_json::from_slice::<Head>(body) else {
        // What these mean does not depend on the words, and gateways say them too.
        if matches!(status, 401 | 403 | 413 | 429) {
            return Err(refusal::read(status, retry_after, &[], token));
        }
        return Err(Cause::NotJson { status, excerpt: excerpt(body, token) });
    };
    match (head.success, whole) {
        (Some(true), Some(error)) => Err(malformed(&error)),
        (None, Some(_)) if is_success => {
            Err(Cause::Malformed("it does not say whether it is a success".to_owned()))
        }
        _ => Err(refusal::read(status, retry_after, &head.errors.unwrap_or_default(), token)),
    }
}

/// Where an answer stops making sense. The error of serde quotes values, and may so quote a row.
fn malformed(error: &serde_json::Error) -> Cause {
    let what = match error.classify() {
        serde_json::error::Category::Data => "something is missing or of another type",
        _ => "it is no JSON",
    };
    Cause::Malformed(format!("{what} at line {}, column {}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use mt_remote::StatementError;

    use super::{super::refusal::Why, *};

    fn read_of(status: u16, body: &str) -> Result<u64, Cause> {
        read(status, None, body.as_bytes(), &Secret::new("api-token")).and_then(Success::needed)
    }

    #[test]
    fn only_a_whole_success_is_one() {
        assert_eq!(read_of(200, r#"{"success":true,"errors":[],"result":7}"#).unwrap(), 7);
        for (status, body) in [
            (200, r#"{"success":true,"result":null}"#),
            (200, r#"{"success":true}"#),
            (200, r#"{"success":true,"result":"a row"}"#),
            (200, r#"{"result":7}"#),
            (200, r#"{"success":null,"result":7}"#),
        ] {
            let cause = read_of(status, body).unwrap_err();
            assert!(matches!(&cause, Cause::Malformed(_)), "{status} {body}: {cause}");
            assert!(!cause.to_string().contains("a row"));
        }
        for (status, body) in [
            (200, ""),
            (200, r#"{"success":true,"result":7"#),
            (200, "<html>"),
            (504, "<html>"),
            (404, "<html>"),
            (500, "7"),
            (502, ""),
        ] {
            let cause = read_of(status, body).unwrap_err();
            assert!(matches!(&cause, Cause::NotJson { .. }), "{status} {body}: {cause}");
        }
    }

    #[test]
    fn a_status_and_an_envelope_that_disagree_are_no_success() {
        for (status, body, expected) in [
            (200, r#"{"success":false,"errors":[{"code":7404}],"result":7}"#, Why::Missing),
            (200, r#"{"success":false,"errors":null,"result":[]}"#, Why::Other),
            (200, r#"{"success":false}"#, Why::Other),
            (500, r#"{"success":true,"result":7}"#, Why::Failing(None)),
            (404, r#"{"success":false,"errors":[]}"#, Why::Missing),
            (429, "<html>", Why::Overrun(None)),
            (403, "<html>", Why::Credentials),
        ] {
            assert_eq!(read_of(status, body).unwrap_err().why(), Some(expected), "{status} {body}");
        }
        let said = r#"{"success":false,"errors":[{"code":7500,"message":"no such table: t: SQLITE_ERROR"}]}"#;
        let Cause::Statement(error) = read_of(200, said).unwrap_err() else {
            panic!("a statement")
        };
        assert_eq!(error, StatementError::new("no such table: t", Some("SQLITE_ERROR".into())));
        assert!(matches!(read_of(302, "").unwrap_err(), Cause::Redirected(302)));
    }
}
