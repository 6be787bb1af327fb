//! One PostgreSQL, its data in a folder of its own.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use uuid::Uuid;

use crate::{
    npm::run,
    port,
    postgres::programs,
    process::{Ending, Process},
    user::User,
};

/// How long it may take to start, after a crash too.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked whether it is ready.
const PAUSE: Duration = Duration::from_millis(10);
/// How often other ports are tried, when somebody took ours between choosing and listening.
const ATTEMPTS: usize = 5;
/// The longest path of a socket that the system takes, with the file's name.
const SOCKET_PATH: usize = 107;

/// A running PostgreSQL: its own data, a socket in its folder and a port of 127.0.0.1, a superuser
/// `postgres` with a password. It ends with this value or with this process, and nothing is left.
pub struct Postgres {
    process: Mutex<Process>,
    port: u16,
    password: String,
    role_secret: String,
}

/// What a [`Postgres`] is started with.
#[derive(Clone, Debug, Default)]
pub struct PostgresBuilder {
    programs: Option<PathBuf>,
    settings: Vec<(String, String)>,
    tls: Option<Tls>,
    durable: bool,
}

#[derive(Clone)]
struct Tls {
    certificate: String,
    key: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

impl PostgresBuilder {
    /// Names the folder with the programs. Default: [`find`](crate::postgres::find)s it.
    #[must_use]
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Gives a setting of the server, such as `max_connections`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Takes TLS connections, with a certificate and its key in PEM.
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some(Tls { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Writes through to the disk, as a server in use does. Default no: what a crash of the server
    /// leaves is the same, and only a crash of the machine would tell the difference.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Makes the data and starts the server; waits until it takes connections.
    ///
    /// # Errors
    /// There are no programs, or it does not become ready; the message has the end of its log.
    pub async fn start(self) -> anyhow::Result<Postgres> {
        for _ in 0..ATTEMPTS {
            let builder = self.clone();
            let server = tokio::task::spawn_blocking(move || builder.launch()).await??;
            match server.ready().await {
                Ok(()) => return Ok(server),
                Err(_) if server.process().log().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("PostgreSQL found its port taken {ATTEMPTS} times")
    }

    fn launch(self) -> anyhow::Result<Postgres> {
        let programs = match &self.programs {
            Some(folder) => folder.clone(),
            None => programs::find()?,
        };
        let user = User::instead_of_root()?;
        let [port, _] = port::free_pair()?;
        let password = Uuid::new_v4().simple().to_string();
        let (program, args) = self.command(&programs, user.as_ref(), port);
        let process = Process::start_with(Path::new(&program), &args, Ending::Quit, |folder| {
            prepare(&programs, user.as_ref(), folder, &password, self.tls.as_ref())
        })?;
        let role_secret = Uuid::new_v4().simple().to_string();
        Ok(Postgres { process: process.into(), port, password, role_secret })
    }

    fn command(&self, programs: &Path, user: Option<&User>, port: u16) -> (String, Vec<String>) {
        let mut words = user.map(|user| user.command().to_vec()).unwrap_or_default();
        words.push(programs.join("postgres").display().to_string());
        words.extend(["-D", "data"].map(str::to_owned));
        let on = |is| if is { "on" } else { "off" }.to_owned();
        let port = port.to_string();
        // Relative to the data; a folder of the system would let two servers meet.
        let ours = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port),
            ("unix_socket_directories", "..".to_owned()),
            ("logging_collector", on(false)),
            ("log_destination", "stderr".to_owned()),
            ("lc_messages", "C".to_owned()),
            ("fsync", on(self.durable)),
            ("full_page_writes", on(self.durable)),
            ("ssl", on(self.tls.is_some())),
        ];
        let ours = ours.into_iter().map(|(name, value)| (name.to_owned(), value));
        for (name, value) in ours.chain(self.settings.iter().cloned()) {
            words.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let program = words.remove(0);
        (program, words)
    }
}

/// Makes the data in `folder`, in the hands of whoever runs the server.
fn prepare(
    programs: &Path,
    user: Option<&User>,
    folder: &Path,
    password: &str,
    tls: Option<&Tls>,
) -> anyhow::Result<()> {
    let socket = folder.join(".s.PGSQL.00000");
    ensure!(
        socket.as_os_str().len() <= SOCKET_PATH,
        "the path {} is too long for a socket: set TMPDIR to a shorter one",
        folder.display()
    );
    let own = |path: &Path| user.map_or(Ok(()), |user| user.own(path));
    own(folder)?;
    let secret = folder.join("password");
    write_private(&secret, password)?;
    own(&secret)?;
    let mut words = user.map(|user| user.command().to_vec()).unwrap_or_default();
    let initdb = programs.join("initdb");
    words.push(initdb.display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(folder).env("TZ", "UTC");
    command.args(["-D", "data", "-U", "postgres", "--pwfile=password", "--auth=scram-sha-256"]);
    command.args(["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    let who = user.map_or("this user", |user| user.name);
    let advice = format!(
        "`initdb` makes the data, as {who}, who must be able to read {}; setpriv is in util-linux",
        programs.display()
    );
    run(&mut command, &advice).context(advice.clone())?;
    fs::remove_file(&secret)?;
    if let Some(Tls { certificate, key }) = tls {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = folder.join("data").join(name);
            write_private(&path, text)?;
            own(&path)?;
        }
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

impl Postgres {
    /// Begins to make a server.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Starts one with nothing special about it.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// How the superuser reaches it by its port, password included.
    pub fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// The same by its socket.
    pub fn socket_url(&self) -> String {
        let folder = self.folder().display().to_string().replace('/', "%2F");
        format!("postgres://postgres:{}@{folder}:{}/postgres", self.password, self.port)
    }

    /// What our command line needs to reach it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MT_POSTGRES__ADMIN_URL", self.url()),
            ("MT_POSTGRES__ROLE_SECRET", self.role_secret.clone()),
        ]
    }

    /// Its port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The process id, unless it was killed.
    pub fn pid(&self) -> Option<u32> {
        self.process().pid()
    }

    /// Where its data and its socket are.
    pub fn folder(&self) -> PathBuf {
        self.process().folder().to_owned()
    }

    /// What it has logged since it was last started.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// Ends it at once, as `pg_ctl stop -m immediate` does: the next start has a crash to recover
    /// from.
    ///
    /// # Errors
    /// The process that watches over it is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.process().kill()
    }

    /// Starts it again on the same port and the same data; ends it before, if it still runs.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.process().restart()?;
        self.ready().await
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.process().log().contains("database system is ready to accept connections") {
                return Ok(());
            }
            if !self.process().is_running() {
                bail!("PostgreSQL ended before it was ready: {}", self.process().log_tail());
            }
            if Instant::now() > deadline {
                let tail = self.process().log_tail();
                bail!("PostgreSQL was not ready after {} s: {tail}", PATIENCE.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).finish_non_exhaustive()
    }
}
