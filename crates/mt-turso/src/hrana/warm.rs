//! A stream that is kept while reads follow one another.
//!
//! Opening a stream costs the server a connection to the database, which takes it longer than a
//! point query does. So where many reads come one after the other, one stream serves them, for a
//! second at most, and is closed as soon as they pause. A tenant who reads now and then keeps none.
//! Only statements that just read are run on it: they leave nothing behind for those after them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use super::{cursor, door::Door, wire::StreamAt};

/// After so many reads, each within [`PAUSE`] of the one before, the stream is kept.
const BUSY: u32 = 16;
/// A stream that nobody asked for so long is closed.
const PAUSE: Duration = Duration::from_millis(100);
/// A stream this old is closed with its next read: the server expires none that is used, but what
/// was changed for the database (a block, a limit) is told to new ones.
const LIFE: Duration = Duration::from_secs(1);

/// The stream of one handle.
#[derive(Default)]
pub(super) struct Warm(Mutex<State>);

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// Somebody has it, or opens one to be kept.
    lent: bool,
    closing: bool,
    reads: u32,
    last: Option<Instant>,
}

struct Kept {
    stream: StreamAt,
    opened: Instant,
}

/// The right to use the stream, or to open it. Dropped without [`Lease::give_back`], the stream is
/// gone.
pub(super) struct Lease {
    warm: Arc<Warm>,
    /// The stream, if there is one.
    pub(super) stream: Option<StreamAt>,
    opened: Instant,
    /// Whether it is to be kept after this read.
    pub(super) keeps: bool,
}

impl Warm {
    /// Counts a read, and lends the stream if this is one of many; `None`: use one of its own.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Lease> {
        let now = Instant::now();
        let mut state = self.lock();
        let follows = state.last.is_some_and(|last| now - last <= PAUSE);
        state.reads = if follows { state.reads.saturating_add(1) } else { 1 };
        state.last = Some(now);
        if state.lent || state.reads <= BUSY {
            return None;
        }
        state.lent = true;
        let (stream, opened) = match state.kept.take() {
            Some(kept) => (Some(kept.stream), kept.opened),
            None => (None, now),
        };
        let keeps = now - opened < LIFE;
        Some(Lease { warm: Arc::clone(self), stream, opened, keeps })
    }

    /// Takes the stream away, for closing it.
    pub(super) fn take(&self) -> Option<StreamAt> {
        self.lock().kept.take().map(|kept| kept.stream)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the stream once nobody has asked for it for a while.
    async fn close_when_idle(self: Arc<Self>, door: Arc<Door>) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let mut state = self.lock();
            if state.last.is_some_and(|last| last.elapsed() < PAUSE) || state.lent {
                continue;
            }
            state.closing = false;
            if let Some(kept) = state.kept.take() {
                cursor::close_in_background(Arc::clone(&door), kept.stream);
            }
            return;
        }
    }
}

impl Lease {
    /// Keeps `stream` for the next read.
    pub(super) fn give_back(self, stream: StreamAt, door: &Arc<Door>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.warm.lock();
        state.kept = Some(Kept { stream, opened: self.opened });
        if !state.closing {
            state.closing = true;
            let warm = Arc::clone(&self.warm);
            drop(runtime.spawn(warm.close_when_idle(Arc::clone(door))));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.warm.lock().lent = false;
    }
}
