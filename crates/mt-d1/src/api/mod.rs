//! D1's REST API.

mod databases;
mod envelope;
mod error;
mod excerpt;
mod export;
mod limits;
mod list;
mod refusal;
mod statements;
mod time_travel;
mod transport;
mod types;

use std::{fmt, sync::Arc};

use mt_core::{Error, ErrorKind, Result, Secret};
use mt_remote::Endpoint;
use reqwest::Client;
use url::Url;

pub(crate) use self::statements::Target;
use self::transport::Transport;
pub use self::{
    limits::ApiLimits,
    types::{Bookmark, CreateDatabase, Creation, Database, PointInTime},
};
use crate::{NAME, budget::Budget};

/// A client of D1's REST API, for one account and token. Cheap to clone; clones share its budget.
///
/// - **Budget.** Every request waits for the token's [`Budget`] first, and every answer is told to
///   it. A request that the service did not look at, because there were too many, goes through the
///   budget again, which makes everybody wait.
/// - **Repetition.** What may be done twice is repeated while the service fails, a few times, with
///   growing delays and jitter, until [`ApiLimits::deadline`]; what may not, only where it was
///   certainly not done.
/// - **Success** is what status, envelope and every result in it say, all of them.
/// - **Cancelling** (dropping the future) may leave a change done that nobody was told of.
/// - **Secrets.** The token is sent to the endpoint given, nowhere else; no redirect is followed.
///   Neither it, nor where an export is, nor a bound value is in an error or in `Debug`, unless
///   the engine itself quotes a value in its words on a statement.
///
/// # Errors
/// Those of every method; each lists only what it adds.
///
/// | kind | when | transient |
/// |---|---|---|
/// | `Unavailable` | no connection, too many requests, 5xx, a timeout, an answer that is not the service's | yes |
/// | `Unauthenticated` | the token was refused, or may not do this | no |
/// | `QuotaExceeded` | a limit of the account or of the database is reached | no |
/// | `Config` | no such account, an id that is none, an endpoint that redirects | no |
/// | `TenantNotFound` | the database is not there | no |
/// | `Internal` | an answer of the service that cannot be understood, a refusal of no known kind | no |
#[derive(Clone)]
pub struct D1Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    endpoint: Endpoint,
    account: String,
}

impl D1Client {
    /// A client that sends with `token`, within `budget`.
    pub(crate) fn new(
        http: Client,
        endpoint: Endpoint,
        account: &str,
        token: Secret,
        budget: Arc<Budget>,
    ) -> Self {
        let transport = Transport::new(http, token, ApiLimits::default(), budget);
        Self(Arc::new(Inner { transport, endpoint, account: account.to_owned() }))
    }

    /// A client of `account` at `endpoint`, usually `https://api.cloudflare.com/client/v4`, that
    /// sends with `token`, within `budget`. Does no I/O.
    ///
    /// # Errors
    /// `Config`: the account or the token is empty or cannot be one, or a limit is 0.
    pub fn of_account(
        http: Client,
        endpoint: Endpoint,
        account: &str,
        token: Secret,
        budget: Arc<Budget>,
        limits: ApiLimits,
    ) -> Result<Self> {
        let refused = |text: &str| Err(Error::new(ErrorKind::Config, text).with_provider(NAME));
        if !is_segment(account) {
            return refused("the account is no id; expected 32 hexadecimal digits");
        }
        // What a header may hold; a line break is what a file of secrets ends with.
        if token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return refused("the API token is empty or holds blanks");
        }
        Self::new(http, endpoint, account, token, budget).with_limits(limits)
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// `Config`: a limit is 0.
    pub fn with_limits(&self, limits: ApiLimits) -> Result<Self> {
        limits.check()?;
        let Inner { transport, endpoint, account } = &*self.0;
        let transport = transport.with_limits(limits);
        let (endpoint, account) = (endpoint.clone(), account.clone());
        Ok(Self(Arc::new(Inner { transport, endpoint, account })))
    }

    /// The URL of `segments` under the account's databases.
    fn url<const N: usize>(&self, segments: [&str; N]) -> Url {
        let base = ["accounts", &self.0.account, "d1", "database"];
        self.0.endpoint.join(base.into_iter().chain(segments))
    }

    fn transport(&self) -> &Transport {
        &self.0.transport
    }
}

/// Whether `text` can be one segment of a path, and not the path itself or the one above.
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

/// Whether `text` has the form of an id, `8-4-4-4-12` hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

impl fmt::Debug for D1Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("D1Client")
            .field("endpoint", &self.0.endpoint)
            .field("account", &self.0.account)
            .field("limits", &self.0.transport.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
