//! The threads that serve.

use std::{net::Ipv4Addr, thread::JoinHandle};

use anyhow::{Context as _, anyhow};
use tokio::{net::TcpListener, sync::oneshot};

/// A thread with a runtime of its own, so that a test's runtime neither starves what it serves nor
/// ends it. It stops, and its connections with it, when this is dropped.
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts `serve` in the background, and gives what it gives. What it spawned goes on.
    ///
    /// # Errors
    /// There is no thread or no runtime, and the errors of `serve`.
    pub(crate) async fn start<T, F>(
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> anyhow::Result<(T, Self)>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>>,
    {
        let (report, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mt-devservers".to_owned())
            .spawn(move || run(serve, report, stopped))
            .context("no thread for the servers")?;
        let background = Self { stop: Some(stop), thread: Some(thread) };
        let served =
            started.await.map_err(|gone| anyhow!("the servers ended at once: {gone}"))??;
        Ok((served, background))
    }
}

/// Serves until it is told to stop, or its holder is gone.
fn run<T, F: Future<Output = anyhow::Result<T>>>(
    serve: impl FnOnce() -> F,
    report: oneshot::Sender<anyhow::Result<T>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mt-devservers")
        .enable_all()
        .build();
    let runtime = match runtime.context("no runtime for the servers") {
        Ok(runtime) => runtime,
        Err(error) => {
            let _nobody_waits = report.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let _nobody_waits = report.send(serve().await);
        let _ended = stopped.await;
    });
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

/// A listener on a port that the system chooses.
///
/// # Errors
/// There is none.
pub(crate) async fn listen() -> anyhow::Result<TcpListener> {
    let address = (Ipv4Addr::LOCALHOST, 0);
    TcpListener::bind(address).await.context("no free port of 127.0.0.1")
}
