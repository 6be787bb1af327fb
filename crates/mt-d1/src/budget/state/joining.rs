//! Who is let into the line: nobody whose turn would come too late.

use std::time::Duration;

use mt_core::Result;
use tokio::time::Instant;

use super::{
    super::{ledger::Outlook, lines::Waiter, refusal},
    State, Turn,
};

/// How many times faster than foreseen it may go for whoever is refused at once: those ahead may leave
/// the line.
const HASTE: f64 = 1.1;

/// The same where others spend, who may stop.
const HASTE_OF_OTHERS: f64 = 3.0;

/// How many times faster it would have to go for whoever is taken to leave the line without a turn.
/// Fewer, and one turn would be promised to many: each takes the one before it to leave.
const HOPELESS: f64 = 1.25;

impl State {
    /// Puts a request in line.
    ///
    /// # Errors
    /// `Unavailable`: everything pauses for longer than it can wait, or its turn would come too late.
    pub(in super::super) fn join(&mut self, now: Instant, waiter: Waiter<Turn>) -> Result<u64> {
        self.catch_up(now);
        self.ensure_patient(now, &waiter)?;
        self.ensure_in_time(now, &waiter)?;
        self.tickets += 1;
        self.lines.join(self.tickets, waiter);
        Ok(self.tickets)
    }

    /// Puts a request in front whose turn was taken back.
    ///
    /// # Errors
    /// `Unavailable`: everything pauses for longer than it can wait.
    pub(in super::super) fn rejoin(
        &mut self,
        now: Instant,
        ticket: u64,
        waiter: Waiter<Turn>,
    ) -> Result<()> {
        self.ensure_patient(now, &waiter)?;
        self.lines.rejoin(ticket, waiter);
        Ok(())
    }

    fn ensure_patient(&self, now: Instant, waiter: &Waiter<Turn>) -> Result<()> {
        match self.paused_until {
            Some(until) if until > waiter.waits.deadline => {
                Err(refusal::paused(until.saturating_duration_since(now), &waiter.lane))
            }
            _ => Ok(()),
        }
    }

    fn ensure_in_time(&self, now: Instant, waiter: &Waiter<Turn>) -> Result<()> {
        let patience = waiter.waits.deadline.saturating_duration_since(now);
        let (pause, outlook) = self.outlook(now);
        let ahead = u32::try_from(self.lines.ahead(&waiter.lane)).unwrap_or(u32::MAX);
        let wait = pause.saturating_add(outlook.wait(ahead.saturating_add(1)));
        if wait <= patience {
            return Ok(());
        }
        let haste = if outlook.depends_on_others() { HASTE_OF_OTHERS } else { HASTE };
        let when = |turn| {
            let wait = outlook.wait(turn);
            let is_in_time = pause.saturating_add(wait.div_f64(haste)) <= patience;
            is_in_time.then(|| now + pause.saturating_add(wait.div_f64(HOPELESS)))
        };
        if self.lines.is_served(&waiter.lane, when, |turn, at| turn.deadline < at) {
            return Ok(());
        }
        Err(refusal::too_long(wait, patience, self.waiting(), &waiter.lane))
    }

    pub(in super::super) fn forecast(&self, requests: u32, now: Instant) -> Duration {
        let (pause, outlook) = self.outlook(now);
        pause.saturating_add(outlook.wait(requests.saturating_add(self.waiting())))
    }

    /// For how long nothing goes, and what goes then.
    fn outlook(&self, now: Instant) -> (Duration, Outlook) {
        let pause = self.pause(now);
        let mut flow = self.bucket.flow(now);
        flow.burst = if pause.is_zero() { flow.burst + f64::from(self.spare) } else { 0.0 };
        (pause, self.ledger.outlook(self.last_sent, flow, now))
    }
}
