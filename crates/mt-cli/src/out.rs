use std::{
    borrow::Cow,
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
        if let Err(error) = writeln!(inner.answers, "{}", printable(&line.to_string())) {
            inner.fault.get_or_insert(error);
        }
    }

    /// Writes a remark or an error. There is nowhere to tell that this failed.
    pub(crate) fn remark(&self, line: impl Display) {
        drop(writeln!(self.lock().remarks, "{}", printable(&line.to_string())));
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

/// `text` with its control characters written out: what somebody put into a backup or a row must not
/// steer the terminal.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_told_steers_the_terminal() {
        assert_eq!(printable("ä\n\t|"), "ä\n\t|");
        assert_eq!(printable("\x1b]0;x\x07\r\u{9b}2J"), "\\u{1b}]0;x\\u{7}\\r\\u{9b}2J");
    }
}
