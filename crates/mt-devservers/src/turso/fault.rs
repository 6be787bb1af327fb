//! What can go wrong with Turso.

use std::time::Duration;

use crate::fault::{self, Canned, content_type};

/// Which requests meet a fault.
pub type Rule = fault::Rule<Fault>;

/// The rules of one plane.
pub type Faults = fault::Faults<Fault>;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This is answered, and nothing is done.
    Answer(Canned),
    /// It is done and answered as ever, but so much later.
    Slow(Duration),
    /// It is done at once, and answered so much later: for most clients a timeout of something
    /// that worked.
    Late(Duration),
    /// It is done; of the answer only the first half arrives, then the connection is cut.
    Torn,
    /// It is done; the connection is closed without an answer.
    Dropped,
    /// It is not done; the connection is closed without an answer.
    Refused,
    /// It is done; the answer is JSON of a shape that nobody expects.
    WrongJson,
    /// It is done twice, as a proxy does that tries again; the second answer is given.
    Repeated,
    /// On the API, a token that is minted was signed with a key that is no longer valid. On the
    /// data plane, the token of the request is such a one.
    StaleToken,
    /// The same with a token that expired an hour ago and is valid otherwise.
    ExpiredToken,
}

impl Fault {
    /// An error in the form of the service, `{"error": message}`.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({"error": message}).to_string();
        Self::Answer(Canned { status, headers: vec![content_type("application/json")], body })
    }

    /// 429, with `Retry-After` in seconds.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        let body = r#"{"error":"too many requests"}"#.to_owned();
        let wait = ("retry-after".to_owned(), retry_after_seconds.to_string());
        let headers = vec![content_type("application/json"), wait];
        Self::Answer(Canned { status: 429, headers, body })
    }

    /// A page of HTML, as proxies answer.
    pub fn html(status: u16) -> Self {
        Self::Answer(fault::html(status))
    }
}
