use std::{any::Any, fmt, sync::Arc, time::Duration};

use mt_core::{DatabaseFactory, TenantId};
use uuid::Uuid;

/// What a check runs against.
pub struct Subject {
    /// The factory that is checked.
    pub factory: Arc<dyn DatabaseFactory>,
    /// Another installation that looks at the same databases: the same server, prefix and rules of
    /// placement, and another deployment id.
    pub stranger: Arc<dyn DatabaseFactory>,
    limit: Duration,
    secrets: Vec<String>,
    // Last, so that both factories are gone before a temporary directory is.
    keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// How long a check may take before it is held to hang. Only a guard: a remote engine on a
    /// loaded machine stays far below it.
    const LIMIT: Duration = Duration::from_secs(120);

    /// Checks `factory`, with `stranger` as another installation over the same databases.
    pub fn new(factory: Arc<dyn DatabaseFactory>, stranger: Arc<dyn DatabaseFactory>) -> Self {
        Self { factory, stranger, limit: Self::LIMIT, secrets: Vec::new(), keep: Vec::new() }
    }

    /// Keeps `keep`, such as a temporary directory or a server, until the check is over.
    #[must_use]
    pub fn with_keep(mut self, keep: impl Any + Send + Sync) -> Self {
        self.keep.push(Box::new(keep));
        self
    }

    /// Says how long a check may take before it is held to hang. Default: 120 seconds.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Names a secret that the factories were given; checks look for it where none may be.
    /// Default: none is known.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// A tenant that nobody else has: `label` and a random tail. `label` is at most 40 characters
    /// of those that an id may have.
    ///
    /// Checks of your own remove it themselves.
    ///
    /// # Panics
    /// If `label` cannot begin an id.
    pub fn tenant(&self, label: &str) -> TenantId {
        TenantId::new(format!("{label}-{}", tail())).expect("the label begins an id")
    }

    /// How long a check may take.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// 12 random characters of `[0-9a-f]`.
pub(crate) fn tail() -> String {
    let mut tail = Uuid::new_v4().simple().to_string();
    tail.truncate(12);
    tail
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("factory", &self.factory)
            .field("stranger", &self.stranger)
            .field("limit", &self.limit)
            .field("kept", &self.keep.len())
            .finish_non_exhaustive()
    }
}
