//! Everything a budget knows, and the one decision it takes: whether somebody may go now.

mod joining;

use std::time::Duration;

use mt_core::Result;
use tokio::{sync::oneshot, task::AbortHandle, time::Instant};

use super::{
    BudgetSettings, BudgetUsage, Lane,
    belief::Belief,
    bucket::{Bucket, most_under_way},
    headers::Told,
    ledger::{Ledger, Sent},
    lines::Lines,
    refusal,
    under_way::UnderWay,
};

/// Requests that may be under way before the service has said how much is left: few enough to notice
/// with what little there may be, and one more with every answer.
const PROBES: u32 = 2;

#[derive(Debug)]
pub(super) struct State {
    settings: BudgetSettings,
    told: Belief,
    /// How many requests of ours may go in how long.
    share: (u32, Duration),
    bucket: Bucket,
    /// What the bucket gave for turns that nobody took. It goes on with those that come next, as if
    /// it had been under way all the time.
    spare: u32,
    ledger: Ledger,
    lines: Lines<Turn>,
    under_way: UnderWay,
    tickets: u64,
    /// How many may be under way for now.
    ceiling: u32,
    last_sent: Option<Instant>,
    paused_until: Option<Instant>,
    /// Answers to requests before this one say nothing of the time after the latest pause.
    heard_from: u64,
    /// The task that wakes when somebody may go.
    pub(super) clock: Option<AbortHandle>,
    /// When it wakes.
    pub(super) alarm: Option<Instant>,
}

/// Somebody in line.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) deadline: Instant,
    pub(super) go: oneshot::Sender<Result<Sent>>,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nobody is in line.
    Never,
    /// When a request is over or an answer comes.
    News,
    /// At this time, unless there are news before.
    At(Instant),
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Answer,
    /// Refused, and everything pauses from now on.
    Pause(Duration),
    /// Refused during a pause.
    Refusal,
}

impl State {
    pub(super) fn new(settings: BudgetSettings) -> Self {
        let (limit, window) = (settings.requests, settings.window);
        Self {
            told: Belief::default(),
            share: (limit, window),
            bucket: Bucket::new(limit, window, 0),
            spare: 0,
            ledger: Ledger::new(limit, window),
            settings,
            lines: Lines::new(),
            under_way: UnderWay::new(),
            tickets: 0,
            ceiling: PROBES,
            last_sent: None,
            paused_until: None,
            heard_from: 0,
            clock: None,
            alarm: None,
        }
    }

    /// Keeps to `settings` too.
    pub(super) fn tighten(&mut self, settings: &BudgetSettings) {
        self.settings = self.settings.stricter(settings);
        self.adopt();
    }

    /// Keeps to what is set and told: the ledger to the service's limit, which is the one that it
    /// tells the rest of, and what we send to our share of that.
    fn adopt(&mut self) {
        let limit = self.told.limit().unwrap_or(self.settings.requests);
        let window = self.told.window().unwrap_or(self.settings.window);
        if (limit, window) != (self.ledger.limit(), self.ledger.window()) {
            self.ledger.adopt(limit, window);
        }
        let share = self.settings.share(limit, window);
        if share != self.share {
            self.share = share;
            self.bucket = Bucket::new(share.0, share.1, self.ledger.ours());
        }
    }

    /// Notices that time has passed.
    fn catch_up(&mut self, now: Instant) {
        if self.told.forget(self.settings.window, now) {
            self.adopt();
        }
        if self.ledger.pass(now) {
            self.ceiling = PROBES;
        }
        self.resume(now);
    }

    /// Lets everybody go who may.
    pub(super) fn pump(&mut self, now: Instant) -> Next {
        self.catch_up(now);
        let next = self.serve(now);
        let sooner = [self.under_way.turn_ends(), self.told.ends(self.settings.window)];
        match (next, sooner.into_iter().flatten().min()) {
            (Next::At(at), Some(end)) => Next::At(at.min(end)),
            (Next::News, Some(end)) => Next::At(end),
            (next, _) => next,
        }
    }

