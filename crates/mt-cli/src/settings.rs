//! Settings: flags over environment over settings file over defaults, each with its origin.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile,
    providers::{Format as _, Toml},
    util::nest,
    value::{Dict, Map, Value},
};
use mt_core::{DeploymentId, Error, ErrorKind, FactoryContext, Registry, Result, TenantId};
use serde::{Deserialize, Serialize};

use crate::Options;

/// The settings file that is read if it is there and no other is named.
const FILE: &str = "mt.toml";
/// What the names of our environment variables begin with.
const PREFIX: &str = "MT_";
/// Variables of the test suites, which are not ours.
const TESTS: &str = "MT_TEST_";
const DEFAULT: &str = "default";

/// The settings that do not belong to a provider.
#[derive(Clone, Debug, Deserialize)]
struct Common {
    data_dir: PathBuf,
    provider: String,
    catalog: Option<PathBuf>,
    main_tenant: Option<TenantId>,
}

impl Common {
    const KEYS: [&str; 4] = ["data_dir", "provider", "catalog", "main_tenant"];
}

/// What a command works with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) catalog: PathBuf,
    pub(crate) main_tenant: Option<TenantId>,
    pub(crate) provider: String,
    /// The settings file, if one was read.
    pub(crate) file: Option<PathBuf>,
    /// The provider's own settings.
    table: serde_json::Map<String, serde_json::Value>,
    origins: BTreeMap<String, String>,
}

/// One setting, where it comes from, and what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Effective {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
    pub(crate) origin: String,
}

impl Settings {
    /// Reads them all, and checks them against the providers of `registry`. Touches nothing.
    ///
    /// # Errors
    /// `Config`, naming the setting and where it is written.
    pub(crate) fn load(
        options: &Options,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        registry: &Registry,
    ) -> Result<Self> {
        let file = match &options.config {
            Some(file) if file.is_file() => Some(file.clone()),
            Some(file) => {
                return Err(config(format!("there is no settings file {}", file.display())));
            }
            None => Some(PathBuf::from(FILE)).filter(|file| file.is_file()),
        };
        let mut figment = Figment::new()
            .merge(Layer::text(DEFAULT, "data_dir", "./data"))
            .merge(Layer::text(DEFAULT, "provider", "sqlite"));
        if let Some(file) = &file {
            figment = figment.merge(Toml::file_exact(file));
        }
        for layer in of_environment(environment)?.into_iter().chain(of_flags(options)?) {
            figment = figment.merge(layer);
        }
        Self::from_figment(&figment, file, registry)
    }

    fn from_figment(figment: &Figment, file: Option<PathBuf>, registry: &Registry) -> Result<Self> {
        let all: Dict = figment.extract().map_err(in_words)?;
        let common: Common = figment.extract().map_err(in_words)?;
        require_filled(figment, "data_dir", common.data_dir.as_os_str().is_empty())?;
        let no_catalog = common.catalog.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        require_filled(figment, "catalog", no_catalog)?;
        for (key, value) in &all {
            check_key(figment, key, value, &common.provider, registry)?;
        }
        let mut settings = Self {
            catalog: common.catalog.unwrap_or_else(|| common.data_dir.join("control.db")),
            data_dir: common.data_dir,
            main_tenant: common.main_tenant,
            file,
            table: match all.get(&common.provider) {
                Some(table) => table.deserialize().map_err(in_words)?,
                None => serde_json::Map::new(),
            },
            provider: common.provider,
            origins: BTreeMap::new(),
        };
        if settings.provider == "sqlite" && !settings.table.contains_key("directory") {
            let directory = settings.data_dir.join("tenants");
            let directory = directory.into_os_string().into_string().map_err(|path| {
                config(format!("data_dir is not UTF-8: {}", path.to_string_lossy()))
            })?;
            settings.table.insert("directory".to_owned(), directory.into());
        }
        settings.note_origins(figment);
        settings.check(registry)?;
        Ok(settings)
    }

    /// Makes the provider's factory once and drops it, before anything is touched.
    fn check(&self, registry: &Registry) -> Result<()> {
        // Making a factory does no I/O, so any installation will do.
        self.factory(registry, FactoryContext::new(DeploymentId::random())).map(drop)
    }

