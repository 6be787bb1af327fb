//! Servers to try things with by hand: `cargo xtask services up`.
//!
//! A process in the background holds them. While it lives it holds the lock of a file, so that
//! nobody has to guess whether a process id of the past still means it.

mod servers;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use self::servers::{Health, Servers};
use crate::shell::root;

/// How long the servers may take to start; the first time, they are fetched.
const START: Duration = Duration::from_secs(300);
/// How long they may take to end.
const END: Duration = Duration::from_secs(20);
/// Longer than anybody looks at the lock.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Services {
    /// Start them in the background, and print the settings that reach them
    ///
    /// A server of theirs that died is started again, with its databases. Which provider is used
    /// is for you to say, with `--provider` or `MT_PROVIDER`.
    Up,
    /// Stop them, and remove their databases with all that is in them
    Down,
    /// Tell whether they run, and how they are reached
    Status,
    /// Hold them, in the background
    #[command(hide = true)]
    Hold,
}

/// Does it.
pub(crate) fn run(task: Services) -> anyhow::Result<()> {
    let place = Place::new()?;
    match task {
        Services::Up => place.in_turn(Place::up),
        Services::Down => place.in_turn(Place::down),
        Services::Status => place.in_turn(Place::status),
        Services::Hold => place.hold(),
    }
}

/// Where the holder writes.
struct Place {
    folder: PathBuf,
}

