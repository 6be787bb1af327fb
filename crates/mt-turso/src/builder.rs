use std::time::Duration;

use mt_core::{FactoryContext, Result};

use crate::{TursoConfig, TursoFactory, config::config_error, names};

/// Makes a [`TursoFactory`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct TursoFactoryBuilder {
    config: TursoConfig,
    context: Option<FactoryContext>,
}

impl TursoFactoryBuilder {
    /// The organization's slug. Required.
    pub fn with_organization(mut self, organization: impl Into<String>) -> Self {
        self.config.organization = organization.into();
        self
    }

    /// The group that new databases are made in. Required.
    pub fn with_group(mut self, group: impl Into<String>) -> Self {
        self.config.group = group.into();
        self
    }

    /// A token of the platform API. Required.
    pub fn with_api_token(mut self, token: impl Into<String>) -> Self {
        self.config.api_token = token.into();
        self
    }

    /// Where the platform API is. Default: the service's.
    pub fn with_api_url(mut self, url: impl Into<String>) -> Self {
        self.config.api_url = url.into();
        self
    }

    /// What every database's name starts with. Default `tenant-`.
    pub fn with_database_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.database_prefix = prefix.into();
        self
    }

    /// Copies new databases from a template that has the schema. Default: no.
    pub fn with_seed_from_template(mut self, seed: bool) -> Self {
        self.config.seed_from_template = seed;
        self
    }

    /// Opens every database of the group with one token. Default: no.
    pub fn with_group_tokens(mut self, group_tokens: bool) -> Self {
        self.config.group_tokens = group_tokens;
        self
    }

    /// How long `deprovision` and `restore` wait for those who use the database. Default 30 seconds.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Takes all settings at once, in the place of what was set before.
    pub fn with_config(mut self, config: TursoConfig) -> Self {
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
    pub fn build(self) -> Result<TursoFactory> {
        let endpoint = self.config.check()?;
        let rules = names::rules(&self.config.organization)?;
        rules
            .check_prefix(&self.config.database_prefix)
            .map_err(|e| e.with_provider(crate::NAME))?;
        let context = self.context.ok_or_else(|| {
            config_error(
                "no context; expected `with_context`, with the deployment to stamp databases for",
            )
        })?;
        TursoFactory::new(self.config, context, endpoint, rules)
    }
}
