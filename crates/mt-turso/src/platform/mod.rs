//! The control plane: the service's Platform API.

mod credentials;
mod data;
mod databases;
mod error;
mod groups;
mod limits;
mod refusal;
mod transport;
mod types;
mod wire;

use std::{fmt, sync::Arc};

use mt_core::{Error, ErrorKind, Result, Secret};
use mt_remote::Endpoint;
use reqwest::Client;
use url::Url;

use self::{
    error::{Action, Cause, Subject},
    transport::{Call, Transport},
};
pub use self::{
    limits::PlatformLimits,
    types::{
        Authorization, Configuration, ConfigurationChange, CreateDatabase, Creation, Database,
        DatabaseFilter, Engine, Expiration, Group, Instance, Parent, Seed, TokenScope, Usage,
    },
};
use crate::NAME;

/// A client of the Platform API, for one organization. Cheap to clone; clones share its limits.
///
/// - **Repetition.** What may be done twice is repeated after 429, 5xx, an answer that is not the
///   service's and a lost connection, with growing delays and jitter, until
///   [`PlatformLimits::deadline`]. `Retry-After` is honoured up to
///   [`PlatformLimits::longest_wait`]; after a 429 that carries one, all requests of the client
///   wait.
/// - **Cancelling** (dropping the future) may leave a change done that nobody was told of. Every
///   method but [`rotate`](Self::rotate) may be called again.
/// - **Time.** At most [`PlatformLimits::deadline`] per call, a page of a list included;
///   [`upload`](Self::upload) and [`dump`](Self::dump) have [`PlatformLimits::transfer_timeout`].
/// - **Secrets.** The token is sent to the endpoint given, nowhere else, and is in no error and no
///   `Debug`. It opens no database: [`mint_token`](Self::mint_token) makes one that does.
///
/// # Errors
/// Those of every method; each lists only what it adds.
///
/// | kind | when | transient |
/// |---|---|---|
/// | `Unavailable` | no connection, 429, 5xx, a timeout, an answer that is not the service's | yes |
/// | `Unauthenticated` | the token was refused, or may not do this | no |
/// | `QuotaExceeded` | a limit of the plan (402, or words to that effect) | no |
/// | `Config` | a name the service cannot have, or a group that is not there | no |
/// | `TenantNotFound` | the database is not there | no |
/// | `Internal` | an answer of the service that cannot be understood, a refusal of no known kind | no |
///
/// # Branches and points in time
/// Both are new databases that start with another's content. They count against the plan, have
/// host names and tokens of their own, and stay until they are deleted.
///
/// ```no_run
/// # async fn example(platform: mt_turso::PlatformClient) -> mt_core::Result<()> {
/// use mt_turso::{CreateDatabase, Seed};
///
/// // As it is now: a branch to try a migration on.
/// let branch = Seed::database("shop-acme");
/// platform.create_database(&CreateDatabase::new("try-acme", "default").with_seed(branch)).await?;
///
/// // As it was an hour ago, beside the one that is there.
/// let then = chrono::Utc::now() - chrono::TimeDelta::hours(1);
/// let past = Seed::point_in_time("shop-acme", then);
/// let create = CreateDatabase::new("acme-restored", "default").with_seed(past);
/// let restored = platform.create_database(&create).await?.database;
/// println!("reached at {}", restored.hostname);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PlatformClient(Arc<Inner>);

struct Inner {
    transport: Transport,
    endpoint: Endpoint,
    organization: String,
}

impl PlatformClient {
    /// A client of `organization` at `endpoint`, usually `https://api.turso.tech`. Does no I/O.
    ///
    /// # Errors
    /// `Config`: the organization or the token is empty or cannot be one, or a limit is 0.
    pub fn new(
        http: Client,
        endpoint: Endpoint,
        organization: impl Into<String>,
        token: Secret,
        limits: PlatformLimits,
    ) -> Result<Self> {
        let refused = |text: &str| Err(Error::new(ErrorKind::Config, text).with_provider(NAME));
        let organization = organization.into();
        if !is_segment(&organization) {
            return refused("the organization is no slug, such as `acme`");
        }
        // What a header may hold; a line break is what a file of secrets ends with.
        if token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return refused("the platform token is empty or holds blanks");
        }
        limits.check()?;
        let transport = Transport::new(http, token, limits);
        Ok(Self(Arc::new(Inner { transport, endpoint, organization })))
    }

    /// The organization whose databases these are.
    pub fn organization(&self) -> &str {
        &self.0.organization
    }

    /// Where the database with `hostname` is reached: by https, or by http where the platform is
    /// itself reached so, which can only be on this machine.
    ///
    /// # Errors
    /// `Config`: it is no host name, or that of another machine and the platform is on this one.
    pub fn data_endpoint(&self, hostname: &str) -> Result<Endpoint> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if hostname.is_empty() || !hostname.chars().all(is_name) {
            let text = "the host name of the database is not one";
            return Err(Error::new(ErrorKind::Config, text).with_provider(NAME));
        }
        let scheme = self.0.endpoint.as_url().scheme();
        Endpoint::new(&format!("{scheme}://{hostname}")).map_err(|e| e.with_provider(NAME))
    }

    /// The URL of `segments` under the organization.
    fn url<'s>(&'s self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let base = ["v1", "organizations", &self.0.organization];
        self.0.endpoint.join(base.into_iter().chain(segments))
    }

    fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// An operation on a database of the organization.
    fn on_database(&self, verb: &'static str, name: &str) -> Result<Call> {
        self.on(Action::new(verb, Subject::Database(name.to_owned())), name)
    }

    fn on_group(&self, verb: &'static str, name: &str) -> Result<Call> {
        self.on(Action::new(verb, Subject::Group(name.to_owned())), name)
    }

    fn on(&self, action: Action, name: &str) -> Result<Call> {
        let call = self.transport().call(action);
        if is_segment(name) {
            return Ok(call);
        }
        Err(call.failed(Cause::Setting("there is no such name".to_owned())).into())
    }
}

/// Whether `name` is one segment of a path, and not the path itself or the one above.
fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.chars().all(|c| c.is_ascii_graphic() && c != '/')
}

impl fmt::Debug for PlatformClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformClient")
            .field("endpoint", &self.0.endpoint)
            .field("organization", &self.0.organization)
            .field("transport", &self.0.transport)
            .finish_non_exhaustive()
    }
}
