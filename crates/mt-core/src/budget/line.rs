//! Who has a connection, which are idle, and who waits. Pure bookkeeping: nothing here waits.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use lru::LruCache;
use sea_orm::DatabaseConnection;
use tokio::{sync::oneshot, time::Instant};

use super::{BudgetUsage, pool::Place};

/// A connection that nobody uses.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: DatabaseConnection,
    pub(super) opened_at: Instant,
    // Behind the connection: its place is free once it is gone.
    pub(super) place: Place,
}

/// What somebody who waited gets.
#[derive(Debug)]
pub(super) enum Grant {
    /// A connection of its own pool.
    Idle(Idle),
    /// The right to open one.
    Place(Place),
}

#[derive(Debug)]
struct Waiter {
    pool: u64,
    sender: oneshot::Sender<Grant>,
}

#[derive(Debug)]
struct Parked {
    pool: u64,
    since: Instant,
    idle: Idle,
}

/// A pool, as far as the budget knows it.
#[derive(Debug, Default)]
struct Members {
    /// Its idle connections, the last used last.
    idle: Vec<u64>,
    in_use: usize,
    closed: bool,
}

#[derive(Debug)]
pub(super) struct Line {
    max: usize,
    /// Places that are taken.
    open: usize,
    /// How many are being closed for those who wait.
    closing: usize,
    serial: u64,
    /// By serial, the coldest at the end.
    idle: LruCache<u64, Parked>,
    pools: HashMap<u64, Members>,
    waiters: VecDeque<Waiter>,
    /// Somebody looks after those that nobody uses.
    watched: bool,
}

/// How somebody comes to a connection.
#[derive(Debug)]
pub(super) enum Turn {
    /// By one that the pool has.
    Reuse(Idle),
    /// By opening one: a place was free, and is taken now.
    Open,
    /// By closing another's, which nobody uses, and opening one in its place.
    Replace(Idle),
    /// By waiting.
    Wait(oneshot::Receiver<Grant>),
    /// Not at all: the pool is closed.
    Closed,
}

/// What becomes of a connection after its use.
#[derive(Debug)]
pub(super) enum Rest {
    /// It waits for its next use.
    Kept,
    /// Somebody of the same pool has waited for it.
    Hand(oneshot::Sender<Grant>, Idle),
    /// It is closed, because its place is needed, or its time is over.
    Close(Idle),
}

impl Line {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: 0,
            closing: 0,
            serial: 0,
            idle: LruCache::unbounded(),
            pools: HashMap::new(),
            waiters: VecDeque::new(),
            watched: false,
        }
    }

    pub(super) fn usage(&self) -> BudgetUsage {
        let waiting = self.waiters.iter().filter(|waiter| !waiter.sender.is_closed()).count();
        BudgetUsage { max: self.max, open: self.open, idle: self.idle.len(), waiting }
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn add_pool(&mut self) -> u64 {
        let pool = self.next();
        self.pools.insert(pool, Members::default());
        pool
    }

    /// Forgets a pool; its idle connections are the caller's.
    pub(super) fn remove_pool(&mut self, pool: u64) -> Vec<Idle> {
        let idle = self.close_pool(pool);
        self.pools.remove(&pool);
        idle
    }

    /// Lets nobody have a connection of the pool any more, sends away who waits for one, and hands
    /// out the idle ones.
    pub(super) fn close_pool(&mut self, pool: u64) -> Vec<Idle> {
        let Some(members) = self.pools.get_mut(&pool) else { return Vec::new() };
        members.closed = true;
        let idle = std::mem::take(&mut members.idle);
        self.waiters.retain(|waiter| waiter.pool != pool);
        idle.iter().filter_map(|serial| self.idle.pop(serial)).map(|parked| parked.idle).collect()
    }

    pub(super) fn in_use(&self, pool: u64) -> usize {
        self.pools.get(&pool).map_or(0, |members| members.in_use)
    }

    /// Counts one more that has a connection of the pool or is about to; `false`: it is closed.
    pub(super) fn begin_use(&mut self, pool: u64) -> bool {
        let members = self.pools.get_mut(&pool).filter(|members| !members.closed);
        members.map(|members| members.in_use += 1).is_some()
    }

    pub(super) fn end_use(&mut self, pool: u64) {
        if let Some(members) = self.pools.get_mut(&pool) {
            members.in_use -= 1;
        }
    }

    pub(super) fn turn(&mut self, pool: u64) -> Turn {
        let Some(members) = self.pools.get_mut(&pool).filter(|members| !members.closed) else {
            return Turn::Closed;
        };
        if let Some(parked) = members.idle.pop().and_then(|serial| self.idle.pop(&serial)) {
            return Turn::Reuse(parked.idle);
        }
        if self.open < self.max {
            self.open += 1;
            return Turn::Open;
        }
        if let Some(idle) = self.pop_coldest() {
            return Turn::Replace(idle);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.push_back(Waiter { pool, sender });
        Turn::Wait(receiver)
    }

    /// The connection that was not used for longest.
    fn pop_coldest(&mut self) -> Option<Idle> {
        let (serial, parked) = self.idle.pop_lru()?;
        if let Some(members) = self.pools.get_mut(&parked.pool) {
            members.idle.retain(|one| *one != serial);
        }
        Some(parked.idle)
    }

    /// Whether somebody has to begin to look after those that nobody uses.
    pub(super) const fn begin_watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    /// The coldest, if nobody used it for `limit`; else how long until that is so of it. `None`: the
    /// watch is over, for nothing is idle.
    pub(super) fn pop_unused(&mut self, limit: Duration) -> Option<Result<Idle, Duration>> {
        self.watched = !self.idle.is_empty();
        let unused = self.idle.peek_lru().map(|(_, parked)| parked.since.elapsed())?;
        if unused < limit {
            return Some(Err(limit.saturating_sub(unused)));
        }
        self.pop_coldest().map(Ok)
    }

    /// Takes back a connection after its use; `is_good`: it may be used again.
    pub(super) fn give_back(&mut self, pool: u64, idle: Idle, is_good: bool) -> Rest {
        let is_open = self.pools.get(&pool).is_some_and(|members| !members.closed);
        if !is_open || !is_good {
            return Rest::Close(idle);
        }
        self.waiters.retain(|waiter| !waiter.sender.is_closed());
        self.closing = self.closing.min(self.waiters.len());
        // Places that are about to come free are for the first in the line; this one is for the
        // next.
        if let Some(waiter) = self.waiters.get(self.closing) {
            if waiter.pool == pool
                && let Some(waiter) = self.waiters.remove(self.closing)
            {
                return Rest::Hand(waiter.sender, idle);
            }
            self.closing += 1;
            return Rest::Close(idle);
        }
        let serial = self.next();
        self.idle.put(serial, Parked { pool, since: Instant::now(), idle });
        if let Some(members) = self.pools.get_mut(&pool) {
            members.idle.push(serial);
        }
        Rest::Kept
    }

    /// A place came free: it is that of whoever is first in the line, or nobody's.
    pub(super) fn free_place(&mut self) -> Option<oneshot::Sender<Grant>> {
        self.closing = self.closing.saturating_sub(1);
        while let Some(waiter) = self.waiters.pop_front() {
            if !waiter.sender.is_closed() {
                return Some(waiter.sender);
            }
        }
        self.open -= 1;
        None
    }
}
