//! What can be chosen of an account, and how it starts.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use uuid::Uuid;

use crate::{
    Workerd,
    background::{Background, listen},
    call::Requests,
    d1::{
        D1, Faults, Rate, RateLimit,
        front::{Front, Site},
    },
    http, wire,
    workerd::Worker,
};

const CONFIG: &str = include_str!("workerd.capnp");
const MODULES: &[(&str, &str)] = &[
    ("main.js", include_str!("worker/main.js")),
    ("api.js", include_str!("worker/api.js")),
    ("copy.js", include_str!("worker/copy.js")),
    ("database.js", include_str!("worker/database.js")),
    ("databases.js", include_str!("worker/databases.js")),
    ("dump.js", include_str!("worker/dump.js")),
    ("files.js", include_str!("worker/files.js")),
    ("jobs.js", include_str!("worker/jobs.js")),
    ("query.js", include_str!("worker/query.js")),
    ("registry.js", include_str!("worker/registry.js")),
    ("reply.js", include_str!("worker/reply.js")),
    ("split.js", include_str!("worker/split.js")),
    ("state.js", include_str!("worker/state.js")),
    ("travel.js", include_str!("worker/travel.js")),
];

/// How long a job may go unasked for before it is cancelled. What the service allows is not
/// documented.
const JOB_PATIENCE: Duration = Duration::from_secs(5);

/// What can be chosen of a [`D1`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct D1Builder {
    rate_limit: Option<RateLimit>,
    quota: Option<usize>,
    is_direct: bool,
    history: Option<bool>,
    job_polls: u32,
    job_patience: Duration,
}

impl Default for D1Builder {
    fn default() -> Self {
        Self {
            rate_limit: None,
            quota: None,
            is_direct: false,
            history: None,
            job_polls: 1,
            job_patience: JOB_PATIENCE,
        }
    }
}

impl D1Builder {
    /// How many requests the token has; by default any number, and then no reply speaks of it.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// How many databases there may be; by default any number.
    pub fn quota(mut self, databases: usize) -> Self {
        self.quota = Some(databases);
        self
    }

    /// Tells workerd's own port, so that a bench measures no front. Then there are no faults, no
    /// counts and no rate limit, and by default no [history](Self::history).
    pub fn direct(mut self, is_direct: bool) -> Self {
        self.is_direct = is_direct;
        self
    }

    /// Whether each write first takes a copy of a database of up to 512 KiB, so that time travel
    /// finds it; by default it does. Without, there are the versions whose bookmark was told.
    pub fn history(mut self, is_kept: bool) -> Self {
        self.history = Some(is_kept);
        self
    }

    /// How often an export or an import has to be asked for until it is complete; by default once.
    pub fn job_polls(mut self, polls: u32) -> Self {
        self.job_polls = polls;
        self
    }

    /// How long an export or an import waits to be asked for before it is cancelled; by default 5
    /// seconds.
    pub fn job_patience(mut self, patience: Duration) -> Self {
        self.job_patience = patience;
        self
    }

    /// Starts.
    ///
    /// # Errors
    /// workerd cannot be fetched or started.
    pub async fn start(self) -> anyhow::Result<D1> {
        let ((site, address), background) = Background::start(|| self.serve()).await?;
        Ok(D1 { site, address, _background: background })
    }

    async fn serve(self) -> anyhow::Result<(Arc<Site>, SocketAddr)> {
        let account = Uuid::new_v4().simple().to_string();
        let token = format!("d1-{}", Uuid::new_v4().simple());
        let settings = json!({
            "account": account,
            "token": token,
            "quota": self.quota,
            "history": self.history.unwrap_or(!self.is_direct),
            "job_polls": self.job_polls,
            "job_patience_ms": u64::try_from(self.job_patience.as_millis()).unwrap_or(u64::MAX),
        });
        let worker = Worker { config: CONFIG, modules: MODULES, settings };
        let site = Arc::new(Site {
            account,
            token,
            workerd: Workerd::start(worker).await?,
            // One connection a request: an answer that is cut meets no other request.
            client: http::client().pool_max_idle_per_host(0).build()?,
            faults: Faults::default(),
            requests: Requests::default(),
            rate: Rate::new(self.rate_limit),
            names: HashMap::new().into(),
        });
        if self.is_direct {
            let port = site.workerd.port();
            return Ok((site, (Ipv4Addr::LOCALHOST, port).into()));
        }
        let listener = listen().await?;
        let address = listener.local_addr()?;
        tokio::spawn(wire::serve(Front { site: Arc::clone(&site) }, listener));
        Ok((site, address))
    }
}
