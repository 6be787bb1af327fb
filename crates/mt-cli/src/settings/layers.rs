//! One setting from one place, and where the settings of flags and environment come from.

use std::ffi::OsString;

use figment::{
    Metadata, Profile,
    util::nest,
    value::{Dict, Map, Value},
};
use mt_control::CatalogLocation;
use mt_core::Result;

use super::config;
use crate::Options;

/// What the names of our environment variables begin with.
const PREFIX: &str = "MT_";
/// Variables of the test suites, which are not ours.
const TESTS: &str = "MT_TEST_";

/// One setting from one place.
pub(super) struct Layer {
    origin: String,
    pub(super) key: String,
    value: Value,
    /// What a variable says letter by letter, where it looks like something else than a text.
    pub(super) text: Option<String>,
}

impl Layer {
    pub(super) fn text(origin: &str, key: &str, value: &str) -> Self {
        Self { origin: origin.to_owned(), key: key.to_owned(), value: value.into(), text: None }
    }
}

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = nest(&self.key, self.value.clone());
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

pub(super) fn of_flags(options: &Options) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if let Some(folder) = &options.data_dir {
        let folder = folder
            .to_str()
            .ok_or_else(|| config(format!("--data-dir is not UTF-8: {}", folder.display())))?;
        layers.push(Layer::text("--data-dir", "data_dir", folder));
    }
    if let Some(catalog) = &options.catalog {
        // Everybody on the machine is shown the arguments of every process.
        if catalog.parse::<CatalogLocation>().is_ok_and(|location| location.has_password()) {
            return Err(config(
                "--catalog has a password in it, which everybody on this machine is shown; set the variable MT_CATALOG instead".to_owned(),
            ));
        }
        layers.push(Layer::text("--catalog", "catalog", catalog));
    }
    if let Some(provider) = &options.provider {
        layers.push(Layer::text("--provider", "provider", provider));
    }
    if let Some(main) = &options.main_tenant {
        layers.push(Layer::text("--main-tenant", "main_tenant", main.as_str()));
    }
    Ok(layers)
}

/// `MT_DATA_DIR` is `data_dir`, always a text; `MT_SQLITE__DURABLE` is `durable` of the table
/// `[sqlite]`, where `false` and `7` are what they are in the file.
pub(super) fn of_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name.starts_with(TESTS) {
            continue;
        }
        // It may be a secret, so it is not repeated.
        let Ok(value) = value.into_string() else {
            return Err(config(format!("{name} is not UTF-8")));
        };
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        let is_nested = key.contains("__");
        let (value, text) = match value.parse::<Value>() {
            Ok(read) if is_nested && read.as_str() != Some(value.as_str()) => (read, Some(value)),
            _ => (value.into(), None),
        };
        layers.push(Layer { origin: name.to_owned(), key: key.replace("__", "."), value, text });
    }
    layers.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(layers)
}