/// What the holder tells of itself.
struct State {
    pid: u64,
    /// The servers' folders: gone when all is over.
    data: Vec<PathBuf>,
    /// Where the servers say that they are well.
    health: Health,
    environment: BTreeMap<String, String>,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let folder = root().join("target").join("mt-services");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// One command at a time: two that start the services would start them twice.
    fn in_turn(&self, command: fn(&Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let turn = self.file("turn")?;
        turn.lock().context("cannot wait for another `cargo xtask services`")?;
        command(self)
    }

    fn up(&self) -> anyhow::Result<()> {
        let is_new = !self.is_held()?;
        if is_new {
            eprintln!("starting the services (the first time, their servers are fetched)");
            self.start()?;
        }
        let state = self.wait_for_state()?;
        let silent = state.silent()?;
        if !is_new && silent.is_empty() {
            eprintln!("the services run already");
        } else if !is_new {
            eprintln!("no answer of {}; starting again, with the databases", silent.join(", "));
            self.restart(&state)?;
        }
        for (name, value) in &state.environment {
            println!("export {name}={value}");
        }
        eprintln!("choose one with `--provider d1`, `postgres` or `turso`, or by MT_PROVIDER");
        eprintln!("`cargo xtask services down` stops them, and removes their databases");
        Ok(())
    }

    fn down(&self) -> anyhow::Result<()> {
        if !self.is_held()? {
            eprintln!("the services do not run");
            return self.forget();
        }
        // Who holds the lock has written the state, so that the process id is his.
        let state = self.wait_for_state()?;
        eprintln!("stopping the services; their databases go with them");
        state.signal("TERM")?;
        let deadline = Instant::now() + END;
        while self.is_held()? || state.data.iter().any(|folder| folder.exists()) {
            ensure!(Instant::now() < deadline, "the services did not end in time");
            std::thread::sleep(PAUSE);
        }
        self.forget()?;
        eprintln!(
            "the services are stopped, and their databases are gone; a catalog that has tenants there finds none of them any more"
        );
        Ok(())
    }

    fn status(&self) -> anyhow::Result<()> {
        if !self.is_held()? {
            println!("the services do not run; `cargo xtask services up` starts them");
            return Ok(());
        }
        let state = self.wait_for_state()?;
        let silent = state.silent()?.join(", ");
        println!("the services run, held by the process {}", state.pid);
        for (name, value) in &state.environment {
            println!("{name}={value}");
        }
        ensure!(
            silent.is_empty(),
            "no answer of {silent}; `cargo xtask services up` starts it again, with its databases"
        );
        Ok(())
    }

    /// Runs in the background until it is stopped. Then the servers end by themselves. Whenever it
    /// is told to, it starts again what does not answer; that it died by itself may be what somebody tries out.
    fn hold(&self) -> anyhow::Result<()> {
        let lock = self.lock_file()?;
        // Who started us looks whether somebody holds it, and has it too for a moment.
        let deadline = Instant::now() + LOOK;
        while let Err(error) = lock.try_lock() {
            ensure!(Instant::now() < deadline, "another process holds the services: {error}");
            std::thread::sleep(PAUSE);
        }
        self.forget()?;
        let runtime = crate::runtime()?;
        runtime.block_on(async {
            let servers = Servers::start().await?;
            // Before anybody can read our process id: without this the signal would end us.
            let mut orders = signal(SignalKind::user_defined1())?;
            self.write(&servers)?;
            while orders.recv().await.is_some() {
                servers.restart_silent().await?;
            }
            bail!("this process gets no signals any more")
        })
    }

    /// Has the holder start again what does not answer; where that fails, the holder ends.
    fn restart(&self, state: &State) -> anyhow::Result<()> {
        state.signal("USR1")?;
        let deadline = Instant::now() + START;
        while !state.silent()?.is_empty() {
            ensure!(
                self.is_held()?,
                "the services ended, and their databases are gone: {}; `cargo xtask services up` starts new ones",
                self.logged()
            );
            ensure!(Instant::now() < deadline, "the servers did not answer in time");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn start(&self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("where this program is")?;
        let log = File::create(self.log()).context("cannot write the log of the services")?;
        let mut holder = Command::new(program)
            .args(["services", "hold"])
            // Ctrl-C in this terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the process that holds the services")?;
        let deadline = Instant::now() + START;
        while !self.is_ready(&mut holder)? {
            ensure!(Instant::now() < deadline, "the services were not ready in time");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether there is a state to read.
    fn is_ready(&self, holder: &mut Child) -> anyhow::Result<bool> {
        if holder.try_wait()?.is_some() {
            bail!("the services did not start: {}", self.logged());
        }
        Ok(self.is_held()? && self.state_file().exists())
    }

    fn is_held(&self) -> anyhow::Result<bool> {
        match self.lock_file()?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context("the lock of the services"),
        }
    }

    /// The file that the holder has locked.
    fn lock_file(&self) -> anyhow::Result<File> {
        self.file("lock")
    }

    fn file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.folder.join(name);
        File::create(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What the holder wrote, which is why it ended.
    fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default().trim().to_owned()
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.state_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove the state of the services")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The state has a token in it: its file is for nobody else to read.
    fn write(&self, servers: &Servers) -> anyhow::Result<()> {
        let state = json!({
            "pid": std::process::id(),
            "data": servers.folders(),
            "health": servers.health(),
            "environment": servers.environment(),
        });
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        writeln!(file, "{state:#}")?;
        file.persist(self.state_file()).context("cannot write the state of the services")?;
        Ok(())
    }

    /// The state, also of services that are just starting.
    fn wait_for_state(&self) -> anyhow::Result<State> {
        let deadline = Instant::now() + START;
        while !self.state_file().exists() {
            ensure!(self.is_held()?, "the services ended; see {}", self.log().display());
            ensure!(Instant::now() < deadline, "the services were not ready in time");
            std::thread::sleep(PAUSE);
        }
        let text = fs::read(self.state_file()).context("cannot read the state of the services")?;
        let state: Value = serde_json::from_slice(&text).context("the state of the services")?;
        let data = serde_json::from_value(state["data"].clone())
            .context("the state does not tell where the data is")?;
        let pid = state["pid"].as_u64().context("the state has no process id")?;
        let health = serde_json::from_value(state["health"].clone())
            .context("the state does not tell where the servers are")?;
        let environment = serde_json::from_value(state["environment"].clone())?;
        Ok(State { pid, data, health, environment })
    }
}

impl State {
    /// The servers that do not answer. That their holder lives says nothing of them.
    fn silent(&self) -> anyhow::Result<Vec<&str>> {
        crate::runtime()?.block_on(servers::silent(&self.health))
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid.to_string();
        let kill = ["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid];
        let status = Command::new("sh").args(kill).status().context("cannot run `sh`")?;
        ensure!(status.success(), "the process {pid}, which holds the services, took no signal");
        Ok(())
    }
}
