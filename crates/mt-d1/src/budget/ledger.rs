//! What of the service's window is left, by what the service says and what we know to have sent.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::headers::Told;

/// Whether requests of ours, let go by our own count, also fit what others leave of the window.
///
/// The service says neither when its window began nor whether it slides, so nothing is built on
/// either: every request of ours is back in the budget one window after it ended at the latest, and
/// what others spend is taken to come back only when the service says so.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: u32,
    window: Duration,
    /// When the requests ended that the service may still count, the oldest first.
    spent: VecDeque<Instant>,
    under_way: u32,
    /// How many have ended since the beginning.
    ended: u64,
    known: Option<Known>,
    /// How many requests a second others send more than they get back.
    drift: f64,
}

/// What our own bucket gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Requests at once; a part of one is there soon.
    pub(super) burst: f64,
    /// Requests at once after a rest.
    pub(super) most: f64,
    /// Requests a second after that.
    pub(super) rate: f64,
}

/// What the latest answer told.
#[derive(Debug)]
struct Known {
    at: Instant,
    /// Which request it was the answer to.
    ticket: u64,
    /// What was left then, less what we have sent since.
    left: u32,
    /// Requests of ours that may or may not be counted in `left`.
    unsure: u32,
    /// What others have spent.
    elsewhere: u32,
    /// When everything is given back, where that is known.
    reset: Option<Instant>,
}

/// What is noted of a request when it is let go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Later requests have higher ones.
    pub(super) ticket: u64,
    pub(super) at: Instant,
    ended_before: u64,
}

impl Ledger {
    pub(super) fn new(limit: u32, window: Duration) -> Self {
        Self {
            limit,
            window,
            spent: VecDeque::new(),
            under_way: 0,
            ended: 0,
            known: None,
            drift: 0.0,
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// The service's limit is another one than we thought.
    pub(super) fn adopt(&mut self, limit: u32, window: Duration) {
        (self.limit, self.window, self.known) = (limit, window, None);
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// Requests of ours that the service may count.
    pub(super) fn ours(&self) -> u32 {
        count(self.spent.len()).saturating_add(self.under_way)
    }

    /// When the service forgets the oldest of them that is over.
    pub(super) fn first_back(&self) -> Option<Instant> {
        self.spent.front().map(|end| *end + self.window)
    }

    pub(super) fn left(&self) -> Option<u32> {
        self.known.as_ref().map(|known| known.left)
    }

    /// How long ago the service was last heard.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.known.as_ref().map(|known| now.saturating_duration_since(known.at))
    }

    pub(super) fn send(&mut self, ticket: u64, now: Instant) -> Sent {
        self.under_way += 1;
        if let Some(known) = &mut self.known {
            known.left = known.left.saturating_sub(1);
        }
        Sent { ticket, at: now, ended_before: self.ended }
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.ended += 1;
        self.spent.push_back(now);
    }

    /// A request that was let go at `at` was never sent.
    pub(super) fn unsend(&mut self, at: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        match &mut self.known {
            // What was told since cannot have counted it.
            Some(known) if at < known.at => known.unsure = known.unsure.saturating_sub(1),
            _ => self.give_back(),
        }
    }

    fn give_back(&mut self) {
        let limit = self.limit;
        if let Some(known) = &mut self.known {
            known.left = (known.left + 1).min(limit);
        }
    }

    /// Nothing the service said before holds any more.
    pub(super) fn forget(&mut self) {
        (self.known, self.drift) = (None, 0.0);
    }

    /// Lets time pass; tells whether a window has ended of which others spend a part.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        while self.spent.front().is_some_and(|end| *end + self.window <= now) {
            self.spent.pop_front();
            self.give_back();
        }
        let Some(known) = self.known.take_if(|known| renewal(known, self.window) <= now) else {
            return false;
        };
        if known.reset.is_none() {
            self.drift = 0.0;
        }
        self.drift * self.window.as_secs_f64() > f64::from(self.limit / 48)
    }

    /// Reads the answer to a request that is still under way.
    pub(super) fn heed(&mut self, sent: Sent, told: &Told, now: Instant) {
        let Some(remaining) = told.remaining else { return };
        let remaining = remaining.min(self.limit);
        let before = self.known.take();
        if before.as_ref().is_some_and(|before| before.ticket > sent.ticket) {
            // The answer to an earlier request is older news, though it came later.
            self.known = before;
            return;
        }
        // The service counted this request, and surely those that had ended before it was sent; it
        // may have counted those that were under way meanwhile.
        let meanwhile = u32::try_from(self.ended - sent.ended_before).unwrap_or(u32::MAX);
        let unsure = self.under_way.saturating_sub(1).saturating_add(meanwhile);
        let surely = self.ours().saturating_sub(unsure);
        let used = self.limit - remaining;
        let gone = surely.saturating_sub(used).min(count(self.spent.len()));
        self.spent.drain(..gone as usize);
        let mut renewed = gone > 1 && gone * 2 >= surely;
        if let Some(before) = &before {
            // What others spent comes back a little at a time, or all at once with a new window.
            let elsewhere = used.saturating_sub(self.ours().saturating_sub(unsure));
            let back = before.elsewhere.saturating_sub(elsewhere);
            if back > self.limit / 48 && back > elsewhere {
                renewed = true;
                self.spent.retain(|end| *end > before.at);
            }
        }
        let elsewhere = used.saturating_sub(self.ours());
        match (&before, told.reset) {
            (Some(before), _) if !renewed => self.drift += self.turn(before, elsewhere, now),
            (None, Some(reset)) if self.drift == 0.0 => {
                // All that others have spent is of this window, of which so much has passed.
                let passed = self.window.saturating_sub(reset).max(self.window / 100);
                self.drift = f64::from(elsewhere) / passed.as_secs_f64();
            }
            _ => {}
        }
        self.drift = self.drift.min(f64::from(self.limit) / self.window.as_secs_f64());
        let kept = before.and_then(|before| before.reset).filter(|reset| *reset > now);
        let reset = match told.reset {
            Some(reset) => Some(now + reset.min(self.window)),
            None if renewed => Some(now + self.window),
            None => kept,
        };
        let left = remaining.min(self.limit.saturating_sub(self.ours()));
        let ticket = sent.ticket;
        self.known = Some(Known { at: now, ticket, left, unsure, elsewhere, reset });
    }

