use std::{path::PathBuf, sync::Arc};

use mt_core::{DatabaseFactory, Error, ErrorKind, FactoryContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::{FoldersFactory, NAME};

/// The settings of this provider, as they stand in a settings file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldersConfig {
    /// The folder that holds one folder per tenant. Made by the first `provision`. Required.
    pub directory: PathBuf,
    /// What every tenant's folder begins with. Default `tenant_`.
    #[serde(default = "default_prefix")]
    pub database_prefix: String,
    /// How long `deprovision` waits for those who use the database, in milliseconds.
    /// Default 30,000.
    #[serde(default = "default_drain")]
    pub drain_timeout_ms: u64,
}

fn default_prefix() -> String {
    "tenant_".to_owned()
}

const fn default_drain() -> u64 {
    30_000
}

impl FoldersConfig {
    /// The defaults, with the tenants' folders in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            database_prefix: default_prefix(),
            drain_timeout_ms: default_drain(),
        }
    }

    fn from_value(settings: Value) -> Result<Self> {
        serde_json::from_value(settings)
            .map_err(|e| config_error("the provider's settings are wrong").with_source(e))
    }
}

pub(crate) fn config_error(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_provider(NAME)
}

/// What the registry calls when this provider is chosen by name.
pub(crate) fn create(settings: Value, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
    let config = FoldersConfig::from_value(settings)?;
    Ok(Arc::new(FoldersFactory::new(config, context)?))
}

/// Reads `folders:data/tenants?database_prefix=t_`: the path is the directory, every other setting
/// is a query parameter by its name.
pub(crate) fn settings_from_url(url: &Url) -> Result<Value> {
    if url.host().is_some() {
        return Err(config_error("expected a URL of the form `folders:<directory>?<settings>`"));
    }
    let mut settings = Map::new();
    settings.insert("directory".to_owned(), url.path().into());
    for (name, value) in url.query_pairs() {
        let value = value.parse().map_or_else(|_| value.into(), |number: u64| number.into());
        if settings.insert(name.to_string(), value).is_some() {
            return Err(config_error(&format!("setting `{name}` is given twice")));
        }
    }
    FoldersConfig::from_value(Value::Object(settings.clone()))?;
    Ok(Value::Object(settings))
}
