//! The settings of providers, and the factories made of them.

use std::{collections::BTreeMap, iter, sync::Arc};

use mt_control::DatabaseIsolation;
use mt_core::{DatabaseFactory, DeploymentId, Error, ErrorKind, FactoryContext, Result};

use super::{DEFAULT, FILE, Settings, Table, config, context_to_check};

impl Settings {
    /// Reads as text what is a text. A variable does not tell an organization named `42` from a
    /// number, and only the provider knows which it takes. So it is asked, one variable after the
    /// other: a variable is what it looks like, unless the provider refuses that kind of value and
    /// takes the text.
    pub(super) fn read_as_text(&mut self, texts: &BTreeMap<String, String>) {
        let own = std::mem::take(&mut self.table);
        self.table = self.with_texts(&self.provider, own, texts);
        let others = std::mem::take(&mut self.others).into_iter();
        let read = others.map(|(name, table)| (name, self.with_texts(name, table, texts)));
        self.others = read.collect();
    }

    fn with_texts(&self, name: &str, table: Table, texts: &BTreeMap<String, String>) -> Table {
        if texts.is_empty() || !self.is_mistyped(name, &table) {
            return table;
        }
        let mut table = table;
        let prefix = format!("{name}.");
        let own = texts.iter().filter_map(|(key, text)| Some((key.strip_prefix(&prefix)?, text)));
        let mut looked_like = Vec::new();
        for (key, text) in own {
            // Not those of tables within the table: what is set there has no key of its own here.
            looked_like.extend(table.remove(key).map(|value| (key, value, text)));
        }
        for (key, value, text) in looked_like {
            let with = |value: serde_json::Value| {
                let mut table = table.clone();
                table.insert(key.to_owned(), value);
                table
            };
            let (as_it_looks, as_text) = (with(value), with(text.as_str().into()));
            let is_text = self.is_mistyped(name, &as_it_looks) && !self.is_mistyped(name, &as_text);
            table = if is_text { as_text } else { as_it_looks };
        }
        table
    }

    /// The settings of a provider, where it has any here.
    fn table(&self, name: &str) -> Option<&Table> {
        if name == self.provider { Some(&self.table) } else { self.others.get(name) }
    }

    pub(super) fn table_mut(&mut self, name: &str) -> Option<&mut Table> {
        if name == self.provider { Some(&mut self.table) } else { self.others.get_mut(name) }
    }

    /// Whether the provider refuses the kind of a value, or a setting by its name.
    fn is_mistyped(&self, name: &str, table: &Table) -> bool {
        let context = context_to_check(DeploymentId::random());
        let made = self.registry.create(name, table.clone().into(), context);
        made.err().is_some_and(|error| {
            let causes = iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
            causes.filter_map(|e| e.downcast_ref()).any(serde_json::Error::is_data)
        })
    }

    /// The settings that the provider refuses by their kind or name, each by itself. What it tells
    /// is what it expected, and often not where.
    fn mistyped_keys(&self, name: &str) -> Vec<&str> {
        let alone = |key: &str, value: &serde_json::Value| {
            Table::from_iter([(key.to_owned(), value.clone())])
        };
        // Where one has to be there, its lack would be told of each.
        let is_told = !self.is_mistyped(name, &Table::new());
        let wrong = self.table(name).into_iter().flatten().filter(|_| is_told);
        let wrong = wrong.filter(|(key, value)| self.is_mistyped(name, &alone(key, value)));
        wrong.map(|(key, _)| key.as_str()).collect()
    }

    /// Makes the provider's factory, for one installation: `context` is the catalog's.
    ///
    /// # Errors
    /// `Config`: its settings are missing or wrong. As [`Registry::create`](mt_core::Registry::create).
    pub fn factory(&self, context: FactoryContext) -> Result<Arc<dyn DatabaseFactory>> {
        self.factory_of(&self.provider, context)
    }

    /// All providers that have settings here: the one that new tenants get is made now, each other
    /// one when a tenant of it is first asked for. `context` is the catalog's.
    ///
    /// # Errors
    /// As [`Settings::factory`].
    pub fn isolation(&self, context: &FactoryContext) -> Result<DatabaseIsolation> {
        let settings = Arc::new(self.clone());
        let first = DatabaseIsolation::new(self.factory(context.clone())?);
        Ok(self.other_providers().fold(first, |isolation, name| {
            let (settings, context) = (Arc::clone(&settings), context.clone());
            isolation.with_provider(name, move || settings.factory_of(name, context.clone()))
        }))
    }

    /// Makes the factory of a provider that has settings here.
    pub(crate) fn factory_of(
        &self,
        name: &str,
        context: FactoryContext,
    ) -> Result<Arc<dyn DatabaseFactory>> {
        let table = self.table(name).cloned().unwrap_or_default();
        let made = self.registry.create(name, table.into(), context);
        made.map_err(|error| self.refused(name, error))
    }

    /// Says where the settings that a provider refuses are written, or can be.
    fn refused(&self, name: &str, error: Error) -> Error {
        let names = self.registry.names();
        let Some(name) = names.into_iter().find(|linked| *linked == name) else {
            return error;
        };
        if error.kind() != ErrorKind::Config {
            return error;
        }
        let wrong = self.mistyped_keys(name);
        let prefix = format!("{name}.");
        let is_named = |key: &str| wrong.is_empty() || wrong.contains(&key);
        let mut origins: Vec<&str> = self
            .origins
            .iter()
            .filter(|(key, _)| key.strip_prefix(&prefix).is_some_and(is_named))
            .map(|(_, origin)| origin.as_str())
            .filter(|origin| *origin != DEFAULT)
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let message = match (origins.join(", "), wrong.as_slice()) {
            (origins, _) if origins.is_empty() => format!(
                "the settings of `{name}` are missing; expected them in the table [{name}] of {FILE}, or in variables MT_{}__SETTING",
                name.to_ascii_uppercase()
            ),
            (origins, []) => format!("the settings [{name}] (from {origins}) are refused"),
            (origins, wrong) => format!(
                "of the settings [{name}], `{}` (from {origins}) cannot be used",
                wrong.join("`, `")
            ),
        };
        config(message).with_provider(name).with_source(error)
    }

    /// The settings of each provider, the one that new tenants get first.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        let own = iter::once((self.provider.as_str(), &self.table));
        own.chain(self.others.iter().map(|(name, table)| (*name, table)))
    }
}
