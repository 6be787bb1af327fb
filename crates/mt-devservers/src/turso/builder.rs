//! What can be chosen of a platform, and how it starts.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
};

use anyhow::{Context as _, anyhow};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    Sqld,
    turso::{
        Turso, api,
        front::{Front, Kind},
        gateway,
        platform::Platform,
    },
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
        let (report, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mt-devservers".to_owned())
            .spawn(move || self.run(report, stopped))
            .context("no thread for the platform")?;
        let background = Background { stop: Some(stop), thread: Some(thread) };
        let (platform, api) =
            started.await.map_err(|gone| anyhow!("the platform ended at once: {gone}"))??;
        Ok(Turso { platform, api, _background: background })
    }

    /// Serves until it is told to stop, or its holder is gone.
    fn run(
        self,
        report: oneshot::Sender<anyhow::Result<(Arc<Platform>, SocketAddr)>>,
        stopped: oneshot::Receiver<()>,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("mt-devservers")
            .enable_all()
            .build();
        let runtime = match runtime.context("no runtime for the platform") {
            Ok(runtime) => runtime,
            Err(error) => {
                let _nobody_waits = report.send(Err(error));
                return;
            }
        };
        runtime.block_on(async move {
            let _nobody_waits = report.send(self.serve().await);
            let _ended = stopped.await;
        });
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
        tokio::spawn(front(Kind::Api, router).serve(api));
        if !self.is_direct {
            let router = gateway::router(Arc::clone(&platform))?;
            tokio::spawn(front(Kind::Data, router).serve(data));
        }
        Ok((platform, address))
    }
}

async fn listen() -> anyhow::Result<TcpListener> {
    let address = (Ipv4Addr::LOCALHOST, 0);
    TcpListener::bind(address).await.context("no free port of 127.0.0.1")
}

/// The thread that serves. It stops, and its connections with it, when this is dropped.
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, or it is done; the panic's message was printed.
            let _ended = thread.join();
        }
    }
}
