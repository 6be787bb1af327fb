use std::{fmt, time::Duration};

/// Work on many tenants' databases, before it is begun. Counts add up.
///
/// A [`Default`] one is no work at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Databases to be made, with the context's schema.
    pub provisions: u64,
    /// Databases to be looked into and migrated, at most so many.
    pub migrations: u64,
    /// Looks into databases: opening one, and looking what is pending where nothing is expected.
    pub looks: u64,
}

impl Work {
    /// Making `tenants` databases.
    pub const fn provision(tenants: u64) -> Self {
        Self { provisions: tenants, migrations: 0, looks: 0 }
    }

    /// Migrating `tenants` databases.
    pub const fn migrate(tenants: u64) -> Self {
        Self { provisions: 0, migrations: tenants, looks: 0 }
    }

    /// And so many looks into databases.
    #[must_use]
    pub const fn with_looks(mut self, looks: u64) -> Self {
        self.looks = looks;
        self
    }

    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.provisions == 0 && self.migrations == 0 && self.looks == 0
    }
}

/// What [`Work`] will cost where requests are rationed, as far as can be told beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// How many requests.
    pub requests: u64,
    /// How long the ration makes it take, if nobody else draws on it.
    pub duration: Duration,
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, duration } = self;
        let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        write!(f, "about {requests} request{}, ", if *requests == 1 { "" } else { "s" })?;
        match seconds {
            0 => f.write_str("no waiting"),
            1..120 => write!(f, "about {seconds} s"),
            120..7_200 => write!(f, "about {} min", seconds.div_ceil(60)),
            _ => write!(f, "about {} h", seconds.div_ceil(3_600)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_few_words() {
        let told = |requests, millis| {
            Forecast { requests, duration: Duration::from_millis(millis) }.to_string()
        };
        assert_eq!(told(2, 0), "about 2 requests, no waiting");
        assert_eq!(told(1, 1), "about 1 request, about 1 s");
        assert_eq!(told(120, 30_000), "about 120 requests, about 30 s");
        assert_eq!(told(1_000, 250_000), "about 1000 requests, about 5 min");
        assert_eq!(told(50_000, 12_500_000), "about 50000 requests, about 4 h");
    }

    #[test]
    fn counts_stand_beside_each_other() {
        let work = Work::migrate(3).with_looks(2);
        assert_eq!((work.provisions, work.migrations, work.looks), (0, 3, 2));
        assert!(!work.is_none() && Work::default().is_none() && Work::provision(0).is_none());
    }
}
