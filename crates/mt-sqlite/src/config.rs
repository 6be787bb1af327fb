use std::{path::PathBuf, sync::Arc, time::Duration};

use mt_core::{DatabaseFactory, ErrorKind, FactoryContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{NAME, SqliteFactory, SqliteFactoryBuilder};

/// The settings of this provider, as they stand in a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The folder that holds one file per tenant. Made by the first `provision`. Required.
    pub directory: PathBuf,
    /// What every file name starts with: `tenant_` makes `tenant_acme.sqlite`. Default `tenant_`.
    pub database_prefix: String,
    /// How long a statement waits for another connection's write to end, in milliseconds.
    /// Default 5,000.
    pub busy_timeout_ms: u64,
    /// How long `deprovision`, `restore` and exclusive maintenance wait for those who use the
    /// database, in milliseconds. Default 30,000.
    pub drain_timeout_ms: u64,
    /// The most connections of one tenant for writing and reading, each a thread; opened as they
    /// are needed. Default 4: SQLite has one writer at a time, the others read.
    pub max_connections: u32,
    /// The most connections of one tenant behind `read()`. Default 4.
    pub max_read_connections: u32,
    /// Whether a commit survives a power failure. Default yes. Without it a commit survives the
    /// end of the process, but the last ones may be lost with the power.
    pub durable: bool,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            database_prefix: "tenant_".to_owned(),
            busy_timeout_ms: 5_000,
            drain_timeout_ms: 30_000,
            max_connections: 4,
            max_read_connections: 4,
            durable: true,
        }
    }
}

impl SqliteConfig {
    pub(crate) const fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_ms)
    }

    pub(crate) const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// Reads settings from a URL: `sqlite:data/tenants?database_prefix=tenant_&max_connections=2`.
    /// The path is the directory; every other setting is a query parameter by its name.
    ///
    /// # Errors
    /// `Config`: not this provider's scheme, an unknown parameter or a value of the wrong kind.
    pub fn from_url(url: &Url) -> Result<Self> {
        if url.scheme() != NAME || url.host().is_some() {
            return Err(config_error("expected a URL of the form `sqlite:<directory>?<settings>`"));
        }
        let mut settings = serde_json::Map::new();
        settings.insert("directory".to_owned(), url.path().into());
        for (name, value) in url.query_pairs() {
            // `7` and `false` are JSON; anything else is text.
            let value = serde_json::from_str(&value)
                .ok()
                .filter(|value: &Value| value.is_number() || value.is_boolean())
                .unwrap_or_else(|| Value::String(value.into_owned()));
            if settings.insert(name.to_string(), value).is_some() {
                return Err(config_error(&format!("setting `{name}` is given twice")));
            }
        }
        Self::from_value(Value::Object(settings))
    }

    fn from_value(settings: Value) -> Result<Self> {
        serde_json::from_value(settings)
            .map_err(|e| config_error("the provider's settings are wrong").with_source(e))
    }
}

fn config_error(message: &str) -> mt_core::Error {
    mt_core::Error::new(ErrorKind::Config, message).with_provider(NAME)
}

pub(crate) fn create(settings: Value, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
    let config = SqliteConfig::from_value(settings)?;
    let factory: SqliteFactory =
        SqliteFactoryBuilder::default().with_config(config).with_context(context).build()?;
    Ok(Arc::new(factory))
}

pub(crate) fn settings_from_url(url: &Url) -> Result<Value> {
    serde_json::to_value(SqliteConfig::from_url(url)?)
        .map_err(|e| config_error("the provider's settings are wrong").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<SqliteConfig> {
        SqliteConfig::from_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_says_what_a_settings_file_says() {
        let config = parse("sqlite:data/tenants?database_prefix=t-&max_connections=2").unwrap();
        assert_eq!(config.directory, PathBuf::from("data/tenants"));
        assert_eq!((config.database_prefix.as_str(), config.max_connections), ("t-", 2));
        assert_eq!(parse("sqlite:///abs?durable=false").unwrap().directory, PathBuf::from("/abs"));
    }

    #[test]
    fn what_is_not_a_setting_is_refused() {
        for url in [
            "postgres:data",
            "sqlite://host/data",
            "sqlite:data?colour=red",
            "sqlite:data?max_connections=many",
            "sqlite:data?durable=true&durable=false",
        ] {
            assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Config, "{url}");
        }
    }
}
