//! Settings: flags over environment over settings file over defaults, each with its origin.

mod file;
mod layers;
mod providers;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use figment::{
    Figment, Metadata,
    value::{Dict, Value},
};
use mt_control::CatalogLocation;
use mt_core::{
    DeploymentId, Error, ErrorKind, FactoryContext, Placement, PlacementStore, Registry, Result,
    TenantId,
};
use serde::{Deserialize, Serialize};

use self::{
    file::File,
    layers::{Layer, of_environment, of_flags},
};
use crate::Options;

/// A provider's own settings.
type Table = serde_json::Map<String, serde_json::Value>;

/// The settings file that is read if it is there and no other is named.
const FILE: &str = "mt.toml";
const DEFAULT: &str = "default";
/// The provider that needs no settings.
const SQLITE: &str = "sqlite";

/// The settings that do not belong to a provider.
#[derive(Clone, Debug, Deserialize)]
struct Common {
    data_dir: PathBuf,
    provider: String,
    catalog: Option<String>,
    main_tenant: Option<TenantId>,
}

impl Common {
    const KEYS: [&str; 4] = ["data_dir", "provider", "catalog", "main_tenant"];
}

/// What an installation is made of: which providers with which settings, and where the catalog is.
///
/// The command line reads them for every command. A service that reads them too has the tenants
/// that the command line administers.
#[derive(Clone)]
pub struct Settings {
    data_dir: PathBuf,
    catalog: CatalogLocation,
    main_tenant: Option<TenantId>,
    provider: String,
    /// The settings file, if one was read.
    file: Option<PathBuf>,
    /// The provider's own settings.
    table: Table,
    /// Those of the other linked providers that have any, and of `sqlite`, which needs none.
    others: BTreeMap<&'static str, Table>,
    origins: BTreeMap<String, String>,
    registry: Registry,
}

/// One setting, where it comes from, and what may be shown of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Effective {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
    pub(crate) origin: String,
}

impl Settings {
    /// Reads them for the providers that are linked: `options` over the process's environment over
    /// the settings file over the defaults. Checks all of them but those of other providers than the
    /// one that new tenants get, and touches nothing.
    ///
    /// # Errors
    /// `Config`, naming the setting and where it is written.
    pub fn load(options: &Options) -> Result<Self> {
        Self::load_from(options, std::env::vars_os())
    }

