use std::{
    fmt::{self, Display},
    io::{self, ErrorKind, IsTerminal as _, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Where a command writes: its answer to one writer, remarks and errors to another.
///
/// Cheap to clone; clones write to the same place, whole lines at a time.
#[derive(Clone)]
pub struct Out {
    inner: Arc<Mutex<Inner>>,
    terminal: bool,
}

struct Inner {
    answers: Box<dyn Write + Send>,
    remarks: Box<dyn Write + Send>,
    /// The first answer that could not be written.
    fault: Option<io::Error>,
}

impl Out {
    /// The process's standard output and standard error.
    pub fn standard() -> Self {
        let terminal = io::stderr().is_terminal() && io::stdout().is_terminal();
        Self { terminal, ..Self::new(io::stdout(), io::stderr()) }
    }

    /// Answers to `answers`, remarks and errors to `remarks`; neither is taken for a terminal.
    pub fn new(answers: impl Write + Send + 'static, remarks: impl Write + Send + 'static) -> Self {
        let inner = Inner { answers: Box::new(answers), remarks: Box::new(remarks), fault: None };
        Self { inner: Arc::new(Mutex::new(inner)), terminal: false }
    }

    /// Whether somebody watches, so that a progress bar makes sense.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes a line of the answer.
    pub(crate) fn line(&self, line: impl Display) {
        let inner = &mut *self.lock();
        if let Err(error) = writeln!(inner.answers, "{line}") {
            inner.fault.get_or_insert(error);
        }
    }

    /// Writes a remark or an error. There is nowhere to tell that this failed.
    pub(crate) fn remark(&self, line: impl Display) {
        drop(writeln!(self.lock().remarks, "{line}"));
    }

    /// Flushes the answer, and tells whether all of it was written. A reader that has seen enough
    /// (`mt list | head`) is no failure.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let inner = &mut *self.lock();
        let flushed = inner.answers.flush();
        match inner.fault.take().map_or(flushed, Err) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}
