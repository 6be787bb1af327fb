//! One sqld, with a namespace for each database.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{
    port,
    process::{Ending, Process},
    sqld::{admin::Admin, fetch},
};

/// How long sqld may take to start (0.05 s on an idle machine).
const PATIENCE: Duration = Duration::from_secs(60);
/// How often sqld is asked whether it is ready.
const PAUSE: Duration = Duration::from_millis(5);
/// How often other ports are tried, when somebody took ours between choosing and listening.
const ATTEMPTS: usize = 5;
/// Namespaces that sqld keeps open. Above its limit it now and then answers 404 for one that is
/// there (`facts`: 41 of 2,000 requests), so it is far above what a test makes.
const MAX_ACTIVE_NAMESPACES: usize = 5_000;

/// A running sqld, its data in a folder that is removed at the end.
#[derive(Debug)]
pub struct Sqld {
    process: Mutex<Process>,
    ports: [u16; 2],
    admin: Admin,
}

impl Sqld {
    /// Finds sqld ([`find`](crate::sqld::find)), starts it and waits until it is ready.
    ///
    /// # Errors
    /// It is not there, or does not become ready; the message has the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(fetch::find).await??;
        for _ in 0..ATTEMPTS {
            let ports = port::free_pair()?;
            let process = Process::start(&program, &arguments(ports), Ending::Kill)?;
            let [http, admin] = ports;
            let sqld = Self { process: process.into(), ports, admin: Admin::new(http, admin)? };
            match sqld.ready().await {
                Ok(()) => return Ok(sqld),
                Err(_) if sqld.process().log().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("sqld found its ports taken {ATTEMPTS} times")
    }

    /// The port of the data plane, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port of the admin API, on 127.0.0.1.
    pub fn admin_port(&self) -> u16 {
        self.ports[1]
    }

    /// The process id, unless it was killed.
    pub fn pid(&self) -> Option<u32> {
        self.process().pid()
    }

    /// Where its data is.
    pub fn folder(&self) -> PathBuf {
        self.process().folder().to_owned()
    }

    /// What it has logged since it was last started.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// Kills it with SIGKILL. The data stays.
    ///
    /// # Errors
    /// The process that watches over it is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.process().kill()
    }

    /// Starts it again on the same ports and the same data; kills it before, if it still runs.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.process().restart()?;
        self.ready().await
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Waits until both planes answer. An answer counts only while our own process lives: after
    /// a lost race for the port it is somebody else's.
    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answers = self.admin.is_ready().await;
            let (is_running, is_listening) = {
                let process = self.process();
                (process.is_running(), listens(&process.log(), self.ports))
            };
            if !is_running {
                bail!("sqld ended before it was ready: {}", self.process().log_tail());
            }
            if answers && is_listening {
                return Ok(());
            }
            if Instant::now() > deadline {
                let tail = self.process().log_tail();
                bail!("sqld was not ready after {} s: {tail}", PATIENCE.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the log says that both ports were bound by this very process.
fn listens(log: &str, ports: [u16; 2]) -> bool {
    ports.iter().all(|port| {
        let address = format!("127.0.0.1:{port}");
        log.lines().any(|line| line.contains("listening for") && line.ends_with(&address))
    })
}

/// `facts/turso.md` §2b.
fn arguments([http, admin]: [u16; 2]) -> Vec<String> {
    let of = |text: &str| text.to_owned();
    vec![
        of("--no-welcome"),
        of("-d"),
        of("data"),
        of("--http-listen-addr"),
        format!("127.0.0.1:{http}"),
        of("--admin-listen-addr"),
        format!("127.0.0.1:{admin}"),
        of("--enable-namespaces"),
        of("--max-active-namespaces"),
        MAX_ACTIVE_NAMESPACES.to_string(),
    ]
}
