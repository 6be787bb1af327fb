//! The providers of one program: the one that new tenants get, and others that keep some.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mt_core::{DatabaseFactory, Error, ErrorKind, Result};

pub(crate) type Factory = Arc<dyn DatabaseFactory>;
pub(crate) type Make = Arc<dyn Fn() -> Result<Factory> + Send + Sync>;
pub(crate) type Layer = Arc<dyn Fn(Factory) -> Factory + Send + Sync>;

/// Each is made when it is first asked for, so that one whose settings are wrong is in nobody's way
/// but its own tenants'.
pub(crate) struct Providers {
    default: Factory,
    others: BTreeMap<String, Other>,
    layers: Vec<Layer>,
}

struct Other {
    make: Make,
    /// Held while it is made: two factories of one provider would each ration by themselves.
    made: Mutex<Option<Factory>>,
}

impl Providers {
    /// # Errors
    /// `Config`: two have one name.
    pub(crate) fn new(
        default: Factory,
        others: Vec<(String, Make)>,
        layers: Vec<Layer>,
    ) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (name, make) in others {
            let other = Other { make, made: Mutex::new(None) };
            if name == default.name() || known.insert(name.clone(), other).is_some() {
                let message = format!("two factories are named `{name}`");
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        Ok(Self { default, others: known, layers })
    }

    /// The one that new tenants get.
    pub(crate) fn default(&self) -> &Factory {
        &self.default
    }

    /// Whether there is no other than the default.
    pub(crate) fn is_single(&self) -> bool {
        self.others.is_empty()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        name == self.default.name() || self.others.contains_key(name)
    }

    /// Their names, for a message.
    pub(crate) fn names(&self) -> String {
        let others = self.others.keys().map(String::as_str);
        let names = std::iter::once(self.default.name()).chain(others);
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// Those that are made.
    pub(crate) fn made(&self) -> Vec<Factory> {
        let lock =
            |other: &Other| other.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others = self.others.values().filter_map(lock);
        std::iter::once(Arc::clone(&self.default)).chain(others).collect()
    }

    /// The provider of that name, made now if it was not.
    ///
    /// # Errors
    /// `Config`: there is none, or it cannot be made.
    pub(crate) fn get(&self, name: &str) -> Result<Factory> {
        if name == self.default.name() {
            return Ok(Arc::clone(&self.default));
        }
        let other = self.others.get(name).ok_or_else(|| {
            let message = format!(
                "there is no provider `{name}` here; this program runs with {}",
                self.names()
            );
            Error::new(ErrorKind::Config, message)
        })?;
        let mut made = other.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(factory) = &*made {
            return Ok(Arc::clone(factory));
        }
        let factory = (other.make)()?;
        if factory.name() != name {
            let message = format!("the provider `{name}` is a factory named `{}`", factory.name());
            return Err(Error::new(ErrorKind::Config, message));
        }
        let factory = self.layers.iter().fold(factory, |factory, layer| layer(factory));
        *made = Some(Arc::clone(&factory));
        Ok(factory)
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers")
            .field("default", &self.default)
            .field("others", &self.others.keys())
            .finish_non_exhaustive()
    }
}
