//! Cloudflare D1: its REST API over the engine it runs on.

mod builder;
mod envelope;
mod fault;
mod front;
mod kind;
mod rate;

use std::{fmt, net::SocketAddr, sync::Arc};

pub use builder::D1Builder;
pub use fault::{Fault, Faults, Rule};
pub use kind::Kind;
pub use rate::{Rate, RateLimit, RateStyle};

pub use crate::{
    call::{Call, Requests},
    fault::{Canned, Hits},
};

use crate::{Workerd, background::Background, d1::front::Site};

/// An account of our own: its D1 API, and its databases in a real workerd behind a front.
///
/// Everything listens on 127.0.0.1, runs on threads of its own, so that a test's runtime neither
/// starves it nor ends it, and is gone when this value is dropped or its process ends.
pub struct D1 {
    site: Arc<Site>,
    address: SocketAddr,
    _background: Background,
}

impl D1 {
    /// Starts with the defaults of [`D1Builder`].
    ///
    /// # Errors
    /// workerd cannot be fetched or started.
    pub async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen.
    pub fn builder() -> D1Builder {
        D1Builder::default()
    }

    /// The base of the API, with its `/client/v4`.
    pub fn api_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// The API token.
    pub fn api_token(&self) -> &str {
        &self.site.token
    }

    /// The id of the account: 32 hexadecimal digits.
    pub fn account_id(&self) -> &str {
        &self.site.account
    }

    /// The settings with which another process finds this one.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MT_D1__API_URL", self.api_url()),
            ("MT_D1__API_TOKEN", self.api_token().to_owned()),
            ("MT_D1__ACCOUNT_ID", self.account_id().to_owned()),
        ]
    }

    /// The server behind, to kill and to restart.
    pub fn workerd(&self) -> &Workerd {
        &self.site.workerd
    }

    /// What goes wrong; nothing when it is [direct](D1Builder::direct).
    pub fn faults(&self) -> &Faults {
        &self.site.faults
    }

    /// What was asked; nothing is known when it is [direct](D1Builder::direct).
    pub fn requests(&self) -> &Requests {
        &self.site.requests
    }

    /// The rate limit of the token, and what is left of it.
    pub fn rate(&self) -> &Rate {
        &self.site.rate
    }
}

impl fmt::Debug for D1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("D1").field("address", &self.address).finish_non_exhaustive()
    }
}
