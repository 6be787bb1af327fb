//! What was let go and is not over yet, and for how long it holds others up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::ledger::Sent;

/// How long a turn waits for its owner while others are in line.
pub(super) const TURN: Duration = Duration::from_secs(1);

/// How long a request under way holds up others. Most answers are there long before.
pub(super) const HOLDS_UP: Duration = Duration::from_secs(5);

/// Requests that were let go.
///
/// Whoever holds a turn or a permit may be a future that nobody polls, such as one of several in a
/// stream whose reader waits for a request of its own. It must not hold up everybody for ever: a
/// turn is taken back, and a request under way stops to count against how many may be.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// Turns that their owners have not taken yet, with the databases that they are for.
    turns: BTreeMap<Id, Option<Arc<str>>>,
    /// Those that hold up others.
    recent: BTreeSet<Id>,
}

/// When it was let go, and its ticket.
type Id = (Instant, u64);

const fn id(sent: Sent) -> Id {
    (sent.at, sent.ticket)
}

impl UnderWay {
    pub(super) const fn new() -> Self {
        Self { turns: BTreeMap::new(), recent: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, sent: Sent, database: Option<Arc<str>>) {
        self.turns.insert(id(sent), database);
        self.recent.insert(id(sent));
    }

    /// The owner takes its turn; tells whether it still has it.
    pub(super) fn take(&mut self, sent: Sent) -> bool {
        self.turns.remove(&id(sent)).is_some()
    }

    pub(super) fn end(&mut self, sent: Sent) {
        self.recent.remove(&id(sent));
    }

    /// Takes back the oldest turn that nobody took in time: when it was given, and for which
    /// database.
    pub(super) fn take_back(&mut self, now: Instant) -> Option<(Instant, Option<Arc<str>>)> {
        let turn = self.turns.first_entry().filter(|turn| turn.key().0 + TURN <= now)?;
        let (id, database) = turn.remove_entry();
        self.recent.remove(&id);
        Some((id.0, database))
    }

    /// When the next turn is taken back.
    pub(super) fn turn_ends(&self) -> Option<Instant> {
        self.turns.keys().next().map(|(at, _)| *at + TURN)
    }

    /// How many hold up others, and until when the first of them does.
    pub(super) fn recent(&mut self, now: Instant) -> (u32, Option<Instant>) {
        while self.recent.first().is_some_and(|(at, _)| *at + HOLDS_UP <= now) {
            self.recent.pop_first();
        }
        let count = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        (count, self.recent.first().map(|(at, _)| *at + HOLDS_UP))
    }
}
