//! What can be chosen of a platform, and how it starts.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    Sqld,
    background::{Background, listen},
    turso::{
        Turso, api,
        front::{Front, Kind},
        gateway,
        platform::Platform,
    },
    wire,
};

/// What can be chosen of a [`Turso`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct TursoBuilder {
    organization: String,
    group: String,
    quota: Option<usize>,
    is_direct: bool,
}

impl Default for TursoBuilder {
    fn default() -> Self {
        let [organization, group] = ["acme", "default"].map(str::to_owned);
        Self { organization, group, quota: None, is_direct: false }
    }
}

impl TursoBuilder {
    /// The slug of the organization; by default `acme`.
    pub fn organization(mut self, slug: impl Into<String>) -> Self {
        self.organization = slug.into();
        self
    }

    /// The group that is there from the start; by default `default`.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = name.into();
        self
    }

    /// How many databases there may be; by default any number.
    pub fn quota(mut self, databases: usize) -> Self {
        self.quota = Some(databases);
        self
    }

    /// Tells sqld's own port as the databases', so that a bench measures no gateway. Then there
    /// are no faults, no counts and no upload on the data plane.
    pub fn direct(mut self) -> Self {
        self.is_direct = true;
        self
    }

    /// Starts.
    ///
    /// # Errors
    /// sqld cannot be fetched or started.
    pub async fn start(self) -> anyhow::Result<Turso> {
        let ((platform, api), background) = Background::start(|| self.serve()).await?;
        Ok(Turso { platform, api, _background: background })
    }

    async fn serve(self) -> anyhow::Result<(Arc<Platform>, SocketAddr)> {
        let sqld = Sqld::start().await?;
        let api = listen().await?;
        let data = listen().await?;
        let address = api.local_addr()?;
        let port = if self.is_direct { sqld.port() } else { data.local_addr()?.port() };
        let platform = Platform::new(self.organization, self.group, self.quota, port, sqld)?;
        let platform = Arc::new(platform);
        let front = |kind, router| Front { kind, router, platform: Arc::clone(&platform) };
        let router = api::router(Arc::clone(&platform));
        tokio::spawn(wire::serve(front(Kind::Api, router), api));
        if !self.is_direct {
            let router = gateway::router(Arc::clone(&platform))?;
            tokio::spawn(wire::serve(front(Kind::Data, router), data));
        }
        Ok((platform, address))
    }
}
