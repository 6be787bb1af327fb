use std::time::Duration;

use backon::ExponentialBuilder;
use mt_core::{Error, ErrorKind, Result};

use crate::{NAME, budget::Lane};

/// How long the service is waited for, and how much is sent to it and read of it at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApiLimits {
    /// For a whole operation with its repetitions, the time in line for the token's budget not
    /// counted. Default 60 seconds.
    pub deadline: Duration,
    /// For one request and its answer. Default 35 seconds: the service itself gives up after 30
    /// (<https://developers.cloudflare.com/d1/platform/limits/>).
    pub request_timeout: Duration,
    /// The longest that an operation on a tenant's behalf stands in line for the token's budget,
    /// and the longest `Retry-After` it waits for. Default 10 seconds.
    pub longest_wait: Duration,
    /// The same for the life of databases: making, migrating, copying, removing. Default 6
    /// minutes, which outlasts the 5 for which the service refuses a token that asked too much.
    pub longest_control_wait: Duration,
    /// Before the first repetition; doubled each time, with jitter, up to 5 seconds. Default
    /// 250 ms.
    pub first_delay: Duration,
    /// The most repetitions of one request: each is one of the few that the token has. Default 5.
    pub repetitions: usize,
    /// Between two questions whether an export is ready. Default 1 second; one that nobody asks
    /// for is given up by the service.
    pub poll_interval: Duration,
    /// For an export, and again for fetching what it made. Default 30 minutes.
    pub transfer_timeout: Duration,
    /// The longest request, in bytes. Default 16 MiB; what the service takes is not documented.
    pub request_bytes: usize,
    /// The longest answer that is read, in bytes. Default 64 MiB.
    pub answer_bytes: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            request_timeout: Duration::from_secs(35),
            longest_wait: Duration::from_secs(10),
            longest_control_wait: Duration::from_secs(6 * 60),
            first_delay: Duration::from_millis(250),
            repetitions: 5,
            poll_interval: Duration::from_secs(1),
            transfer_timeout: Duration::from_secs(30 * 60),
            request_bytes: 16 * 1024 * 1024,
            answer_bytes: 64 * 1024 * 1024,
        }
    }
}

impl ApiLimits {
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

    /// Lets a tenant's operation stand in line this long at most.
    #[must_use]
    pub const fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = wait;
        self
    }

    /// Lets the control plane stand in line this long at most.
    #[must_use]
    pub const fn with_longest_control_wait(mut self, wait: Duration) -> Self {
        self.longest_control_wait = wait;
        self
    }

    /// Waits this long before the first repetition.
    #[must_use]
    pub const fn with_first_delay(mut self, delay: Duration) -> Self {
        self.first_delay = delay;
        self
    }

    /// Repeats a request this often at most.
    #[must_use]
    pub const fn with_repetitions(mut self, repetitions: usize) -> Self {
        self.repetitions = repetitions;
        self
    }

    /// Asks this often whether an export is ready.
    #[must_use]
    pub const fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Gives an export, and the fetching of it, this long each.
    #[must_use]
    pub const fn with_transfer_timeout(mut self, timeout: Duration) -> Self {
        self.transfer_timeout = timeout;
        self
    }

    /// Sends requests of this many bytes at most.
    #[must_use]
    pub const fn with_request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes = bytes;
        self
    }

    /// Reads answers of this many bytes at most.
    #[must_use]
    pub const fn with_answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let values = [
            ("deadline", self.deadline.is_zero()),
            ("request_timeout", self.request_timeout.is_zero()),
            ("first_delay", self.first_delay.is_zero()),
            ("poll_interval", self.poll_interval.is_zero()),
            ("transfer_timeout", self.transfer_timeout.is_zero()),
            ("request_bytes", self.request_bytes == 0),
            ("answer_bytes", self.answer_bytes == 0),
        ];
        match values.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => {
                let text = format!("the limit `{name}` is 0, expected more");
                Err(Error::new(ErrorKind::Config, text).with_provider(NAME))
            }
            None => Ok(()),
        }
    }

    /// How long an operation of `lane` stands in line.
    pub(super) const fn patience(&self, lane: &Lane) -> Duration {
        match lane {
            Lane::Control => self.longest_control_wait,
            Lane::Tenant(_) => self.longest_wait,
        }
    }

    pub(super) const fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.first_delay)
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.repetitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_0_is_refused_by_name() {
        assert!(ApiLimits::default().check().is_ok());
        let none = ApiLimits::default().with_answer_bytes(0).check().unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Config);
        assert!(none.to_string().contains("answer_bytes"), "{none}");
    }
}