    /// Makes the provider's factory.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub(crate) fn factory(
        &self,
        registry: &Registry,
        context: FactoryContext,
    ) -> Result<std::sync::Arc<dyn mt_core::DatabaseFactory>> {
        let made = registry.create(&self.provider, self.table.clone().into(), context);
        made.map_err(|error| {
            let known = registry.names().contains(&self.provider.as_str());
            if !known || error.kind() != ErrorKind::Config {
                return error;
            }
            let prefix = format!("{}.", self.provider);
            let mut origins: Vec<&str> = self
                .origins
                .iter()
                .filter(|(key, origin)| key.starts_with(&prefix) && *origin != DEFAULT)
                .map(|(_, origin)| origin.as_str())
                .collect();
            origins.sort_unstable();
            origins.dedup();
            let origins = match origins.as_slice() {
                [] => String::new(),
                origins => format!(" (from {})", origins.join(", ")),
            };
            let message = format!("the settings [{}]{origins} are refused", self.provider);
            config(message).with_source(error)
        })
    }

    /// Every setting in effect. What may be a secret is not shown.
    pub(crate) fn effective(&self) -> Vec<Effective> {
        let text = |path: &Path| path.to_string_lossy().into_owned().into();
        let main =
            self.main_tenant.as_ref().map_or(serde_json::Value::Null, |main| main.as_str().into());
        let common = [
            ("data_dir", text(&self.data_dir)),
            ("catalog", text(&self.catalog)),
            ("provider", self.provider.clone().into()),
            ("main_tenant", main),
        ];
        let common = common.map(|(key, value)| (key.to_owned(), value)).into_iter();
        let own = self
            .table
            .iter()
            .map(|(key, value)| (format!("{}.{key}", self.provider), shown(key, value)));
        let effective = common.chain(own).map(|(key, value)| {
            let origin = self.origins.get(&key).map_or(DEFAULT, String::as_str).to_owned();
            Effective { key, value, origin }
        });
        effective.collect()
    }

    fn note_origins(&mut self, figment: &Figment) {
        let own = self.table.keys().map(|key| format!("{}.{key}", self.provider));
        let keys = Common::KEYS.map(str::to_owned).into_iter().chain(own);
        let origins = keys.filter_map(|key| {
            let origin = origin(figment.find_metadata(&key)?);
            Some((key, origin))
        });
        self.origins = origins.collect();
    }
}

/// Refuses what is neither a setting nor a table of a provider: a misspelt setting that is silently
/// ignored makes databases in the wrong place.
fn check_key(
    figment: &Figment,
    key: &str,
    value: &Value,
    provider: &str,
    registry: &Registry,
) -> Result<()> {
    let linked = registry.names();
    let is_table = matches!(value, Value::Dict(..));
    // Whether the chosen provider is linked, the registry says best.
    if Common::KEYS.contains(&key) || is_table && (linked.contains(&key) || key == provider) {
        return Ok(());
    }
    let place =
        figment.find_metadata(key).map_or_else(String::new, |m| format!(" in {}", origin(m)));
    Err(config(format!(
        "there is no setting `{key}`{place}; expected {}, or a table of a linked provider ({})",
        Common::KEYS.join(", "),
        if linked.is_empty() { "none".to_owned() } else { linked.join(", ") },
    )))
}

