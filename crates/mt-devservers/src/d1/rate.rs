//! How many requests a token has.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    d1::{
        envelope,
        fault::{TOO_MANY, TOO_MANY_MESSAGE},
    },
    fault::Canned,
};

/// So many requests in so much time, and then none for as long again.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// How many requests. The service has 1,200.
    pub requests: u32,
    /// In how much time, from the first of them. The service has 5 minutes.
    pub window: Duration,
    /// How long everything is refused after one request too many. The service has 5 minutes.
    pub block: Duration,
    /// Which headers speak of it.
    pub style: RateStyle,
}

impl RateLimit {
    /// The limit of the service: 1,200 requests in 5 minutes, then 5 minutes none.
    pub const SERVICE: Self = Self {
        requests: 1_200,
        window: Duration::from_secs(300),
        block: Duration::from_secs(300),
        style: RateStyle::Legacy,
    };

    /// So many requests in so much time, then as long none: the service's limit on a smaller
    /// scale.
    pub fn new(requests: u32, window: Duration) -> Self {
        Self { requests, window, block: window, style: RateStyle::Legacy }
    }

    /// The same, told in other headers.
    #[must_use]
    pub fn style(mut self, style: RateStyle) -> Self {
        self.style = style;
        self
    }
}

/// Which headers speak of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateStyle {
    /// `x-ratelimit-limit` and `x-ratelimit-remaining`; on 429 `x-ratelimit-reset` as well.
    Legacy,
    /// `Ratelimit` and `Ratelimit-Policy`.
    Ietf,
    /// All of them.
    Both,
    /// None; 429 has its `Retry-After` only.
    Silent,
}

/// The budget of the token.
#[derive(Debug)]
pub struct Rate {
    limit: Option<RateLimit>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the present window began, and what was spent in it.
    began: Option<Instant>,
    spent: u32,
    blocked_until: Option<Instant>,
    refused: u64,
}

/// What a reply says of the budget.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) headers: Vec<(String, String)>,
    /// The answer, when nothing is left.
    pub(crate) refusal: Option<Canned>,
}

impl Rate {
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Spends so much of the present window, as the dashboard or another process would.
    pub fn spend(&self, requests: u32) {
        let mut state = self.state();
        if let Some(limit) = self.limit {
            state.turn(limit, Instant::now());
            state.spent = state.spent.saturating_add(requests).min(limit.requests);
        }
    }

    /// What is left of the present window; `None` without a limit.
    pub fn remaining(&self) -> Option<u32> {
        let limit = self.limit?;
        let mut state = self.state();
        state.turn(limit, Instant::now());
        Some(state.left(limit))
    }

    /// How many requests were refused with 429 because nothing was left.
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    /// Whether everything is refused at this moment.
    pub fn is_blocked(&self) -> bool {
        self.state().blocked_until.is_some_and(|until| Instant::now() < until)
    }

    /// Begins a new window, and lets requests in again.
    pub fn reset(&self) {
        let mut state = self.state();
        *state = State { refused: state.refused, ..State::default() };
    }

    /// Takes one request from the budget.
    pub(crate) fn take(&self) -> Told {
        let Some(limit) = self.limit else { return Told { headers: Vec::new(), refusal: None } };
        let now = Instant::now();
        let mut state = self.state();
        state.turn(limit, now);
        if state.blocked_until.is_none() && state.spent >= limit.requests {
            state.blocked_until = Some(now + limit.block);
        }
        let Some(until) = state.blocked_until else {
            state.spent += 1;
            let reset = state.began.map_or(limit.window, |began| began + limit.window - now);
            return Told { headers: headers(limit, state.left(limit), reset), refusal: None };
        };
        state.refused += 1;
        let wait = until - now;
        let mut refusal = envelope::error(429, TOO_MANY, TOO_MANY_MESSAGE);
        let seconds = seconds(wait);
        refusal.headers.push(("retry-after".to_owned(), seconds.clone()));
        if matches!(limit.style, RateStyle::Legacy | RateStyle::Both) {
            refusal.headers.push(("x-ratelimit-reset".to_owned(), seconds));
        }
        Told { headers: headers(limit, 0, wait), refusal: Some(refusal) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a new window when the present one, or the block after it, is over.
    fn turn(&mut self, limit: RateLimit, now: Instant) {
        let is_over = match self.blocked_until {
            Some(until) => now >= until,
            None => self.began.is_none_or(|began| now >= began + limit.window),
        };
        if is_over {
            let refused = self.refused;
            *self = Self { began: Some(now), refused, ..Self::default() };
        }
    }

    fn left(&self, limit: RateLimit) -> u32 {
        if self.blocked_until.is_some() { 0 } else { limit.requests.saturating_sub(self.spent) }
    }
}

fn headers(limit: RateLimit, left: u32, reset: Duration) -> Vec<(String, String)> {
    let [legacy, ietf] = match limit.style {
        RateStyle::Legacy => [true, false],
        RateStyle::Ietf => [false, true],
        RateStyle::Both => [true, true],
        RateStyle::Silent => [false, false],
    };
    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    if legacy {
        add("x-ratelimit-limit", limit.requests.to_string());
        add("x-ratelimit-remaining", left.to_string());
    }
    if ietf {
        let window = seconds(limit.window);
        add("ratelimit", format!("\"default\";r={left};t={}", seconds(reset)));
        add("ratelimit-policy", format!("\"default\";q={};w={window}", limit.requests));
    }
    headers
}

/// Whole seconds, and rather too many: who comes back too early is refused again.
fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    (if time.subsec_nanos() > 0 { whole + 1 } else { whole }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(200);

    #[test]
    fn a_token_is_blocked_and_then_has_all_again() {
        let rate = Rate::new(Some(RateLimit::new(3, WINDOW)));
        rate.spend(1);
        let left: Vec<_> = (0..2).map(|_| rate.take().headers[1].1.clone()).collect();
        assert_eq!(left, ["1", "0"]);
        let told = rate.take();
        let refusal = told.refusal.unwrap();
        assert_eq!(refusal.status, 429);
        for name in ["retry-after", "x-ratelimit-reset"] {
            assert!(refusal.headers.contains(&(name.to_owned(), "1".to_owned())), "{name}");
        }
        assert!(rate.is_blocked());
        assert!(rate.take().refusal.is_some());
        std::thread::sleep(WINDOW);
        assert!(!rate.is_blocked());
        assert!(rate.take().refusal.is_none());
        assert_eq!((rate.remaining(), rate.refused()), (Some(2), 2));
    }

    #[test]
    fn a_window_ends_with_its_time() {
        let rate = Rate::new(Some(RateLimit::new(2, WINDOW).style(RateStyle::Ietf)));
        rate.spend(5);
        assert_eq!(rate.remaining(), Some(0));
        std::thread::sleep(WINDOW);
        let told = rate.take();
        assert!(told.refusal.is_none());
        assert_eq!(told.headers[0].1, "\"default\";r=1;t=1");
        assert_eq!(told.headers[1].1, "\"default\";q=2;w=1");
    }

    #[test]
    fn without_a_limit_nothing_is_said() {
        let rate = Rate::new(None);
        let told = rate.take();
        assert!(told.headers.is_empty() && told.refusal.is_none());
        assert_eq!(rate.remaining(), None);
    }
}
