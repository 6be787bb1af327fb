//! What can go wrong with D1.

use std::time::Duration;

use crate::{
    d1::envelope,
    fault::{self, Canned},
};

/// Which requests meet a fault.
pub type Rule = fault::Rule<Fault>;

/// The rules of an account.
pub type Faults = fault::Faults<Fault>;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This is answered, and nothing is done.
    Answer(Canned),
    /// It is done, and this is answered; [`Fault::but_done`] makes it.
    Instead(Canned),
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
    /// It is not done. The status is 200 and the envelope says success; the result of this
    /// statement, counted from 0, says that it failed, and why.
    FailedResult(usize, String),
    /// It is not done. The database is not visible yet: a list is empty, all else is 404.
    Hidden,
}

impl Fault {
    /// An error in Cloudflare's envelope.
    pub fn error(status: u16, code: u32, message: &str) -> Self {
        Self::Answer(envelope::error(status, code, message))
    }

    /// 500 with the code 7500, as the service answers when something of it is out of order.
    pub fn internal() -> Self {
        Self::error(500, 7500, "internal error; reference = 0123456789abcdefghijklmn")
    }

    /// 400 with the code 7500, as the database answers that has too much to do.
    pub fn overloaded() -> Self {
        Self::error(400, 7500, "D1 DB is overloaded. Too many requests queued.")
    }

    /// 200 with an envelope that says failure.
    pub fn failed_envelope(code: u32, message: &str) -> Self {
        Self::error(200, code, message)
    }

    /// 429, with `Retry-After` and `x-ratelimit-reset` in seconds. The requests after it are
    /// served; a token that is blocked is what [`RateLimit`](crate::d1::RateLimit) makes.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        let mut canned = envelope::error(429, TOO_MANY, TOO_MANY_MESSAGE);
        for name in ["retry-after", "x-ratelimit-reset"] {
            canned.headers.push((name.to_owned(), retry_after_seconds.to_string()));
        }
        Self::Answer(canned)
    }

    /// 400 with the code 7406: the account has as many databases as it may have.
    pub fn quota() -> Self {
        let message = "You have reached the maximum number of D1 databases for your account";
        Self::error(400, 7406, message)
    }

    /// The same answer, but the request is done: a create that worked and was told as a failure.
    /// What is no [`Fault::Answer`] stays what it is.
    #[must_use]
    pub fn but_done(self) -> Self {
        match self {
            Self::Answer(canned) => Self::Instead(canned),
            other => other,
        }
    }

    /// A page of HTML, as proxies answer.
    pub fn html(status: u16) -> Self {
        Self::Answer(fault::html(status))
    }
}

/// The code of 429; which one the service has is not documented.
pub(crate) const TOO_MANY: u32 = 971;
pub(crate) const TOO_MANY_MESSAGE: &str = "Please wait and consider throttling your request speed";
