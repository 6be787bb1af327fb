use std::{any::Any, fmt, sync::Arc, time::Duration};

use mt_core::Driver;

/// What a check runs against.
pub struct DriverSubject {
    driver: Arc<dyn Driver>,
    abilities: DriverAbilities,
    limit: Duration,
    // Last, so that the driver is gone before a temporary directory is.
    keep: Vec<Box<dyn Any + Send + Sync>>,
}

/// What a driver can do beyond what each must.
///
/// Where it cannot, the checks see that it says so, before any side effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent facts, read by name")]
#[non_exhaustive]
pub struct DriverAbilities {
    /// `begin` opens a transaction. Default: true.
    pub transactions: bool,
    /// `begin` in a transaction opens a savepoint. Default: true.
    pub savepoints: bool,
    /// Rows of a stream arrive before the statement has ended. Default: true.
    pub streaming: bool,
    /// Infinite numbers can be bound and read. Default: true.
    pub infinity: bool,
}

impl Default for DriverAbilities {
    fn default() -> Self {
        Self { transactions: true, savepoints: true, streaming: true, infinity: true }
    }
}

impl DriverSubject {
    /// How long a check may take before it is held to hang. Only a guard: a remote engine on a
    /// loaded machine stays far below it.
    const LIMIT: Duration = Duration::from_secs(120);

    /// Checks `driver`, which is over an empty database, and which can do everything.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let abilities = DriverAbilities::default();
        Self { driver, abilities, limit: Self::LIMIT, keep: Vec::new() }
    }

    /// The driver has no interactive transactions, and so no savepoints.
    #[must_use]
    pub const fn without_transactions(mut self) -> Self {
        self.abilities.transactions = false;
        self.abilities.savepoints = false;
        self
    }

    /// The driver has transactions that do not nest.
    #[must_use]
    pub const fn without_savepoints(mut self) -> Self {
        self.abilities.savepoints = false;
        self
    }

    /// The driver hands out the rows of a stream all at once.
    #[must_use]
    pub const fn without_streaming(mut self) -> Self {
        self.abilities.streaming = false;
        self
    }

    /// The protocol has no infinite numbers, as JSON has none.
    #[must_use]
    pub const fn without_infinity(mut self) -> Self {
        self.abilities.infinity = false;
        self
    }

    /// Says how long a check may take before it is held to hang. Default: 120 seconds.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps `keep`, such as a temporary directory or a server, until the check is over.
    #[must_use]
    pub fn with_keep(mut self, keep: impl Any + Send + Sync) -> Self {
        self.keep.push(Box::new(keep));
        self
    }

    /// The driver.
    pub const fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What it can do.
    pub const fn abilities(&self) -> DriverAbilities {
        self.abilities
    }

    /// How long a check may take.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Closes the driver.
    #[expect(clippy::panic, reason = "this is how a test fails")]
    pub(super) async fn close(self) {
        if let Err(error) = self.driver.close().await {
            panic!("the driver did not close: {error}");
        }
    }
}

impl fmt::Debug for DriverSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverSubject")
            .field("driver", &self.driver)
            .field("abilities", &self.abilities)
            .field("limit", &self.limit)
            .field("kept", &self.keep.len())
            .finish_non_exhaustive()
    }
}
