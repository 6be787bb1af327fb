//! Running one of PostgreSQL's own programs to its end.

use std::{fmt, process::ExitStatus};

use mt_core::ErrorKind;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, Command},
};

use crate::error::{Error, Result};

/// How much is kept of what a program says; what is wrong stands at the end.
const TOLD_BYTES: usize = 4 * 1024;

/// A program that was started. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    pub(crate) child: Child,
    stderr: Option<ChildStderr>,
}

/// What a program said on its standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "it did not say why" } else { &self.0 })
    }
}

impl Program {
    pub(crate) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut child = command.spawn().map_err(|source| Error::Start { name, source })?;
        let stderr = child.stderr.take();
        Ok(Self { name, child, stderr })
    }

    /// Lets `work` talk to it, then waits for its end. If the work fails the program is killed.
    ///
    /// # Errors
    /// The work's. `Err` inside: the program failed.
    pub(crate) async fn end<T, E>(
        mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Result<()>), E> {
        let stderr = self.stderr.take();
        let child = &mut self.child;
        let work = async {
            let done = work.await;
            if done.is_err() {
                // It may have ended by itself.
                child.start_kill().ok();
            }
            done
        };
        let (done, told) = tokio::join!(work, tail(stderr));
        let status = self.child.wait().await;
        Ok((done?, self.verdict(status, told)))
    }

    fn verdict(&self, status: std::io::Result<ExitStatus>, told: String) -> Result<()> {
        let name = self.name;
        let status = status.map_err(|source| Error::Start { name, source })?;
        if status.success() {
            return Ok(());
        }
        let kind = kind(status, &told);
        Err(Error::Program { name, status, kind, source: Told(told) })
    }
}

/// The end of what there is to read.
async fn tail(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut told = Vec::new();
    let mut chunk = [0; 1024];
    // What cannot be read is not told; the status says what matters.
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        told.extend_from_slice(&chunk[..read]);
        told.drain(..told.len().saturating_sub(TOLD_BYTES));
    }
    String::from_utf8_lossy(&told).trim().to_owned()
}

/// What can be done about it. The programs answer with 1 whatever happened; what follows are the
/// words of theirs, which are not translated, and not those of the server, which may be.
fn kind(status: ExitStatus, told: &str) -> ErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    if status.code().is_none()
        || says(&["connection to server", "server closed the connection", "no connection to the"])
        // Somebody changes the schema at this moment.
        || says(&["Query was: LOCK TABLE"])
    {
        return ErrorKind::Unavailable;
    }
    if says(&["No space left on device"]) {
        return ErrorKind::QuotaExceeded;
    }
    if says(&["unsupported version", "could not execute query", "COPY failed", "PQputCopy"]) {
        return ErrorKind::Unsupported;
    }
    ErrorKind::Internal
}
