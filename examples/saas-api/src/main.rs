//! The service as a program.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use multi_tenancy::cli::{Options, Settings};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing_subscriber::EnvFilter;

/// How long requests that run may go on after the service was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// An example service: sign-up, and users, logs and settings per tenant
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The settings file [default: mt.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the catalog, and of the tenants' files with sqlite [default: ./data]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where the catalog is: a file, or a URL postgres://… without its password, which belongs
    /// into the environment [default: control.db in the data folder]
    #[arg(long, value_name = "FILE|URL")]
    catalog: Option<String>,
    /// Which engine keeps the tenants' databases [default: sqlite]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The domain in front of which a label names the tenant
    #[arg(long, value_name = "DOMAIN", default_value = saas_api::DEFAULT_DOMAIN)]
    domain: String,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "whoever starts the service reads where it listens")]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, config, data_dir, catalog, provider, domain } = Arguments::parse();
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    tracing_subscriber::fmt()
        // A log that cannot be written, as on a full disk, is no reason to answer nobody.
        .log_internal_errors(false)
        .with_env_filter(filter.from_env_lossy())
        .with_writer(io::stderr)
        .init();
    let stop = stop_signal().context("signals cannot be waited for")?;
    let options = Options { config, data_dir, catalog, provider, ..Options::default() };
    let (router, tenants) = saas_api::app(&Settings::load(&options)?, &domain).await?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    let served = serve(listener, router, stop).await;
    // What is committed is safe either way; this lets go of the files before the process ends.
    tenants.shutdown().await?;
    tenants.catalog().close().await?;
    Ok(served?)
}

/// Serves until `stop`, and then as long as requests run, up to [`GRACE`].
async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping");
        // The other end is there as long as the server is.
        stopping.send(()).ok();
    });
    let patience = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            // The server ended without being asked to; it tells why.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server.into_future() => served,
        () = patience => {
            tracing::warn!("requests still ran after {GRACE:?}");
            Ok(())
        }
    }
}

/// Ends when the process is asked to stop.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