fn require_filled(figment: &Figment, key: &str, is_empty: bool) -> Result<()> {
    if !is_empty {
        return Ok(());
    }
    let place =
        figment.find_metadata(key).map_or_else(String::new, |m| format!(" in {}", origin(m)));
    Err(config(format!("the setting `{key}`{place} is empty")))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn origin(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(|source| source.file_path()) {
        Some(file) => file.display().to_string(),
        None => metadata.name.to_string(),
    }
}

/// Figment's error with the setting's key and origin.
fn in_words(error: figment::Error) -> Error {
    let one = |error: figment::Error| {
        let key = match error.path.as_slice() {
            [] => String::new(),
            path => format!("`{}`: ", path.join(".")),
        };
        let place = error.metadata.as_ref().map(|m| format!(" in {}", origin(m)));
        format!("{key}{}{}", error.kind, place.unwrap_or_default())
    };
    let all: Vec<String> = error.into_iter().map(one).collect();
    config(format!("the settings are wrong: {}", all.join("; ")))
}

/// What of a provider's setting is shown: not what its name says is a secret, and not a URL, which
/// may hold one.
fn shown(key: &str, value: &serde_json::Value) -> serde_json::Value {
    let key = key.to_ascii_lowercase();
    let secret = ["auth", "credential", "dsn", "key", "passw", "secret", "token", "url"];
    let is_plain = value.is_boolean() || value.is_number() || value.is_null();
    let is_nested = value.is_object() || value.is_array();
    if !is_plain && (is_nested || secret.iter().any(|word| key.contains(word))) {
        return "(set, not shown)".into();
    }
    value.clone()
}

/// One setting from one place.
struct Layer {
    origin: String,
    key: String,
    value: Value,
}

impl Layer {
    fn text(origin: &str, key: &str, value: &str) -> Self {
        Self { origin: origin.to_owned(), key: key.to_owned(), value: value.into() }
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

fn of_flags(options: &Options) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    if let Some(folder) = &options.data_dir {
        let folder = folder
            .to_str()
            .ok_or_else(|| config(format!("--data-dir is not UTF-8: {}", folder.display())))?;
        layers.push(Layer::text("--data-dir", "data_dir", folder));
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
fn of_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name.starts_with(TESTS) {
            continue;
        }
        let value = value
            .into_string()
            .map_err(|value| config(format!("{name} is not UTF-8: {}", value.to_string_lossy())))?;
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        let is_nested = key.contains("__");
        let value = match value.parse::<Value>() {
            Ok(value) if is_nested => value,
            _ => value.into(),
        };
        layers.push(Layer { origin: name.to_owned(), key: key.replace("__", "."), value });
    }
    layers.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use mt_sqlite as _;

    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn load_with(options: &Options, environment: Pairs<'_>) -> Result<Settings> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Settings::load(options, environment, &Registry::from_linked().unwrap())
    }

    /// Loads `text` as the settings file.
    fn load(text: &str, environment: Pairs<'_>, options: Options) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, text).unwrap();
        load_with(&Options { config: Some(file), ..options }, environment)
    }

    fn origin_of(settings: &Settings, key: &str) -> String {
        let effective = settings.effective();
        effective.iter().find(|one| one.key == key).unwrap().origin.clone()
    }

    #[test]
    fn without_anything_there_are_defaults() {
        let settings = load_with(&Options::default(), &[]).unwrap();
        assert_eq!(settings.data_dir, Path::new("./data"));
        assert_eq!(settings.catalog, Path::new("./data/control.db"));
        assert_eq!(settings.provider, "sqlite");
        assert_eq!(settings.table["directory"], "./data/tenants");
        assert_eq!(settings.main_tenant, None);
    }

    #[test]
    fn the_data_folder_moves_everything() {
        let settings = load_with(&Options::default(), &[("MT_DATA_DIR", "/srv/1")]).unwrap();
        assert_eq!(settings.catalog, Path::new("/srv/1/control.db"));
        assert_eq!(settings.table["directory"], "/srv/1/tenants");
        assert_eq!(origin_of(&settings, "data_dir"), "MT_DATA_DIR");
        // A folder whose name is a number is still a text.
        let settings = load_with(&Options::default(), &[("MT_DATA_DIR", "2026")]).unwrap();
        assert_eq!(settings.data_dir, Path::new("2026"));
    }

    #[test]
    fn flags_go_over_environment_over_file() {
        let text = "data_dir = 'file'\nmain_tenant = 'file'\ncatalog = 'file'";
        let environment = [("MT_DATA_DIR", "environment"), ("MT_MAIN_TENANT", "environment")];
        let options = Options { data_dir: Some("flag".into()), ..Options::default() };
        let settings = load(text, &environment, options).unwrap();
        assert_eq!(settings.data_dir, Path::new("flag"));
        assert_eq!(settings.main_tenant.as_ref().unwrap().as_str(), "environment");
        assert_eq!(settings.catalog, Path::new("file"));
        assert_eq!(origin_of(&settings, "data_dir"), "--data-dir");
        assert!(origin_of(&settings, "catalog").ends_with("my.toml"));
    }

    #[test]
    fn a_providers_table_and_variables_are_merged() {
        let text = "[sqlite]\nmax_connections = 2\nbusy_timeout_ms = 1";
        let environment = [("MT_SQLITE__BUSY_TIMEOUT_MS", "7"), ("MT_SQLITE__DURABLE", "false")];
        let settings = load(text, &environment, Options::default()).unwrap();
        assert_eq!(settings.table["max_connections"], 2);
        assert_eq!(settings.table["busy_timeout_ms"], 7);
        assert_eq!(settings.table["durable"], false);
        assert_eq!(origin_of(&settings, "sqlite.durable"), "MT_SQLITE__DURABLE");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, environment, words) in [
            ("colour = 'red'", &[][..], &["`colour`", "my.toml"][..]),
            ("[sqilte]\ndirectory = 'x'", &[], &["`sqilte`", "my.toml", "sqlite"]),
            ("main_tenant = '../x'", &[], &["main_tenant", "my.toml"]),
            ("data_dir = 7", &[], &["data_dir", "my.toml"]),
            ("data_dir = ''", &[], &["data_dir", "my.toml"]),
            ("data_dir = ", &[], &["my.toml"]),
            ("[sqlite]\ncolour = 'red'", &[], &["colour", "[sqlite]", "my.toml"]),
            ("", &[("MT_DATADIR", "x")], &["`datadir`", "MT_DATADIR"]),
            ("", &[("MT_MAIN_TENANT", "a/b")], &["main_tenant", "MT_MAIN_TENANT"]),
            ("", &[("MT_SQLITE__COLOUR", "red")], &["colour", "MT_SQLITE__COLOUR"]),
            ("", &[("MT_PROVIDER", "postgres")], &["`postgres`", "linked: sqlite", "feature"]),
        ] {
            let error = load(text, environment, Options::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            for word in words {
                assert!(error.to_chain().contains(word), "{text}: {}", error.to_chain());
            }
        }
        let options = Options { config: Some("/no/such.toml".into()), ..Options::default() };
        assert!(load_with(&options, &[]).unwrap_err().to_string().contains("/no/such.toml"));
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let environment = [("MT_TEST_REQUIRE", "sqlite"), ("MTX", "1"), ("HOME", "/")];
        assert!(load_with(&Options::default(), &environment).is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        for key in ["api_token", "password", "url", "SECRET_KEY"] {
            assert_eq!(shown(key, &"hunter2".into()), "(set, not shown)");
        }
        assert_eq!(shown("nested", &serde_json::json!({"a": "hunter2"})), "(set, not shown)");
        assert_eq!(shown("directory", &"data".into()), "data");
    }
}
