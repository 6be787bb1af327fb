use std::{path::PathBuf, time::Duration};

use mt_core::{ErrorKind, FactoryContext, Result};

use crate::{NAME, SqliteConfig, SqliteFactory, files::RULES};

/// Makes a [`SqliteFactory`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct SqliteFactoryBuilder {
    config: SqliteConfig,
    context: Option<FactoryContext>,
}

impl SqliteFactoryBuilder {
    /// The folder that holds one file per tenant. Required.
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.directory = directory.into();
        self
    }

    /// What every file name starts with. Default `tenant_`.
    pub fn with_database_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.database_prefix = prefix.into();
        self
    }

    /// How long a statement waits for another connection's write to end. Default 5 seconds.
    pub fn with_busy_timeout(mut self, timeout: Duration) -> Self {
        self.config.busy_timeout_ms = to_millis(timeout);
        self
    }

    /// How long `deprovision`, `restore` and exclusive maintenance wait for those who use the
    /// database. Default 30 seconds.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout_ms = to_millis(timeout);
        self
    }

    /// Takes all settings at once, in the place of what was set before.
    pub fn with_config(mut self, config: SqliteConfig) -> Self {
        self.config = config;
        self
    }

    /// The installation, placements and schema. Required.
    pub fn with_context(mut self, context: FactoryContext) -> Self {
        self.context = Some(context);
        self
    }

    /// Checks everything; does no I/O.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn build(self) -> Result<SqliteFactory> {
        let error =
            |message: &str| mt_core::Error::new(ErrorKind::Config, message).with_provider(NAME);
        if self.config.directory.as_os_str().is_empty() {
            return Err(error(
                "`directory` is not set; expected the folder for the tenants' files",
            ));
        }
        if self.config.max_connections == 0 || self.config.max_read_connections == 0 {
            return Err(error("`max_connections` and `max_read_connections` are 1 or more"));
        }
        RULES.check_prefix(&self.config.database_prefix).map_err(|e| e.with_provider(NAME))?;
        let context = self.context.ok_or_else(|| {
            error("no context; expected `with_context`, with the deployment to stamp databases for")
        })?;
        Ok(SqliteFactory::new(self.config, context))
    }
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
