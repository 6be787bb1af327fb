//! How many requests a token may send, shared by everything that sends with it.
//!
//! Every request needs a [`Permit`]. Whether one is given is decided in three places:
//! `bucket` holds us alone to the service's limit, `ledger` holds us to what the service's answers
//! say others leave of it, and `lines` says whose turn it is. `under_way` sees to it that nobody
//! who was let go holds up the others for ever. `state` asks them all; `shared` is the lock around
//! it and wakes it in time.

mod belief;
mod bucket;
mod headers;
mod ledger;
mod lines;
mod meters;
mod refusal;
mod registry;
mod settings;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod under_way;

use std::{fmt, sync::Arc, time::Duration};

use mt_core::{Result, TenantId};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use self::{
    headers::Told,
    ledger::Sent,
    shared::{Place, Shared},
};

pub use self::settings::BudgetSettings;

/// For whom a request is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// The life of databases: making, migrating, copying, removing.
    Control,
    /// A tenant's own statements.
    Tenant(TenantId),
}

/// The budget of one token: how many requests go, when, and whose.
///
/// - Alone, it never overruns the limit, however the service places its windows: it lets a burst go
///   (an eighth of the limit) and then an even flow (1,000 in 5 minutes by default).
/// - Where the answers say that others spend from the same token, it goes slower, so that what is
///   left lasts. Before the first answer only two requests are under way.
/// - Nobody holds up the others by not going on. Whoever has not taken its turn after a second while
///   others wait is passed over, and comes first when it is back. A request that takes longer than
///   5 seconds does not count against how many may be under way, but it counts as spent until one
///   window after its end. So where all answers take 15 to 20 seconds about nine tenths of the rate
///   are reached, and at 30 seconds four fifths.
/// - After a refusal (429) nothing is sent until the service takes requests again, and then slowly.
/// - Tenants take turns, and the control plane takes every other one; nobody waits behind a
///   database that is busy.
///
/// It needs a Tokio runtime with time, and outlives any.
///
/// | metric | kind | labels | meaning |
/// |---|---|---|---|
/// | `mt_d1_budget_queue_seconds` | histogram | `lane`: `control`, `tenant` | how long a request stood in line |
/// | `mt_d1_budget_requests_total` | counter | `lane`: `control`, `tenant` | requests let go |
/// | `mt_d1_budget_remaining` | gauge | | requests left in the window, by the last answer |
/// | `mt_d1_budget_refusals_total` | counter | | answers with status 429 |
/// | `mt_d1_budget_pauses_total` | counter | | pauses of everything after a refusal |
pub struct Budget {
    shared: Arc<Shared>,
}

/// How a budget stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUsage {
    /// Requests that we may send in a window: what is set or, where that is less, the service's
    /// limit.
    pub limit: u32,
    /// Requests left in this window of all who send with the token, as far as the service has said.
    pub remaining: Option<u32>,
    /// Requests in line.
    pub waiting: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// For how long nothing is sent, where the service has refused.
    pub paused_for: Option<Duration>,
}

/// The right to send one request. Dropping it says that the request is over.
#[must_use = "dropping a permit says that the request is over"]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    sent: Sent,
    database: Option<Arc<str>>,
}

impl Budget {
    /// A budget of its own, which knows nothing of others of the same token in this process; see
    /// [`for_token`](Self::for_token).
    ///
    /// # Errors
    /// `Config`: a setting lets nothing through.
    pub(crate) fn new(settings: BudgetSettings) -> Result<Self> {
        settings.check()?;
        meters::describe();
        Ok(Self { shared: Arc::new(Shared::new(settings)) })
    }

    fn tighten(&self, settings: &BudgetSettings) {
        self.shared.change(|state, _| state.tighten(settings));
    }

    /// Waits for the right to send one request, at most `patience`. `database` is the one that the
    /// request is to, where it is to one.
    ///
    /// Dropping the future leaves the line.
    ///
    /// # Errors
    /// `Unavailable`, with nothing sent: at once where everything pauses for longer, or where by far
    /// too many are in line for a turn in time; after `patience` where it takes longer than foreseen.
    pub(crate) async fn acquire(
        &self,
        lane: &Lane,
        database: Option<&str>,
        patience: Duration,
    ) -> Result<Permit> {
        /// Longer than anything waits, and short enough to be added to any time.
        const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let begin = Instant::now();
        let mut place = Place::take(&self.shared, lane, database, patience.min(FOREVER))?;
        let sent = place.turn().await?;
        meters::let_go(lane, begin.elapsed());
        let database = database.map(Arc::from);
        Ok(Permit { shared: Arc::clone(&self.shared), sent, database })
    }

    /// Learns what the service says of the rate in the answer to the request of `permit`: with every
    /// answer, and with a refusal (429). What fails with 500 or above may be a gateway's answer, and
    /// a gateway has limits of its own.
    pub(crate) fn heed(&self, permit: &Permit, status: u16, headers: &HeaderMap) {
        let told = if status < 500 { Told::read(headers) } else { Told::default() };
        let sent = permit.sent;
        let heard = self.shared.change(|state, now| state.heed(sent, status, &told, now));
        meters::heard(heard, told.remaining);
    }

    /// How long `requests` more take from now, after those in line: what is left of the burst at
    /// once, the rest as it flows.
    pub fn forecast(&self, requests: u32) -> Duration {
        self.shared.look().forecast(requests, Instant::now())
    }

    /// How it stands now.
    pub fn usage(&self) -> BudgetUsage {
        self.shared.look().usage(Instant::now())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let database = self.database.as_deref();
        self.shared.change(|state, now| state.over(self.sent, database, now));
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budget").field(&self.usage()).finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("database", &self.database).finish_non_exhaustive()
    }
}