    /// How the drift changes: smoothed over a tenth of a window.
    fn turn(&self, before: &Known, elsewhere: u32, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(before.at).as_secs_f64();
        if passed == 0.0 {
            return 0.0;
        }
        let weight = 1.0 - (-passed * 10.0 / self.window.as_secs_f64()).exp();
        let more = f64::from(elsewhere) - f64::from(before.elsewhere);
        weight * (more / passed - self.drift)
    }

    /// How many requests a second others leave us; none where they leave more than we would send,
    /// with `flow` what comes into our own bucket and its `burst` gone at once.
    fn pace(&self, flow: Flow, now: Instant) -> Option<f64> {
        let known = self.known.as_ref()?;
        let others = self.drift.max(0.0);
        let spendable = f64::from(known.left - self.reserve(known));
        let after_burst = spendable - flow.burst;
        // A twentieth less is no difference: answers in disorder look like it.
        if self.even(known, after_burst, now) - others >= flow.rate * 0.95 {
            return None;
        }
        // Some requests go even where others spend everything: only answers tell when they stop.
        let some = f64::from(self.limit) / 40.0 / self.window.as_secs_f64();
        let least = (spendable / self.seconds(renewal(known, self.window), now) / 8.0).min(some);
        let pace = self.even(known, spendable, now) - others;
        Some(pace.max(least).min(flow.rate))
    }

    /// How many requests a second make `spendable` ones last until there are more.
    fn even(&self, known: &Known, spendable: f64, now: Instant) -> f64 {
        if let Some(reset) = known.reset {
            return spendable / self.seconds(reset, now);
        }
        // What is left, and what of ours comes back, must last until each next one does.
        let step = self.spent.len() / 64 + 1;
        let back = |(back, end): (usize, &Instant)| {
            (spendable + f64::from(count(back))) / self.seconds(*end + self.window, now)
        };
        let all = (spendable + f64::from(count(self.spent.len()))) / self.window.as_secs_f64();
        self.spent.iter().enumerate().step_by(step).map(back).fold(all, f64::min)
    }

    fn seconds(&self, until: Instant, now: Instant) -> f64 {
        until.saturating_duration_since(now).max(self.window / 100_000).as_secs_f64()
    }

    /// What is kept for a surprise: for what we are not sure of, and what others send at once.
    fn reserve(&self, known: &Known) -> u32 {
        (self.limit / 48).min(known.left / 2).max(known.unsure).min(known.left)
    }

    /// Until when the next request is held back, after one at `last`, lest what is left not last.
    pub(super) fn hold(&self, last: Option<Instant>, flow: Flow, now: Instant) -> Option<Instant> {
        let known = self.known.as_ref()?;
        let pace = self.pace(flow, now)?;
        let latest = self.first_back().into_iter().fold(renewal(known, self.window), Instant::min);
        let spaced = Duration::try_from_secs_f64(pace.recip())
            .ok()
            .and_then(|space| last.unwrap_or(now).checked_add(space));
        Some(spaced.map_or(latest, |spaced| spaced.min(latest)))
    }

    /// When requests may go from now on, where the latest went at `last`.
    pub(super) fn outlook(&self, last: Option<Instant>, flow: Flow, now: Instant) -> Outlook {
        let paced = self.known.as_ref().zip(self.pace(flow, now)).map(|(known, pace)| {
            let rest = last.map_or(f64::MAX, |last| (now - last).as_secs_f64());
            let rested = (rest * pace).min(1.0);
            Paced { pace, rested, renewal: self.seconds(renewal(known, self.window), now) }
        });
        Outlook { flow, paced }
    }
}

/// When the next requests may go, as far as is known now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    flow: Flow,
    paced: Option<Paced>,
}

/// What others leave.
#[derive(Clone, Copy, Debug)]
struct Paced {
    /// Requests a second.
    pace: f64,
    /// What part of the wait for the next request is over.
    rested: f64,
    /// Seconds until everything is given back.
    renewal: f64,
}

impl Outlook {
    /// Whether others are the reason of the wait, who may stop.
    pub(super) fn depends_on_others(&self) -> bool {
        self.paced.is_some()
    }

    /// How long it takes until the last of `requests` goes, where that many are sent.
    pub(super) fn wait(&self, requests: u32) -> Duration {
        if requests == 0 {
            return Duration::ZERO;
        }
        let (requests, flow) = (f64::from(requests), self.flow);
        let seconds = match self.paced {
            None => (requests - flow.burst).max(0.0) / flow.rate,
            Some(Paced { pace, rested, renewal }) => {
                let until_then = pace * renewal + rested;
                if requests <= until_then {
                    (requests - rested).max(0.0) / pace
                } else {
                    // What flows in and does not go is there then.
                    let saved = flow.burst + (flow.rate - pace) * renewal;
                    let rest = requests - until_then - saved.min(flow.most);
                    renewal + rest.max(0.0) / flow.rate
                }
            }
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// When everything is given back at the latest.
fn renewal(known: &Known, window: Duration) -> Instant {
    known.reset.unwrap_or(known.at + window)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
