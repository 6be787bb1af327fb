//! Servers that end when we end, however we end.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

/// A shell that holds the server and its folder.
///
/// It obeys the words it reads, and when nothing more can be read, because the pipe was closed or
/// because the process that held its other end is gone, it kills the server and removes the
/// folder. So nothing is left after a panic or a SIGKILL either.
///
/// - `$1` is the signal that stops the server at the end, `$2` the one that kills it before; the rest
///   is its command line.
/// - The server has its home in the folder: whatever it likes to keep, it keeps there.
/// - `exec` gives the server the process id that `$!` tells.
/// - A signal ends the reading, and so leads to the same end.
const WATCHDOG: &str = r#"
signal=$1
kill=$2
shift 2
folder=$(mktemp -d "${TMPDIR:-/tmp}/mt-devservers.XXXXXXXXXX") && cd "$folder" || exit 1
pid=
stop() {
    [ -n "$pid" ] || return 0
    kill -s "$1" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=
}
trap : HUP INT TERM
echo "$folder"
while read -r word; do
    case $word in
    start)
        stop "$kill"
        (exec env HOME="$folder" XDG_CACHE_HOME="$folder" "$@") </dev/null >>log 2>&1 &
        pid=$!
        echo "$pid"
        ;;
    kill)
        stop "$kill"
        echo killed
        ;;
    esac
done
stop "$signal"
cd / && rm -rf "$folder"
"#;

/// How much of a server's log an error tells.
const LOG_TAIL: usize = 2_000;

/// What the server is sent at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// SIGKILL: nothing of it is to be kept.
    Kill,
    /// SIGTERM: it has processes of its own to stop.
    Terminate,
    /// SIGQUIT, also where others get a SIGKILL: PostgreSQL stops its processes and saves nothing,
    /// as in a crash.
    Quit,
}

/// A server in a folder of its own, which both end with this value or with this process.
pub(crate) struct Process {
    watchdog: Child,
    /// `None` only while it is dropped.
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    folder: PathBuf,
    pid: Option<u32>,
    /// Where in the log the server's present life begins.
    log_start: usize,
}

impl Process {
    /// Makes the folder, and starts the server in it.
    ///
    /// # Errors
    /// No shell, or no temporary folder.
    pub(crate) fn start(program: &Path, args: &[String], ending: Ending) -> anyhow::Result<Self> {
        Self::start_with(program, args, ending, |_| Ok(()))
    }

    /// The same; before the server starts, `prepare` puts into the folder what it needs.
    ///
    /// # Errors
    /// The same, and those of `prepare`.
    pub(crate) fn start_with(
        program: &Path,
        args: &[String],
        ending: Ending,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let signals = match ending {
            Ending::Kill => ["KILL", "KILL"],
            Ending::Terminate => ["TERM", "KILL"],
            Ending::Quit => ["QUIT", "QUIT"],
        };
        let mut command = Command::new("sh");
        // The caller may have settings for servers of his own in his environment.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("SQLD_") || text.starts_with("PG") {
                command.env_remove(&name);
            }
        }
        let mut watchdog = command
            .args(["-c", WATCHDOG, "mt-devservers"])
            .args(signals)
            .arg(program)
            .args(args)
            // Ctrl-C and a test runner's kill mean our group; the watchdog is to outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `sh`, which watches over the servers")?;
        let orders = watchdog.stdin.take();
        let replies = watchdog.stdout.take().context("the watchdog has no standard output")?;
        let mut process = Self {
            watchdog,
            orders,
            replies: BufReader::new(replies),
            folder: PathBuf::new(),
            pid: None,
            log_start: 0,
        };
        process.folder = process.reply()?.into();
        prepare(&process.folder)?;
        process.restart()?;
        Ok(process)
    }

    /// Starts the server again, in the same folder; kills it before, if it still runs.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        if self.pid.is_some() {
            self.kill()?;
        }
        self.log_start = self.whole_log().len();
        let pid = self.order("start")?;
        self.pid = Some(pid.parse().context("the watchdog told no process id")?);
        Ok(())
    }

    /// Kills the server, with SIGKILL or as its [`Ending`] says, and waits for its end. The folder
    /// stays.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let reply = self.order("kill")?;
        ensure!(reply == "killed", "the watchdog answered {reply:?} instead of `killed`");
        self.pid = None;
        Ok(())
    }

    /// Where the server runs and writes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's process id, unless it was killed.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether the server has not ended by itself. Where `/proc` tells nothing, it has not.
    pub(crate) fn is_running(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            return !Path::new("/proc/self").exists();
        };
        // The shell buries its dead only when it is asked to wait for them.
        !status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
    }

    /// What the server has written since it was last started.
    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        String::from_utf8_lossy(log.get(self.log_start..).unwrap_or_default()).into_owned()
    }

    /// The end of [`Process::log`].
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let mut start = log.len().saturating_sub(LOG_TAIL);
        while !log.is_char_boundary(start) {
            start += 1;
        }
        log[start..].trim().to_owned()
    }

    fn whole_log(&self) -> Vec<u8> {
        // Before its first line there is no file.
        std::fs::read(self.folder.join("log")).unwrap_or_default()
    }

    fn order(&mut self, word: &str) -> anyhow::Result<String> {
        let orders = self.orders.as_mut().context("the watchdog is gone")?;
        writeln!(orders, "{word}").context("the watchdog takes no orders")?;
        self.reply()
    }

    fn reply(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).context("the watchdog does not answer")?;
        if line.is_empty() {
            bail!("the watchdog ended; is there a temporary folder that can be written?");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        // The folder is gone when this returns; that the watchdog ended badly helps nobody now.
        let _ended = self.watchdog.wait();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, pid, .. } = self;
        f.debug_struct("Process").field("folder", folder).field("pid", pid).finish_non_exhaustive()
    }
}
