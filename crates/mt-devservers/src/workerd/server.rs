//! One workerd, with one worker.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use reqwest::Client;
use uuid::Uuid;

use crate::{
    http, port,
    process::{Ending, Process},
    workerd::fetch,
};

/// How long workerd may take to start (0.13 s on an idle machine).
const PATIENCE: Duration = Duration::from_secs(60);
/// How often workerd is asked whether it is ready.
const PAUSE: Duration = Duration::from_millis(5);
/// How often other ports are tried, when somebody took ours between choosing and listening.
const ATTEMPTS: usize = 5;

/// The files of a worker. Its settings may hold secrets, so it cannot be printed.
pub(crate) struct Worker {
    /// workerd's configuration: its socket is called `http`, its disk is the folder `data`.
    pub(crate) config: &'static str,
    /// The modules, each with its name.
    pub(crate) modules: &'static [(&'static str, &'static str)],
    /// What the modules find in the binding `SETTINGS`; `nonce` is added.
    pub(crate) settings: serde_json::Value,
}

/// A running workerd, its data in a folder that is removed at the end.
pub struct Workerd {
    process: Mutex<Process>,
    port: u16,
    client: Client,
    /// What our worker answers to `/ready`, and nobody else's.
    nonce: String,
}

impl Workerd {
    /// Finds workerd ([`find`](crate::workerd::find)), starts it with a worker and waits until that
    /// answers.
    ///
    /// # Errors
    /// It is not there, or does not become ready; the message has the end of its log.
    pub(crate) async fn start(worker: Worker) -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(fetch::find).await??;
        let client = http::client().timeout(PATIENCE).build()?;
        for _ in 0..ATTEMPTS {
            let [port, _] = port::free_pair()?;
            let nonce = Uuid::new_v4().simple().to_string();
            let process =
                Process::start_with(&program, &arguments(port), Ending::Kill, |folder| {
                    write(&worker, &nonce, folder)
                })?;
            let workerd = Self { process: process.into(), port, client: client.clone(), nonce };
            match workerd.ready().await {
                Ok(()) => return Ok(workerd),
                Err(_) if workerd.process().log().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("workerd found its port taken {ATTEMPTS} times")
    }

    /// Its port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
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

    /// Starts it again on the same port and the same data; kills it before, if it still runs.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.process().restart()?;
        self.ready().await
    }

    /// Waits until our worker answers: after a lost race for the port another server would.
    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://127.0.0.1:{}/ready", self.port);
        loop {
            let answer = match self.client.get(&url).send().await {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(_) => String::new(),
            };
            if !self.process().is_running() {
                bail!("workerd ended before it was ready: {}", self.process().log_tail());
            }
            if answer == self.nonce {
                return Ok(());
            }
            if Instant::now() > deadline {
                let tail = self.process().log_tail();
                bail!("workerd was not ready after {} s: {tail}", PATIENCE.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Workerd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workerd").field("port", &self.port).finish_non_exhaustive()
    }
}

fn write(worker: &Worker, nonce: &str, folder: &Path) -> anyhow::Result<()> {
    let mut settings = worker.settings.clone();
    settings["nonce"] = nonce.into();
    let settings = settings.to_string();
    let own = [("config.capnp", worker.config), ("settings.json", settings.as_str())];
    for (name, text) in own.iter().chain(worker.modules) {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    std::fs::create_dir(folder.join("data")).context("cannot make the folder of the data")
}

fn arguments(port: u16) -> Vec<String> {
    let socket = format!("http=127.0.0.1:{port}");
    ["serve", "config.capnp", "--socket-addr", &socket].map(str::to_owned).into()
}
