//! A service that counts like the real one, and everybody who sends to it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep};

use super::{
    super::{Budget, Lane},
    PATIENT, WINDOW,
};

pub(super) const LIMIT: usize = 1_200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// From the first request on, and anew when a window is over.
    Fixed,
    /// Whatever the last window's length saw.
    Sliding,
}

pub(super) const BOTH: [Counts; 2] = [Counts::Fixed, Counts::Sliding];

#[derive(Debug)]
struct Seen {
    counts: Counts,
    window_from: Instant,
    counted: VecDeque<Instant>,
    blocked_until: Option<Instant>,
    refused: usize,
    served: usize,
    requests: Vec<Instant>,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    seen: Arc<Mutex<Seen>>,
    /// Whether it tells when its window ends.
    pub(super) tells_reset: bool,
    /// Whether it tells anything.
    pub(super) tells: bool,
    pub(super) latency: Duration,
}

impl Service {
    /// One whose window begins now, of which `spent` are gone.
    pub(super) fn new(counts: Counts, spent: usize) -> Self {
        let now = Instant::now();
        let seen = Seen {
            counts,
            window_from: now,
            counted: std::iter::repeat_n(now, spent).collect(),
            blocked_until: None,
            refused: 0,
            served: 0,
            requests: Vec::new(),
        };
        Self {
            seen: Arc::new(Mutex::new(seen)),
            tells_reset: false,
            tells: true,
            latency: Duration::from_millis(80),
        }
    }

    /// Counts one request and answers it.
    pub(super) fn answer(&self) -> (u16, HeaderMap) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        seen.requests.push(now);
        match seen.counts {
            Counts::Fixed if seen.window_from + WINDOW <= now => {
                seen.window_from = now;
                seen.counted.clear();
            }
            Counts::Fixed => {}
            Counts::Sliding => {
                while seen.counted.front().is_some_and(|at| *at + WINDOW <= now) {
                    seen.counted.pop_front();
                }
            }
        }
        if seen.counted.len() >= LIMIT && seen.blocked_until.is_none_or(|until| until <= now) {
            seen.blocked_until = Some(now + WINDOW);
        }
        let mut headers = HeaderMap::new();
        if let Some(until) = seen.blocked_until.filter(|until| *until > now) {
            seen.refused += 1;
            headers.insert("retry-after", HeaderValue::from((until - now).as_secs() + 1));
            return (429, headers);
        }
        seen.blocked_until = None;
        seen.counted.push_back(now);
        seen.served += 1;
        if self.tells {
            let left = LIMIT - seen.counted.len();
            headers.insert("x-ratelimit-limit", HeaderValue::from(LIMIT));
            headers.insert("x-ratelimit-remaining", HeaderValue::from(left));
            if self.tells_reset {
                let reset = (seen.window_from + WINDOW - now).as_secs() + 1;
                let told = format!("\"default\";r={left};t={reset}");
                headers.insert("ratelimit", HeaderValue::from_str(&told).unwrap());
            }
        }
        (200, headers)
    }

    /// One request within `budget`, answered after a while that is never the same.
    pub(super) async fn send(&self, budget: &Budget, lane: &Lane, database: Option<&str>) -> u16 {
        let permit = budget.acquire(lane, database, PATIENT).await.unwrap();
        let uneven = self.served() % 7;
        let way = self.latency * (1 + u32::try_from(uneven).unwrap()) / 8;
        sleep(way).await;
        let (status, headers) = self.answer();
        sleep(self.latency - way).await;
        budget.heed(&permit, status, &headers);
        status
    }

    /// Sends `every` so often outside any budget, for ever.
    pub(super) fn spend(&self, every: Duration) -> tokio::task::JoinHandle<()> {
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                service.answer();
                sleep(every).await;
            }
        })
    }

    pub(super) fn refused(&self) -> usize {
        self.seen.lock().unwrap().refused
    }

    pub(super) fn served(&self) -> usize {
        self.seen.lock().unwrap().served
    }

    /// The most requests that any stretch of one window saw.
    pub(super) fn most(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        let mut most = 0;
        let mut from = 0;
        for (to, at) in seen.requests.iter().enumerate() {
            while seen.requests[from] + WINDOW <= *at {
                from += 1;
            }
            most = most.max(to + 1 - from);
        }
        most
    }
}
