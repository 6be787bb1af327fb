use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use url::Url;

use crate::{DatabaseFactory, Error, ErrorKind, FactoryContext, Result};

/// How one provider is made from settings.
///
/// Provider crates submit theirs at link time with [`register_factory!`](crate::register_factory).
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// The registered name, also its Cargo feature and URL scheme.
    pub name: &'static str,
    /// Makes the factory from its settings, a JSON object. Checks them; does no I/O.
    pub create: fn(Value, FactoryContext) -> Result<Arc<dyn DatabaseFactory>>,
    /// Reads the settings from a URL with the provider's scheme.
    pub settings_from_url: fn(&Url) -> Result<Value>,
}

inventory::collect!(Provider);

/// Submits a provider crate's constructor at link time:
/// `register_factory!(NAME, create, settings_from_url)`.
///
/// A crate that is only listed in `Cargo.toml` is not linked. Somebody must name it: the
/// `multi-tenancy` facade does behind its features, or write `use mt_sqlite as _;`.
#[macro_export]
macro_rules! register_factory {
    ($name:expr, $create:expr, $settings_from_url:expr $(,)?) => {
        $crate::__private::inventory::submit! {
            $crate::Provider {
                name: $name,
                create: $create,
                settings_from_url: $settings_from_url,
            }
        }
    };
}

/// Features of the `multi-tenancy` crate that bring a provider.
const KNOWN: [&str; 4] = ["d1", "postgres", "sqlite", "turso"];

/// The providers one can choose from by name.
#[derive(Clone, Debug, Default)]
pub struct Registry(BTreeMap<&'static str, Provider>);

impl Registry {
    /// A registry without providers, to [`register`](Self::register) them explicitly: in tests, or
    /// where constructors before `main` do not run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every provider that is linked into this program.
    ///
    /// # Errors
    /// `Config`: two carry one name.
    pub fn from_linked() -> Result<Self> {
        let mut registry = Self::new();
        for provider in inventory::iter::<Provider> {
            registry.register(*provider)?;
        }
        Ok(registry)
    }

    /// Adds a provider.
    ///
    /// # Errors
    /// `Config`: its name is taken.
    pub fn register(&mut self, provider: Provider) -> Result<()> {
        if self.0.contains_key(provider.name) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("two providers are registered as `{}`", provider.name),
            ));
        }
        self.0.insert(provider.name, provider);
        Ok(())
    }

    /// The registered names, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// Whether `name` is a provider of the `multi-tenancy` crate, linked into this program or not.
    pub fn is_known(name: &str) -> bool {
        KNOWN.contains(&name)
    }

    /// Makes the factory of provider `name` from `settings`, a JSON object.
    ///
    /// # Errors
    /// `Config`: no such provider (the message lists what is linked, and the feature to turn on),
    /// or its settings are wrong.
    pub fn create(
        &self,
        name: &str,
        settings: Value,
        context: FactoryContext,
    ) -> Result<Arc<dyn DatabaseFactory>> {
        (self.find(name)?.create)(settings, context)
    }

    /// Makes a factory from a URL whose scheme is the provider's name.
    ///
    /// # Errors
    /// As [`Registry::create`].
    pub fn create_from_url(
        &self,
        url: &str,
        context: FactoryContext,
    ) -> Result<Arc<dyn DatabaseFactory>> {
        // The text may hold a password, so it is not repeated.
        let url = Url::parse(url).map_err(|e| {
            Error::new(ErrorKind::Config, "the provider's URL cannot be understood").with_source(e)
        })?;
        let provider = self.find(url.scheme())?;
        (provider.create)((provider.settings_from_url)(&url)?, context)
    }

    fn find(&self, name: &str) -> Result<&Provider> {
        self.0.get(name).ok_or_else(|| {
            let linked = match self.names().as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            let advice = if KNOWN.contains(&name) {
                format!("turn on the feature `{name}` of the crate `multi-tenancy`")
            } else {
                format!(
                    "`multi-tenancy` has the features {}; a provider of your own is linked once its crate is named, as in `use my_provider as _;`",
                    KNOWN.join(", ")
                )
            };
            Error::new(
                ErrorKind::Config,
                format!("no provider `{name}` in this program (linked: {linked}); {advice}"),
            )
        })
    }
}
