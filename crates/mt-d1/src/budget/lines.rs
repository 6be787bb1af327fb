//! Who waits, and whose turn it is.

mod ahead;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mt_core::TenantId;

use super::Lane;

/// Requests in line, one line for each lane.
///
/// - In its lane the earliest goes first.
/// - Tenants take turns; a tenant that comes waits for one turn of each other at most.
/// - The control plane takes every other turn while tenants wait too, and all of them when none does.
/// - Whoever waits for a database that has all it may have is set aside until one of its requests is
///   over, and holds nobody up.
///
/// Everything takes logarithmic time, whoever leaves from wherever.
#[derive(Debug)]
pub(super) struct Lines<W> {
    control: BTreeMap<u64, Waiter<W>>,
    tenants: HashMap<TenantId, Line<W>>,
    /// Tenants with somebody in line, in the order of their turns.
    turns: BTreeMap<i64, TenantId>,
    next_turn: i64,
    /// The turn before all others.
    front_turn: i64,
    /// Whether the last turn was the control plane's.
    controlled: bool,
    databases: HashMap<Arc<str>, Database<W>>,
    len: usize,
}

#[derive(Debug)]
struct Line<W> {
    turn: i64,
    waiters: BTreeMap<u64, Waiter<W>>,
}

#[derive(Debug)]
struct Database<W> {
    /// Requests under way to it.
    busy: u32,
    aside: BTreeMap<u64, Waiter<W>>,
}

impl<W> Default for Database<W> {
    fn default() -> Self {
        Self { busy: 0, aside: BTreeMap::new() }
    }
}

#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) lane: Lane,
    pub(super) database: Option<Arc<str>>,
    pub(super) waits: W,
}

impl<W> Lines<W> {
    pub(super) fn new() -> Self {
        Self {
            control: BTreeMap::new(),
            tenants: HashMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            front_turn: 0,
            controlled: false,
            databases: HashMap::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a waiter in line. A later one has a higher ticket.
    pub(super) fn join(&mut self, ticket: u64, waiter: Waiter<W>) {
        self.len += 1;
        self.line_up(ticket, waiter);
    }

    /// Puts a waiter in line again that was in it before, in front of its lane, and its tenant in
    /// front of the others.
    pub(super) fn rejoin(&mut self, ticket: u64, waiter: Waiter<W>) {
        let lane = waiter.lane.clone();
        self.join(ticket, waiter);
        if let Lane::Tenant(tenant) = lane
            && let Some(line) = self.tenants.get_mut(&tenant)
        {
            self.front_turn -= 1;
            self.turns.remove(&line.turn);
            line.turn = self.front_turn;
            self.turns.insert(line.turn, tenant);
        }
    }

    fn line_up(&mut self, ticket: u64, waiter: Waiter<W>) {
        let Lane::Tenant(tenant) = &waiter.lane else {
            self.control.insert(ticket, waiter);
            return;
        };
        if let Some(line) = self.tenants.get_mut(tenant) {
            line.waiters.insert(ticket, waiter);
            return;
        }
        let tenant = tenant.clone();
        let turn = self.new_turn(tenant.clone());
        self.tenants.insert(tenant, Line { turn, waiters: BTreeMap::from([(ticket, waiter)]) });
    }

    fn new_turn(&mut self, tenant: TenantId) -> i64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, tenant);
        turn
    }

    /// Whose turn it is: somebody whose database has room for one more than `cap` forbids.
    pub(super) fn next(&mut self, cap: u32) -> Option<u64> {
        loop {
            let ticket = self.head()?;
            let full = |lines: &Self, waiter: &Waiter<W>| {
                let database = waiter.database.as_ref()?;
                let busy = lines.databases.get(database)?.busy;
                (busy >= cap).then(|| Arc::clone(database))
            };
            let Some(database) = self.waiter(ticket).and_then(|waiter| full(self, waiter)) else {
                return Some(ticket.of);
            };
            if let Some(waiter) = self.step_out(ticket, false) {
                self.databases.entry(database).or_default().aside.insert(ticket.of, waiter);
            }
        }
    }