    /// As [`Settings::load`], from these variables and not from the process's.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_from<K: Into<OsString>, V: Into<OsString>>(
        options: &Options,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let registry = Registry::from_linked()?;
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let file = match &options.config {
            Some(file) if file.is_file() => Some(file.clone()),
            Some(file) => {
                return Err(config(format!("there is no settings file {}", file.display())));
            }
            None => Some(PathBuf::from(FILE)).filter(|file| file.is_file()),
        };
        let mut figment = Figment::new()
            .merge(Layer::text(DEFAULT, "data_dir", "./data"))
            .merge(Layer::text(DEFAULT, "provider", SQLITE));
        if let Some(file) = &file {
            figment = figment.merge(File::read(file)?);
        }
        let mut texts = BTreeMap::new();
        for layer in of_environment(environment)?.into_iter().chain(of_flags(options)?) {
            texts.extend(layer.text.clone().map(|text| (layer.key.clone(), text)));
            figment = figment.merge(layer);
        }
        let mut settings = Self::from_figment(&figment, file, registry)?;
        settings.read_as_text(&texts);
        settings.check()?;
        Ok(settings)
    }

    /// The folder of what is kept in files: the catalog, backups, and the tenants with `sqlite`.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where the catalog is: a file, or a database on a PostgreSQL server.
    pub const fn catalog(&self) -> &CatalogLocation {
        &self.catalog
    }

    /// The application's own tenant, if one is set.
    pub fn main_tenant(&self) -> Option<&TenantId> {
        self.main_tenant.as_ref()
    }

    /// The name of the provider that new tenants get.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The other providers that have settings here, and `sqlite`, which needs none.
    pub(crate) fn other_providers(&self) -> impl Iterator<Item = &'static str> {
        self.others.keys().copied()
    }

    /// Whether anybody set anything of a provider.
    pub(crate) fn mentions(&self, provider: &str) -> bool {
        let prefix = format!("{provider}.");
        self.origins.keys().any(|key| key.starts_with(&prefix))
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The providers there are.
    pub(crate) fn providers(&self) -> Vec<&'static str> {
        self.registry.names()
    }

    fn from_figment(figment: &Figment, file: Option<PathBuf>, registry: Registry) -> Result<Self> {
        let all: Dict = figment.extract().map_err(in_words)?;
        let common: Common = figment.extract().map_err(in_words)?;
        require_filled(figment, "data_dir", common.data_dir.as_os_str().is_empty())?;
        require_filled(figment, "catalog", common.catalog.as_deref() == Some(""))?;
        let catalog: CatalogLocation = match &common.catalog {
            // It may have a password in it, so where it is written is all that is told.
            Some(text) => text.parse().map_err(|e: Error| {
                let place = place_of(figment, "catalog");
                config(format!("the setting `catalog`{place} cannot be used")).with_source(e)
            })?,
            None => CatalogLocation::file(common.data_dir.join("control.db")),
        };
        for (key, value) in &all {
            check_key(figment, key, value, &common.provider, &registry)?;
        }
        let table_of = |name: &str| match all.get(name) {
            Some(table) => table.deserialize::<Table>().map_err(in_words).map(Some),
            None => Ok(None),
        };
        let mut others = BTreeMap::new();
        for name in registry.names().into_iter().filter(|name| *name != common.provider) {
            match table_of(name)? {
                None if name != SQLITE => {}
                table => drop(others.insert(name, table.unwrap_or_default())),
            }
        }
        let mut settings = Self {
            catalog,
            data_dir: common.data_dir,
            main_tenant: common.main_tenant,
            file,
            table: table_of(&common.provider)?.unwrap_or_default(),
            others,
            provider: common.provider,
            origins: BTreeMap::new(),
            registry,
        };
        let directory = settings.data_dir.join("tenants");
        if let Some(table) = settings.table_mut(SQLITE)
            && !table.contains_key("directory")
        {
            let directory = directory.into_os_string().into_string().map_err(|path| {
                config(format!("data_dir is not UTF-8: {}", path.to_string_lossy()))
            })?;
            table.insert("directory".to_owned(), directory.into());
        }
        settings.note_origins(figment);
        Ok(settings)
    }

    /// Makes the provider's factory once and drops it, before anything is touched.
    fn check(&self) -> Result<()> {
        // Making a factory does no I/O, so any installation will do.
        self.factory(context_to_check(DeploymentId::random())).map(drop)
    }

    /// Every setting in effect. What may be a secret is not shown.
    pub(crate) fn effective(&self) -> Vec<Effective> {
        let text = |path: &Path| path.to_string_lossy().into_owned().into();
        let main =
            self.main_tenant.as_ref().map_or(serde_json::Value::Null, |main| main.as_str().into());
        let common = [
            ("data_dir", text(&self.data_dir)),
            ("catalog", self.catalog.to_string().into()),
            ("provider", self.provider.clone().into()),
            ("main_tenant", main),
        ];
        let common = common.map(|(key, value)| (key.to_owned(), value)).into_iter();
        let own = self.tables().flat_map(|(name, table)| {
            table.iter().map(move |(key, value)| (format!("{name}.{key}"), shown(key, value)))
        });
        let effective = common.chain(own).map(|(key, value)| {
            let origin = self.origins.get(&key).map_or(DEFAULT, String::as_str).to_owned();
            Effective { key, value, origin }
        });
        effective.collect()
    }

    fn note_origins(&mut self, figment: &Figment) {
        let own = self
            .tables()
            .flat_map(|(name, table)| table.keys().map(move |key| format!("{name}.{key}")));
        let keys = Common::KEYS.map(str::to_owned).into_iter().chain(own);
        let origins = keys.filter_map(|key| {
            let origin = origin(figment.find_metadata(&key)?);
            Some((key, origin))
        });
        self.origins = origins.collect();
    }
}

/// Not the provider's own settings, which may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("data_dir", &self.data_dir)
            .field("catalog", &self.catalog)
            .field("main_tenant", &self.main_tenant)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// A context for a factory that is only looked at, as the catalog's would be: with a store that can
/// change.
pub(crate) fn context_to_check(deployment: DeploymentId) -> FactoryContext {
    FactoryContext::new(deployment).with_placements(Arc::new(NoPlacements))
}

/// The placements of an installation without tenants.
#[derive(Clone, Copy, Debug)]
struct NoPlacements;

#[async_trait]
impl PlacementStore for NoPlacements {
    async fn get(&self, _tenant: &TenantId) -> Result<Option<Placement>> {
        Ok(None)
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        _expected: &Placement,
        _new: &Placement,
    ) -> Result<()> {
        Err(Error::new(ErrorKind::TenantNotFound, "there is no such tenant").with_tenant(tenant))
    }

    fn can_change(&self) -> bool {
        true
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
    let is_chosen = linked.contains(&key) || key == provider;
    // What another program of this installation is told of a provider of its own is none of ours.
    if Common::KEYS.contains(&key) || is_table && (is_chosen || Registry::is_known(key)) {
        return Ok(());
    }
    let place = place_of(figment, key);
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
    Err(config(format!("the setting `{key}`{} is empty", place_of(figment, key))))
}

/// Where a setting is written, for a message.
fn place_of(figment: &Figment, key: &str) -> String {
    figment.find_metadata(key).map_or_else(String::new, |m| format!(" in {}", origin(m)))
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

#[cfg(test)]
mod tests;
