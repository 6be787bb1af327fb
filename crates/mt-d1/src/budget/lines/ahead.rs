//! Who is served before somebody that comes now.

use std::{
    collections::{VecDeque, btree_map},
    iter::Peekable,
};

use mt_core::TenantId;
use tokio::time::Instant;

use super::{Lane, Lines, Waiter};

/// The turns to come, if nobody else comes: the same order in which [`Lines`] lets go.
///
/// Whoever is set aside for a busy database is not in it. It may be called back before its turn, so a
/// turn comes later than foreseen, and never earlier.
struct Turns<'a, W> {
    lines: &'a Lines<W>,
    newcomer: &'a Lane,
    control: Waiters<'a, W>,
    /// Tenants whose turn is to come for the first time.
    tenants: btree_map::Values<'a, i64, TenantId>,
    /// Whether the newcomer's tenant has its first turn after all of these.
    newcomer_is_last: bool,
    /// Those that had a turn, with the rest of their lines.
    again: VecDeque<Line<'a, W>>,
    /// Whose turn it is among the tenants.
    head: Option<Line<'a, W>>,
    controlled: bool,
}

type Waiters<'a, W> = Peekable<btree_map::Values<'a, u64, Waiter<W>>>;

/// A tenant's line, with the newcomer at its end if it is the newcomer's.
struct Line<'a, W> {
    waiters: Waiters<'a, W>,
    is_newcomers: bool,
}

impl<W> Lines<W> {
    /// How many have their turn before one that comes to `lane` now, at most.
    ///
    /// A tenant waits for one turn of each other, as often as it is in line itself, and the control
    /// plane takes every other turn.
    pub(in super::super) fn ahead(&self, lane: &Lane) -> usize {
        let (control, tenants) = (self.control.len(), self.len - self.control.len());
        match lane {
            Lane::Control => control + tenants.min(control + 1),
            Lane::Tenant(tenant) => {
                let own = self.tenants.get(tenant).map_or(0, |line| line.waiters.len());
                let others = self.turns.len() - usize::from(own > 0);
                let turns = tenants.min(own + others * (own + 1));
                turns + control.min(turns + 1)
            }
        }
    }

    /// Whether one that comes to `lane` now has one of the turns that `when` knows a time of, the next
    /// being the first; `gone` tells who has left by then.
    pub(in super::super) fn is_served(
        &self,
        lane: &Lane,
        when: impl Fn(u32) -> Option<Instant>,
        gone: impl Fn(&W, Instant) -> bool,
    ) -> bool {
        let mut turns = Turns::new(self, lane);
        let mut number = 1;
        while let Some(at) = when(number) {
            if turns.is_newcomers(|waits| gone(waits, at)) {
                return true;
            }
            number += 1;
        }
        false
    }
}

impl<'a, W> Turns<'a, W> {
    fn new(lines: &'a Lines<W>, newcomer: &'a Lane) -> Self {
        let newcomer_is_last = match newcomer {
            Lane::Control => false,
            Lane::Tenant(tenant) => !lines.tenants.contains_key(tenant),
        };
        Self {
            lines,
            newcomer,
            control: lines.control.values().peekable(),
            tenants: lines.turns.values(),
            newcomer_is_last,
            again: VecDeque::new(),
            head: None,
            controlled: lines.controlled,
        }
    }

    /// Whether the next turn is the newcomer's, where everybody has left of whom `gone` is true.
    fn is_newcomers(&mut self, gone: impl Fn(&W) -> bool) -> bool {
        while self.control.next_if(|waiter| gone(&waiter.waits)).is_some() {}
        let control = self.control.peek().is_some() || *self.newcomer == Lane::Control;
        let tenant = self.find_head(gone);
        self.controlled = control && !(tenant && self.controlled);
        if self.controlled {
            return self.control.next().is_none();
        }
        let Some(mut line) = self.head.take() else { return true };
        let is_newcomers = line.waiters.next().is_none();
        self.again.push_back(line);
        is_newcomers
    }

    /// Finds the tenant whose turn it is, if there is one.
    fn find_head(&mut self, gone: impl Fn(&W) -> bool) -> bool {
        while let Some(mut line) = self.head.take().or_else(|| self.next_line()) {
            while line.waiters.next_if(|waiter| gone(&waiter.waits)).is_some() {}
            if line.waiters.peek().is_some() || line.is_newcomers {
                self.head = Some(line);
                return true;
            }
        }
        false
    }

    fn next_line(&mut self) -> Option<Line<'a, W>> {
        if let Some(tenant) = self.tenants.next() {
            let line = self.lines.tenants.get(tenant)?;
            let is_newcomers =
                matches!(self.newcomer, Lane::Tenant(newcomer) if newcomer == tenant);
            return Some(Line { waiters: line.waiters.values().peekable(), is_newcomers });
        }
        if self.newcomer_is_last {
            self.newcomer_is_last = false;
            let nobody = btree_map::Values::default().peekable();
            return Some(Line { waiters: nobody, is_newcomers: true });
        }
        self.again.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn lane(number: u8) -> Lane {
        match number {
            0 => Lane::Control,
            number => Lane::Tenant(TenantId::new(format!("t{number}")).unwrap()),
        }
    }

    proptest! {
        /// What is foreseen is what happens, whoever leaves when its time is over.
        #[test]
        fn a_turn_comes_when_it_is_foreseen(
            requests in vec((0_u8..6, 0_u32..60), 0..60),
            taken in 0_usize..12,
            newcomer in 0_u8..7,
        ) {
            let begin = Instant::now();
            let time = |turn: u32| begin + Duration::from_secs(turn.into());
            let mut lines = Lines::new();
            for (ticket, (number, until)) in (1..).zip(&requests) {
                let waits = Some(time(*until));
                lines.join(ticket, Waiter { lane: lane(*number), database: None, waits });
            }
            for _ in 0..taken {
                lines.take();
            }
            let (newcomer, last) = (lane(newcomer), 1_000);
            let gone = |until: &Option<Instant>, at: Instant| until.is_some_and(|until| until < at);
            let within = |turns: u32| {
                let when = |turn| (turn <= turns).then(|| time(turn));
                lines.is_served(&newcomer, when, gone)
            };
            let foreseen = (1..=last).find(|turns| within(*turns)).unwrap();
            let bound = u32::try_from(lines.ahead(&newcomer)).unwrap() + 1;

            lines.join(last.into(), Waiter { lane: newcomer, database: None, waits: None });
            let mut turn = 0;
            loop {
                turn += 1;
                lines.remove_where(|until| gone(until, time(turn)));
                if lines.take().unwrap().0 == u64::from(last) {
                    break;
                }
            }
            prop_assert_eq!(foreseen, turn);
            prop_assert!(turn <= bound, "{} of {}", turn, bound);
        }
    }
}