    /// Lets whoever has the turn go; its database is busier from then on.
    pub(super) fn take(&mut self) -> Option<(u64, Waiter<W>)> {
        let ticket = self.head()?;
        let waiter = self.step_out(ticket, true)?;
        self.len -= 1;
        self.controlled = ticket.control;
        if let Some(database) = &waiter.database {
            self.databases.entry(Arc::clone(database)).or_default().busy += 1;
        }
        Some((ticket.of, waiter))
    }

    fn head(&self) -> Option<Head> {
        let control = self.control.keys().next().map(|of| Head { of: *of, control: true });
        let tenant = self.turns.values().next().and_then(|tenant| self.tenants.get(tenant));
        let tenant = tenant.and_then(|line| line.waiters.keys().next());
        let tenant = tenant.map(|of| Head { of: *of, control: false });
        if self.controlled { tenant.or(control) } else { control.or(tenant) }
    }

    fn waiter(&self, head: Head) -> Option<&Waiter<W>> {
        if head.control {
            return self.control.get(&head.of);
        }
        self.tenants.get(self.turns.values().next()?)?.waiters.get(&head.of)
    }

    /// Takes the head out of its line; `served` tells whether that was its tenant's turn.
    fn step_out(&mut self, head: Head, served: bool) -> Option<Waiter<W>> {
        if head.control {
            return self.control.remove(&head.of);
        }
        let tenant = self.turns.values().next()?.clone();
        let waiter = self.leave_line(&tenant, head.of);
        if served && let Some(line) = self.tenants.get(&tenant) {
            self.turns.remove(&line.turn);
            let turn = self.new_turn(tenant.clone());
            if let Some(line) = self.tenants.get_mut(&tenant) {
                line.turn = turn;
            }
        }
        waiter
    }

    fn leave_line(&mut self, tenant: &TenantId, ticket: u64) -> Option<Waiter<W>> {
        let line = self.tenants.get_mut(tenant)?;
        let waiter = line.waiters.remove(&ticket)?;
        if line.waiters.is_empty() {
            self.turns.remove(&line.turn);
            self.tenants.remove(tenant);
        }
        Some(waiter)
    }

    /// Takes a waiter out, wherever it waits.
    pub(super) fn leave(
        &mut self,
        ticket: u64,
        lane: &Lane,
        database: Option<&str>,
    ) -> Option<Waiter<W>> {
        let in_line = match lane {
            Lane::Control => self.control.remove(&ticket),
            Lane::Tenant(tenant) => self.leave_line(tenant, ticket),
        };
        let left = match (in_line, database) {
            (None, Some(database)) => self.databases.get_mut(database)?.aside.remove(&ticket),
            (left, _) => left,
        }?;
        self.len -= 1;
        // It may have been called back to take a place that another can take now.
        if let Some(database) = database {
            self.call_back(database);
        }
        Some(left)
    }

    /// A request to `database` is over.
    pub(super) fn over(&mut self, database: &str) {
        if let Some(known) = self.databases.get_mut(database) {
            known.busy = known.busy.saturating_sub(1);
        }
        self.call_back(database);
    }

    /// Puts the first who was set aside for `database` in line again.
    fn call_back(&mut self, database: &str) {
        let Some(known) = self.databases.get_mut(database) else { return };
        let first = known.aside.pop_first();
        if known.busy == 0 && known.aside.is_empty() {
            self.databases.remove(database);
        }
        if let Some((ticket, waiter)) = first {
            self.line_up(ticket, waiter);
        }
    }

    /// Takes out everybody of whom `gone` is true.
    pub(super) fn remove_where(&mut self, gone: impl Fn(&W) -> bool) -> Vec<Waiter<W>> {
        let lines = self.tenants.values().flat_map(|line| &line.waiters);
        let aside = self.databases.values().flat_map(|database| &database.aside);
        let leaving: Vec<_> = self
            .control
            .iter()
            .chain(lines)
            .chain(aside)
            .filter(|(_, waiter)| gone(&waiter.waits))
            .map(|(ticket, waiter)| (*ticket, waiter.lane.clone(), waiter.database.clone()))
            .collect();
        leaving
            .iter()
            .filter_map(|(ticket, lane, database)| self.leave(*ticket, lane, database.as_deref()))
            .collect()
    }
}

/// Who is first, and where.
#[derive(Clone, Copy, Debug)]
struct Head {
    of: u64,
    control: bool,
}
