use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Error, ErrorKind};

/// Who a database belongs to: 1 to 64 characters of `[A-Za-z0-9_-]`, the first a letter or a
/// digit.
///
/// Equality is exact. Cheap to clone. There is no `From<String>`: an id that was not checked
/// cannot become one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks `id` and takes it over.
    ///
    /// # Errors
    /// `InvalidTenant`, naming what is wrong. The message shows the id with everything outside
    /// printable ASCII escaped, so it is safe to log.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Error> {
        let id = id.as_ref();
        match Self::fault(id) {
            None => Ok(Self(id.into())),
            Some(fault) => Err(Error::new(
                ErrorKind::InvalidTenant,
                format!(
                    "`{}` is no tenant id: {fault}; expected 1 to {} characters of A-Z a-z 0-9 _ -, the first a letter or a digit",
                    id.chars().take(80).collect::<String>().escape_default(),
                    Self::MAX_BYTES,
                ),
            )),
        }
    }

    fn fault(id: &str) -> Option<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if id.is_empty() {
            Some("it is empty".to_owned())
        } else if let Some(c) = id.chars().find(|c| !allowed(*c)) {
            Some(format!("it has the character `{}`", c.escape_default()))
        } else if id.len() > Self::MAX_BYTES {
            Some(format!("it has {} characters", id.len()))
        } else if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Some("it starts with a separator".to_owned())
        } else {
            None
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id with capitals folded: two ids with the same key may not live side by side, because
    /// host names and some file systems cannot tell them apart.
    pub fn to_folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        Self::new(id)
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(id).map_err(serde::de::Error::custom)
    }
}

/// One installation: a catalog and all databases made under it.
///
/// Written into every tenant's database, so that a file or a name that strayed in from another
/// installation (staging, a colleague's laptop) is refused and not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(Uuid);

impl DeploymentId {
    /// A new random id. Make one per installation and keep it: databases stamped with another are
    /// refused.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for DeploymentId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeploymentId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        Uuid::parse_str(id)
            .map(Self)
            .map_err(|e| Error::new(ErrorKind::Config, "not a deployment id").with_source(e))
    }
}

/// Which of a tenant's successive databases: the first is 1, and each restore or move makes the
/// next. A name carries its generation, so an old database never answers for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(NonZeroU32);

impl Generation {
    /// A tenant's first database.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The generation numbered `number`, or `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number, 1 or more.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a tenant is in its life. Only [`TenantState::Active`] is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TenantState {
    /// Its database is being made.
    Provisioning,
    /// It is served.
    Active,
    /// It is kept, and not served.
    Suspended,
    /// Its database is being removed.
    Deprovisioning,
    /// A step failed; the step can be repeated.
    Failed,
    /// Its database is gone; the row remains as a receipt.
    Deleted,
}

impl TenantState {
    /// Every state, in the order of a tenant's life.
    pub const ALL: [Self; 6] = [
        Self::Provisioning,
        Self::Active,
        Self::Suspended,
        Self::Deprovisioning,
        Self::Failed,
        Self::Deleted,
    ];

    /// The word used in the catalog, in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deprovisioning => "deprovisioning",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantState {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("`{word}` is no state of a tenant"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_ids_are_refused() {
        let long = "a".repeat(65);
        for id in ["", "..", "../x", "a/b", "-x", "_x", "a\0b", "a b", "é", "a;drop", "a'b", &long]
        {
            assert_eq!(TenantId::new(id).unwrap_err().kind(), ErrorKind::InvalidTenant, "{id:?}");
        }
        let shown = TenantId::new("a\u{1b}[31m").unwrap_err().to_string();
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<TenantId>(r#""acme""#).is_ok());
        assert!(serde_json::from_str::<TenantId>(r#""../acme""#).is_err());
    }

    proptest! {
        #[test]
        fn valid_ids_round_trip(id in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}") {
            let tenant: TenantId = id.parse().unwrap();
            prop_assert_eq!(tenant.as_str(), &id);
            let json = serde_json::to_string(&tenant).unwrap();
            prop_assert_eq!(serde_json::from_str::<TenantId>(&json).unwrap(), tenant);
        }
    }
}
