//! The state behind its lock, the task that wakes it, and a place in line.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mt_core::Result;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    BudgetSettings, Lane,
    ledger::Sent,
    lines::Waiter,
    refusal,
    state::{Next, State, Turn},
};

/// How late the clock may be before somebody in line winds it up again.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rung when the clock must look again.
    bell: Notify,
}

impl Shared {
    pub(super) fn new(settings: BudgetSettings) -> Self {
        Self { state: Mutex::new(State::new(settings)), bell: Notify::new() }
    }

    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        // Nothing panics in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and lets go whoever may go after that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.look();
        let result = change(&mut state, now);
        let next = state.pump(now);
        let rings = match (next, state.alarm) {
            (Next::Never, _) | (Next::At(_), None) => true,
            (Next::At(at), Some(alarm)) => at < alarm,
            (Next::News, _) => false,
        };
        if rings && state.clock.is_some() {
            if let Next::At(at) = next {
                // Whether the clock heard the bell is seen by whether it is late.
                state.alarm = Some(at);
            }
            self.bell.notify_one();
        }
        result
    }

    /// Sees to it that somebody wakes when the next may go.
    ///
    /// The clock is a task of the runtime of whoever waits. It may die with that runtime, or stand
    /// still with it; those in other runtimes then wind it up in their own.
    fn wind(self: &Arc<Self>) {
        let mut state = self.look();
        let overdue = state.alarm.is_some_and(|alarm| alarm + LATE < Instant::now());
        let runs = state.clock.as_ref().is_some_and(|clock| !clock.is_finished());
        if runs && !overdue {
            return;
        }
        if let Some(stopped) = state.clock.take() {
            stopped.abort();
        }
        state.alarm = Some(Instant::now());
        state.clock = Some(tokio::spawn(Arc::clone(self).tick()).abort_handle());
    }

    async fn tick(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.look();
                let next = state.pump(Instant::now());
                state.alarm = match next {
                    Next::At(at) => Some(at),
                    Next::News | Next::Never => None,
                };
                if next == Next::Never {
                    state.clock = None;
                    return;
                }
                next
            };
            match next {
                Next::At(at) => {
                    tokio::select! {
                        () = sleep_until(at) => {}
                        () = self.bell.notified() => {}
                    }
                }
                Next::News | Next::Never => self.bell.notified().await,
            }
        }
    }
}

/// A place in line. Dropping it leaves the line, or gives back what it was given meanwhile.
pub(super) struct Place {
    shared: Arc<Shared>,
    ticket: u64,
    lane: Lane,
    database: Option<Arc<str>>,
    since: Instant,
    deadline: Instant,
    turn: oneshot::Receiver<Result<Sent>>,
    called: bool,
}

impl Place {
    pub(super) fn take(
        shared: &Arc<Shared>,
        lane: &Lane,
        database: Option<&str>,
        patience: Duration,
    ) -> Result<Self> {
        let since = Instant::now();
        let deadline = since + patience;
        let (go, turn) = oneshot::channel();
        let (lane, database) = (lane.clone(), database.map(Arc::from));
        let waiter =
            Waiter { lane: lane.clone(), database: database.clone(), waits: Turn { deadline, go } };
        let ticket = shared.change(|state, now| state.join(now, waiter))?;
        let shared = Arc::clone(shared);
        Ok(Self { shared, ticket, lane, database, since, deadline, turn, called: false })
    }

    /// Waits for the turn, and takes it.
    pub(super) async fn turn(&mut self) -> Result<Sent> {
        loop {
            let turn = self.called().await;
            if let Ok(sent) = &turn
                && !self.shared.look().claim(*sent)
            {
                self.line_up_again()?;
                continue;
            }
            // Who gives up is still in line, and leaves it when this is dropped.
            self.called = turn.is_ok();
            return turn;
        }
    }

    async fn called(&mut self) -> Result<Sent> {
        if let Ok(turn) = self.turn.try_recv() {
            return turn;
        }
        loop {
            self.shared.wind();
            let now = Instant::now();
            let due = now.checked_add(self.shared.look().forecast(0, now).saturating_add(LATE));
            let due = due.unwrap_or(self.deadline);
            tokio::select! {
                biased;
                turn = &mut self.turn => {
                    return turn.unwrap_or_else(|_closed| Err(self.timed_out()));
                }
                () = sleep_until(due.min(self.deadline)) => {
                    if self.deadline <= Instant::now() {
                        return Err(self.timed_out());
                    }
                }
            }
        }
    }

    /// The turn was taken back, since nobody was there to take it in time.
    fn line_up_again(&mut self) -> Result<()> {
        let (go, turn) = oneshot::channel();
        self.turn = turn;
        let waits = Turn { deadline: self.deadline, go };
        let (lane, database) = (self.lane.clone(), self.database.clone());
        let waiter = Waiter { lane, database, waits };
        self.shared.change(|state, now| state.rejoin(now, self.ticket, waiter))
    }

    fn timed_out(&self) -> mt_core::Error {
        let waiting = self.shared.look().usage(Instant::now()).waiting;
        refusal::timed_out(self.since.elapsed(), waiting, &self.lane)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.called {
            return;
        }
        let Self { shared, ticket, lane, database, turn, .. } = self;
        shared.change(|state, _| {
            if !state.leave(*ticket, lane, database.as_deref())
                && let Ok(Ok(never_sent)) = turn.try_recv()
            {
                state.unsent(never_sent, database.as_deref());
            }
        });
    }
}
