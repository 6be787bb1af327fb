use std::time::Duration;

use backon::ExponentialBuilder;
use mt_core::{Error, ErrorKind, Result};

use crate::NAME;

/// How long the platform is waited for, and how much is asked of it at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlatformLimits {
    /// For a whole operation: waiting for a place, requests, repetitions and read-back. Default
    /// 30 seconds.
    pub deadline: Duration,
    /// For one request and its answer. Default 10 seconds.
    pub request_timeout: Duration,
    /// The longest `Retry-After` that is waited for; a longer one is an error that says how long.
    /// Default 10 seconds.
    pub longest_wait: Duration,
    /// Before the first repetition; doubled each time, with jitter, up to 5 seconds. Default
    /// 250 ms.
    pub first_delay: Duration,
    /// The most requests at once to the control plane. Default 8. The service documents no rate,
    /// so this is chosen to be bearable, not to be fast.
    pub concurrency: usize,
    /// For an upload with its repetitions, and for the body of a dump. Default 10 minutes.
    pub transfer_timeout: Duration,
}

impl Default for PlatformLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            longest_wait: Duration::from_secs(10),
            first_delay: Duration::from_millis(250),
            concurrency: 8,
            transfer_timeout: Duration::from_secs(10 * 60),
        }
    }
}

impl PlatformLimits {
    /// Gives every operation this long.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Gives every single request this long.
    #[must_use]
    pub const fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Waits at most this long when the service asks for it.
    #[must_use]
    pub const fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// Waits this long before the first repetition.
    #[must_use]
    pub const fn with_first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// Sends at most this many requests at once.
    #[must_use]
    pub const fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// Gives an upload or a dump this long.
    #[must_use]
    pub const fn with_transfer_timeout(mut self, timeout: Duration) -> Self {
        self.transfer_timeout = timeout;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let durations = [
            ("deadline", self.deadline),
            ("request_timeout", self.request_timeout),
            ("first_delay", self.first_delay),
            ("transfer_timeout", self.transfer_timeout),
        ];
        let zero = durations.iter().find(|(_, duration)| duration.is_zero()).map(|(name, _)| *name);
        match zero.or((self.concurrency == 0).then_some("concurrency")) {
            Some(name) => Err(Error::new(ErrorKind::Config, format!("{name} is 0, expected more"))
                .with_provider(NAME)),
            None => Ok(()),
        }
    }

    /// Without a count: the deadline ends it.
    pub(super) const fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.first_delay)
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
    }
}
