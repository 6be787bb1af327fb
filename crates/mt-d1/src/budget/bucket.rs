//! What we let go by our own count, whatever the service says.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::ledger::Flow;

/// A token bucket that cannot overrun the service's window by itself, wherever the window starts.
///
/// In no stretch of one window does it give more than its capacity and what flows in meanwhile. A
/// request is counted by the service later than it was let go, so what was under way when the
/// stretch began may be counted in it too. Hence the limit is cut in three:
///
/// `capacity + window * rate + under way <= limit`
///
/// - `capacity` is an eighth (150 of 1,200): a burst that serves a page of tenants at once, or both
///   requests of 75 tenants' migrations, without a wait.
/// - `under way` is a twenty-fourth (50). Requests that take longer than 5 seconds may come on top of
///   them; then `state` lets nothing go while all that the service may count is as many as the limit.
/// - the rest flows in evenly (1,000 in 5 minutes). A larger capacity would slow down for good what
///   a burst makes fast once.
#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    capacity: NonZeroU32,
    period: Duration,
    /// When it is full, unless something is taken before.
    full_at: Instant,
}

impl Bucket {
    /// A bucket for `limit` requests in `window`, of which `spent` are gone already.
    pub(super) fn new(limit: u32, window: Duration, spent: u32) -> Self {
        let capacity = NonZeroU32::new(limit / 8).unwrap_or(NonZeroU32::MIN);
        let flowing = limit.saturating_sub(capacity.get() + most_under_way(limit)).max(1);
        // Rounded up, so that not one more flows in.
        let period = window / flowing + Duration::from_nanos(1);
        let quota = Quota::with_period(period)
            .expect("a period of at least one nanosecond")
            .allow_burst(capacity);
        let clock = TokioClock { epoch: Instant::now() };
        let limiter = RateLimiter::direct_with_clock(quota, clock);
        let mut bucket = Self { limiter, capacity, period, full_at: Instant::now() };
        bucket.spend(spent);
        bucket
    }

    fn spend(&mut self, spent: u32) {
        let Some(spent) = NonZeroU32::new(spent.min(self.capacity.get())) else { return };
        if let Ok(Ok(())) = self.limiter.check_n(spent) {
            self.taken(spent, Instant::now());
        }
    }

    fn taken(&mut self, count: NonZeroU32, now: Instant) {
        self.full_at = self.full_at.max(now) + self.period * count.get();
    }

    /// Takes one, or says when there will be one.
    pub(super) fn take(&mut self) -> Result<(), Instant> {
        let now = Instant::now();
        match self.limiter.check() {
            Ok(()) => {
                self.taken(NonZeroU32::MIN, now);
                Ok(())
            }
            Err(until) => {
                let next = now + until.wait_time_from(self.limiter.clock().now());
                self.full_at = next + self.period * (self.capacity.get() - 1);
                Err(next)
            }
        }
    }

    /// What it gives from now on.
    pub(super) fn flow(&self, now: Instant) -> Flow {
        let missing = self.full_at.saturating_duration_since(now).div_duration_f64(self.period);
        let most = f64::from(self.capacity.get());
        Flow { burst: (most - missing).max(0.0), most, rate: self.period.as_secs_f64().recip() }
    }
}

/// How many requests may be under way at once under this limit, but for those that take long.
pub(super) fn most_under_way(limit: u32) -> u32 {
    (limit / 24).max(1)
}

/// Tokio's clock, which stands still when a test has paused it.
#[derive(Clone, Debug)]
struct TokioClock {
    epoch: Instant,
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.epoch.elapsed().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_stretch_of_a_window_gets_more_than_the_limit() {
        for limit in [1, 2, 3, 10, 100, 1_200] {
            let window = Duration::from_secs(300);
            let mut bucket = Bucket::new(limit, window, 0);
            let mut given = Vec::new();
            let begin = Instant::now();
            while begin.elapsed() < window * 2 {
                match bucket.take() {
                    Ok(()) => given.push(Instant::now()),
                    Err(until) => tokio::time::sleep_until(until).await,
                }
            }
            let allowed = limit.saturating_sub(most_under_way(limit)).max(1);
            for (first, from) in given.iter().enumerate() {
                let in_window = given[first..].iter().take_while(|at| **at < *from + window);
                let count = u32::try_from(in_window.count()).unwrap();
                assert!(count <= allowed, "{count} of {limit}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_knows_how_many_it_has() {
        let mut bucket = Bucket::new(1_200, Duration::from_secs(300), 100);
        let has = |bucket: &Bucket| bucket.flow(Instant::now()).burst;
        assert!((has(&bucket) - 50.0).abs() < 0.01, "{}", has(&bucket));
        for _ in 0..50 {
            bucket.take().unwrap();
        }
        assert!(has(&bucket) < 0.01, "{}", has(&bucket));
        let next = bucket.take().unwrap_err();
        assert!(next > Instant::now());
        tokio::time::sleep_until(next).await;
        assert!((has(&bucket) - 1.0).abs() < 0.01, "{}", has(&bucket));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!((has(&bucket) - 11.0).abs() < 0.01, "{}", has(&bucket));
        tokio::time::sleep(Duration::from_secs(3_000)).await;
        assert!((has(&bucket) - 150.0).abs() < 0.01, "{}", has(&bucket));
    }
}
