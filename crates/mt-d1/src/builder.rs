use std::time::Duration;

use mt_core::{FactoryContext, Result};

use crate::{D1Config, D1Factory, Jurisdiction, LocationHint, config::config_error, names};

/// Makes a [`D1Factory`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct D1FactoryBuilder {
    config: D1Config,
    context: Option<FactoryContext>,
}

impl D1FactoryBuilder {
    /// The account that owns the databases: 32 hexadecimal digits. Required.
    pub fn with_account_id(mut self, account_id: impl Into<String>) -> Self {
        self.config.account_id = account_id.into();
        self
    }

    /// A token of the account with the permission `D1 Edit`. Required.
    pub fn with_api_token(mut self, token: impl Into<String>) -> Self {
        self.config.api_token = token.into();
        self
    }

    /// Where the service's API is. Default: the service's.
    pub fn with_api_url(mut self, url: impl Into<String>) -> Self {
        self.config.api_url = url.into();
        self
    }

    /// What every database's name starts with. Default `tenant_`.
    pub fn with_database_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.database_prefix = prefix.into();
        self
    }

    /// Where the data of new databases must stay. Default: anywhere.
    pub fn with_jurisdiction(mut self, jurisdiction: Jurisdiction) -> Self {
        self.config.jurisdiction = Some(jurisdiction);
        self
    }

    /// Where new databases should be. Default: near whoever makes them.
    pub fn with_primary_location_hint(mut self, hint: LocationHint) -> Self {
        self.config.primary_location_hint = Some(hint);
        self
    }

    /// How many requests the token may send in a window. Default 1,200 in 300 seconds, which is
    /// the service's limit.
    pub fn with_requests_per_window(mut self, requests: u32) -> Self {
        self.config.requests_per_window = requests;
        self
    }

    /// How long a window is, to the second. Default 300 seconds, which is the service's.
    pub fn with_window(mut self, window: Duration) -> Self {
        self.config.window_s = window.as_secs();
        self
    }

    /// How long a tenant's request may wait until the token's rate lets it go. Default 10 seconds.
    pub fn with_queue_timeout(mut self, timeout: Duration) -> Self {
        self.config.queue_timeout_ms = milliseconds(timeout);
        self
    }

    /// How long making, migrating and removing databases may wait for the rate. Default 6 minutes.
    pub fn with_control_queue_timeout(mut self, timeout: Duration) -> Self {
        self.config.control_queue_timeout_ms = milliseconds(timeout);
        self
    }

    /// How many requests may be under way to one database at once. Default 6.
    pub fn with_database_concurrency(mut self, requests: u32) -> Self {
        self.config.database_concurrency = requests;
        self
    }

    /// How long a new database may take until it answers. Default 15 seconds.
    pub fn with_ready_timeout(mut self, timeout: Duration) -> Self {
        self.config.ready_timeout_ms = milliseconds(timeout);
        self
    }

    /// How long `deprovision` and `restore` wait for those who use the database. Default 30
    /// seconds.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout_ms = milliseconds(timeout);
        self
    }

    /// Keeps the state before each change of a schema as a bookmark. Default: no.
    pub fn with_bookmark_before_migrations(mut self, bookmark: bool) -> Self {
        self.config.bookmark_before_migrations = bookmark;
        self
    }

    /// Takes all settings at once, in the place of what was set before.
    pub fn with_config(mut self, config: D1Config) -> Self {
        self.config = config;
        self
    }

    /// The installation, placements and schema. Required.
    pub fn with_context(mut self, context: FactoryContext) -> Self {
        self.context = Some(context);
        self
    }

    /// Checks everything; does no I/O but to read the system's certificates.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn build(self) -> Result<D1Factory> {
        let endpoint = self.config.check()?;
        names::RULES
            .check_prefix(&self.config.database_prefix)
            .map_err(|e| e.with_provider(crate::NAME))?;
        let context = self.context.ok_or_else(|| {
            config_error(
                "no context; expected `with_context`, with the deployment to stamp databases for",
            )
        })?;
        if self.config.bookmark_before_migrations && !context.placements.can_change() {
            return Err(config_error(
                "`bookmark_before_migrations` has nowhere to keep bookmarks; give the context a \
                 placement store that can change",
            ));
        }
        D1Factory::new(self.config, context, endpoint)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use mt_core::{DeploymentId, ErrorKind};

    use super::*;

    #[test]
    fn a_bookmark_needs_a_place_to_be_kept() {
        let builder = D1Factory::builder()
            .with_account_id("0".repeat(32))
            .with_api_token("hunter2")
            .with_context(FactoryContext::new(DeploymentId::random()));
        builder.clone().build().unwrap();
        let error = builder.with_bookmark_before_migrations(true).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("bookmark_before_migrations"), "{error}");
    }
}
