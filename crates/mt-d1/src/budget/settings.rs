use std::time::Duration;

use mt_core::{Error, ErrorKind, Result};

/// What of a token's rate is ours to send, and what of that may run at once.
///
/// Where the service says in an answer that its limit is lower, that holds; where it is higher,
/// these still hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Requests that we send in a window at most. Default 1,200, the service's limit for a token
    /// (<https://developers.cloudflare.com/fundamentals/api/reference/limits/>, 2026-11).
    pub requests: u32,
    /// How long a window is, and a refusal lasts. Default 5 minutes, the service's; at most a day.
    pub window: Duration,
    /// Requests under way to one database. Default 6: the service runs one query at a time for a
    /// database, and a few more hide the way there.
    pub database_concurrency: u32,
    /// Requests under way in all, but for those that take longer than 5 seconds. Default 50, and
    /// never more than a twenty-fourth of what may be sent in a window.
    pub in_flight: u32,
}

/// The longest window that makes sense of a setting or a header.
pub(super) const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            requests: 1_200,
            window: Duration::from_secs(300),
            database_concurrency: 6,
            in_flight: 50,
        }
    }
}

impl BudgetSettings {
    /// Refuses what no request would ever get through.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("requests", self.requests),
            ("database_concurrency", self.database_concurrency),
            ("in_flight", self.in_flight),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(refused(format!("`{name}` of the rate budget must be at least 1")));
            }
        }
        if self.window.is_zero() || self.window > LONGEST_WINDOW {
            return Err(refused(format!(
                "`window` of the rate budget must be above zero and at most {} s, and is {:?}",
                LONGEST_WINDOW.as_secs(),
                self.window
            )));
        }
        Ok(())
    }

    /// What may be sent under these where the service lets `limit` go in a `window`: so many, and
    /// in how long.
    pub(super) fn share(&self, limit: u32, window: Duration) -> (u32, Duration) {
        let scaled = u128::from(self.requests) * window.as_nanos() / self.window.as_nanos();
        match u32::try_from(scaled).unwrap_or(u32::MAX).min(limit) {
            // Less than one in such a window.
            0 => (1, self.window / self.requests),
            share => (share, window),
        }
    }

    /// What both allow.
    pub(super) fn stricter(&self, other: &Self) -> Self {
        let rate = |of: &Self| f64::from(of.requests) / of.window.as_secs_f64();
        let slower = if rate(other) < rate(self) { other } else { self };
        Self {
            requests: slower.requests,
            window: slower.window,
            database_concurrency: self.database_concurrency.min(other.database_concurrency),
            in_flight: self.in_flight.min(other.in_flight),
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Config, message).with_provider(crate::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_nothing_through_is_refused() {
        BudgetSettings::default().check().unwrap();
        type Break = fn(&mut BudgetSettings);
        let breaks: [(Break, &str); 5] = [
            (|s| s.requests = 0, "`requests`"),
            (|s| s.database_concurrency = 0, "`database_concurrency`"),
            (|s| s.in_flight = 0, "`in_flight`"),
            (|s| s.window = Duration::ZERO, "`window`"),
            (|s| s.window = Duration::MAX, "`window`"),
        ];
        for (spoil, name) in breaks {
            let mut settings = BudgetSettings::default();
            spoil(&mut settings);
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_share_is_the_lower_of_both_limits() {
        let settings = BudgetSettings { requests: 300, ..BudgetSettings::default() };
        let seconds = Duration::from_secs;
        for (limit, window, share) in [
            (1_200, seconds(300), (300, seconds(300))),
            (200, seconds(300), (200, seconds(300))),
            (240, seconds(60), (60, seconds(60))),
            (40, seconds(60), (40, seconds(60))),
            (2_000, seconds(3_600), (2_000, seconds(3_600))),
            (9_000, seconds(3_600), (3_600, seconds(3_600))),
            (4, Duration::from_millis(500), (1, seconds(1))),
        ] {
            assert_eq!(settings.share(limit, window), share, "{limit} in {window:?}");
        }
    }

    #[test]
    fn of_two_the_stricter_of_each_holds() {
        let default = BudgetSettings::default();
        let other = BudgetSettings {
            requests: 100,
            window: Duration::from_secs(10),
            database_concurrency: 2,
            in_flight: 70,
        };
        let both = BudgetSettings { database_concurrency: 2, ..default.clone() };
        assert_eq!(default.stricter(&other), both);
        assert_eq!(other.stricter(&default), both);
    }
}
