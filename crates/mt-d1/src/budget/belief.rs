//! What the service has told of its limit, for as long as it is believed.

use std::time::Duration;

use tokio::time::Instant;

use super::headers::Told;

/// The service's limit and its window, and when each was told last.
///
/// They come from outside, and may be a gateway's or nonsense: what no answer has repeated for a
/// while is forgotten.
#[derive(Debug, Default)]
pub(super) struct Belief {
    limit: Option<(u32, Instant)>,
    window: Option<(Duration, Instant)>,
}

impl Belief {
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit.map(|(limit, _)| limit)
    }

    pub(super) fn window(&self) -> Option<Duration> {
        self.window.map(|(window, _)| window)
    }

    pub(super) fn heed(&mut self, told: &Told, now: Instant) {
        self.limit = told.limit.map(|limit| (limit, now)).or(self.limit);
        self.window = told.window.map(|window| (window, now)).or(self.window);
    }

    /// Forgets what was told `age` ago; tells whether there was something to forget.
    pub(super) fn forget(&mut self, age: Duration, now: Instant) -> bool {
        let limit = self.limit.take_if(|(_, at)| *at + age <= now).is_some();
        let window = self.window.take_if(|(_, at)| *at + age <= now).is_some();
        limit || window
    }

    /// When there is something to forget.
    pub(super) fn ends(&self, age: Duration) -> Option<Instant> {
        let told = [self.limit.map(|(_, at)| at), self.window.map(|(_, at)| at)];
        told.into_iter().flatten().min().map(|at| at + age)
    }
}