    fn serve(&mut self, now: Instant) -> Next {
        if self.lines.len() == 0 {
            return Next::Never;
        }
        self.take_back(now);
        loop {
            if self.lines.len() == 0 {
                return Next::Never;
            }
            if let Some(until) = self.paused_until {
                return Next::At(until);
            }
            // However many are under way for long: the service counts each of them once at most.
            if self.ledger.ours() >= self.share.0 {
                return self.ledger.first_back().map_or(Next::News, Next::At);
            }
            let (recent, until) = self.under_way.recent(now);
            if recent >= self.room(recent, now) {
                return until.map_or(Next::News, Next::At);
            }
            let hold = self.ledger.hold(self.last_sent, self.bucket.flow(now), now);
            if let Some(until) = hold.filter(|until| *until > now) {
                return Next::At(until);
            }
            if self.lines.next(self.settings.database_concurrency).is_none() {
                return Next::News;
            }
            // No more than may be under way have been, spare ones included.
            self.spare = self.spare.min(self.most().saturating_sub(recent));
            if self.spare > 0 {
                self.spare -= 1;
            } else if let Err(until) = self.bucket.take() {
                return Next::At(until);
            }
            self.let_go(now);
        }
    }

    /// Takes back the turns that nobody took in time.
    fn take_back(&mut self, now: Instant) {
        while let Some((at, database)) = self.under_way.take_back(now) {
            self.ledger.unsend(at);
            self.free(database.as_deref());
            self.spare += 1;
        }
    }

    /// Lets the next in line go.
    fn let_go(&mut self, now: Instant) {
        let Some((ticket, waiter)) = self.lines.take() else { return };
        let sent = self.ledger.send(ticket, now);
        self.last_sent = Some(now);
        self.under_way.add(sent, waiter.database.clone());
        if waiter.waits.go.send(Ok(sent)).is_err() {
            self.unsent(sent, waiter.database.as_deref());
        }
    }

    fn room(&mut self, recent: u32, now: Instant) -> u32 {
        // What was said long ago may have been spent by others since.
        let fresh = |age: Duration| age * 20 < self.ledger.window();
        if recent == 0 && !self.ledger.age(now).is_some_and(fresh) {
            self.ceiling = PROBES;
        }
        self.ceiling.min(self.most())
    }

    fn most(&self) -> u32 {
        self.settings.in_flight.min(most_under_way(self.share.0))
    }

    fn resume(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.ceiling = PROBES;
            // No burst: what made the service refuse may go on.
            self.bucket = Bucket::new(self.share.0, self.share.1, u32::MAX);
            self.spare = 0;
        }
    }

    /// Somebody leaves the line; tells whether it was still in it.
    pub(super) fn leave(&mut self, ticket: u64, lane: &Lane, database: Option<&str>) -> bool {
        self.lines.leave(ticket, lane, database).is_some()
    }

    /// Somebody takes the turn that it was given; tells whether it was not taken back before.
    pub(super) fn claim(&mut self, sent: Sent) -> bool {
        self.under_way.take(sent)
    }

    /// Somebody leaves with a turn, and will not send anything.
    pub(super) fn unsent(&mut self, sent: Sent, database: Option<&str>) {
        if self.under_way.take(sent) {
            self.under_way.end(sent);
            self.ledger.unsend(sent.at);
            self.free(database);
            self.spare += 1;
        }
    }

    /// A request is over.
    pub(super) fn over(&mut self, sent: Sent, database: Option<&str>, now: Instant) {
        self.under_way.end(sent);
        self.ledger.end(now);
        self.free(database);
    }

    fn free(&mut self, database: Option<&str>) {
        if let Some(database) = database {
            self.lines.over(database);
        }
    }

    /// Reads the answer to a request that is still under way.
    pub(super) fn heed(&mut self, sent: Sent, status: u16, told: &Told, now: Instant) -> Heard {
        self.told.heed(told, now);
        self.adopt();
        if status == 429 {
            return self.refused(told.pause(self.ledger.window()), now);
        }
        self.ceiling = self.ceiling.saturating_add(1).min(self.most().max(PROBES));
        if sent.ticket > self.heard_from {
            self.ledger.heed(sent, told, now);
        }
        Heard::Answer
    }

    fn refused(&mut self, pause: Duration, now: Instant) -> Heard {
        let until = now + pause;
        let before = self.paused_until.replace(match self.paused_until {
            Some(before) => before.max(until),
            None => until,
        });
        self.heard_from = self.tickets;
        self.ledger.forget();
        for waiter in self.lines.remove_where(|turn| turn.deadline < until) {
            // Nobody to tell is nobody to mind.
            drop(waiter.waits.go.send(Err(refusal::paused(pause, &waiter.lane))));
        }
        if before.is_some_and(|before| before > now) { Heard::Refusal } else { Heard::Pause(pause) }
    }

    fn pause(&self, now: Instant) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn waiting(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn usage(&self, now: Instant) -> BudgetUsage {
        BudgetUsage {
            limit: self.share.0,
            remaining: self.ledger.left(),
            waiting: self.waiting(),
            in_flight: self.ledger.under_way(),
            paused_for: Some(self.pause(now)).filter(|pause| !pause.is_zero()),
        }
    }
}
