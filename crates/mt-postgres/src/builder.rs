use std::{path::PathBuf, time::Duration};

use mt_core::{FactoryContext, Result};

use crate::{NAME, PostgresConfig, PostgresFactory, config::config_error, names::RULES};

/// Makes a [`PostgresFactory`]. Settings without a method here are set by
/// [`with_config`](Self::with_config).
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct PostgresFactoryBuilder {
    config: PostgresConfig,
    context: Option<FactoryContext>,
}

impl PostgresFactoryBuilder {
    /// How the server is reached by a role that may make databases and roles. Required.
    pub fn with_admin_url(mut self, admin_url: impl Into<String>) -> Self {
        self.config.admin_url = admin_url.into();
        self
    }

    /// What the passwords of all tenants' roles are derived from. Required.
    pub fn with_role_secret(mut self, role_secret: impl Into<String>) -> Self {
        self.config.role_secret = role_secret.into();
        self
    }

    /// What every database's name starts with. Default `tenant_`.
    pub fn with_database_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.database_prefix = prefix.into();
        self
    }

    /// The most connections to one tenant's database for requests, and as many again for those that
    /// only read. Default 4.
    pub fn with_max_connections(mut self, connections: u32) -> Self {
        self.config.max_connections = connections;
        self
    }

    /// The most connections of all tenants together for their requests, in this process. Default:
    /// what the server takes, without 20 for administration, migrations and others.
    pub const fn with_connection_budget(mut self, connections: usize) -> Self {
        self.config.connection_budget = Some(connections);
        self
    }

    /// How many finished databases are kept in advance, for `provision` to claim. They are made by
    /// [`tend`](mt_core::DatabaseFactory::tend). Default 0.
    pub const fn with_spare_databases(mut self, databases: u32) -> Self {
        self.config.spare_databases = databases;
        self
    }

    /// The folder with `pg_dump` and `pg_restore`, of the server's version or newer. Default: found in
    /// `PATH`, or where Debian's packages put them.
    pub fn with_client_programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.client_programs = Some(folder.into());
        self
    }

    /// How long `deprovision` and `restore` wait for those who use the database, and for whoever else
    /// is at one of them. Default 30 seconds.
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Takes all settings at once, in the place of what was set before.
    pub fn with_config(mut self, config: PostgresConfig) -> Self {
        self.config = config;
        self
    }

    /// The installation, placements and schema. Required.
    pub fn with_context(mut self, context: FactoryContext) -> Self {
        self.context = Some(context);
        self
    }

    /// Checks everything; connects to nothing yet. The programs for backups are looked for, and asked
    /// their version.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn build(self) -> Result<PostgresFactory> {
        let server = self.config.check()?;
        RULES.check_prefix(&self.config.database_prefix).map_err(|e| e.with_provider(NAME))?;
        if self.config.database_prefix.is_empty() {
            return Err(config_error(
                "`database_prefix` is empty; expected one that tells tenants' databases from all \
                 others of the server",
            ));
        }
        let context = self.context.ok_or_else(|| {
            config_error(
                "no context; expected `with_context`, with the deployment to stamp databases for",
            )
        })?;
        Ok(PostgresFactory::new(self.config, context, server))
    }
}
