//! What a provider needs from above, without knowing who is above.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    Connection, DataAdapters, DatabaseName, DeploymentId, Error, ErrorKind, Generation, Result,
    SchemaRecord, TenantId, TenantState,
};

/// Where a tenant's database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Placement {
    /// Which of the tenant's successive databases is the current one.
    pub generation: Generation,
    /// The name the service gave it or a store fixed; `None`: the provider derives it from prefix,
    /// tenant and generation.
    pub database: Option<DatabaseName>,
    /// What the engine needs to find it again, such as a uuid or a host name. Never a secret.
    pub attributes: BTreeMap<String, String>,
    /// Where its credentials are, in the [`SecretStore`].
    pub secret: Option<SecretRef>,
}

impl Placement {
    /// A placement that leaves everything but the generation to be derived.
    pub const fn derived(generation: Generation) -> Self {
        Self { generation, database: None, attributes: BTreeMap::new(), secret: None }
    }
}

/// Remembers where each tenant's database is.
#[async_trait]
pub trait PlacementStore: fmt::Debug + Send + Sync + 'static {
    /// The placement of `tenant`; `None`: there is no such tenant.
    ///
    /// # Errors
    /// `Unavailable`: the store does not answer.
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>>;

    /// As [`PlacementStore::get`] for each of `tenants`, in their order.
    ///
    /// # Errors
    /// As there.
    async fn get_many(&self, tenants: &[TenantId]) -> Result<Vec<Option<Placement>>> {
        let mut placements = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            placements.push(self.get(tenant).await?);
        }
        Ok(placements)
    }

    /// Puts `new` in the place of `expected`, atomically.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `Conflict` | the current placement is not `expected` |
    /// | `TenantNotFound` | there is no such tenant |
    /// | `Unsupported` | the store only derives; ask [`PlacementStore::can_change`] first |
    /// | `Unavailable` | the store does not answer |
    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        expected: &Placement,
        new: &Placement,
    ) -> Result<()>;

    /// Whether [`PlacementStore::compare_and_set`] is supported.
    fn can_change(&self) -> bool;
}

/// The store of an embedded provider without a control plane: every tenant has its first
/// generation, under the derived name. Nothing can be moved or restored in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct DerivedPlacements;

#[async_trait]
impl PlacementStore for DerivedPlacements {
    async fn get(&self, _tenant: &TenantId) -> Result<Option<Placement>> {
        Ok(Some(Placement::derived(Generation::FIRST)))
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        _expected: &Placement,
        _new: &Placement,
    ) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "placements are derived from names; give the factory a PlacementStore to change them",
        )
        .with_tenant(tenant))
    }

    fn can_change(&self) -> bool {
        false
    }
}

/// Points at a secret in a [`SecretStore`]. Not a secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(pub String);

/// A secret in memory. Shown nowhere, and wiped out when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes `value` over.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The secret itself. Do not log it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Keeps tenants' credentials outside the catalog, backups and manifests.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// The secret behind `reference`.
    ///
    /// # Errors
    /// `Config`: there is none. `Unavailable`: the store does not answer.
    async fn get(&self, reference: &SecretRef) -> Result<Secret>;

    /// Stores `secret` under `reference`, in the place of what was there.
    ///
    /// # Errors
    /// `Unavailable`: the store does not answer.
    async fn put(&self, reference: &SecretRef, secret: &Secret) -> Result<()>;

    /// Removes what is under `reference`; nothing there is no error.
    ///
    /// # Errors
    /// `Unavailable`: the store does not answer.
    async fn delete(&self, reference: &SecretRef) -> Result<()>;
}

/// A schema that a new database can be given, and so an image or a template can be made of.
///
/// `mt-migration` implements it for any SeaORM migrator.
#[async_trait]
pub trait SchemaTemplate: fmt::Debug + Send + Sync + 'static {
    /// Tells two schemas apart: the same for the same migrations in the same order.
    fn fingerprint(&self) -> &str;

    /// The table in which the applied migrations are recorded.
    fn ledger(&self) -> &str;

    /// What is [recorded](crate::DatabaseFactory::recorded_schemas) of a database that has this
    /// schema. Default: its fingerprint, and no version.
    fn record(&self) -> SchemaRecord {
        SchemaRecord { version: None, fingerprint: Some(self.fingerprint().to_owned()) }
    }

    /// Brings an empty database to this schema, ledger included.
    ///
    /// # Errors
    /// `MigrationFailed`, with the database's error as source.
    async fn apply(&self, connection: &Connection) -> Result<()>;
}

/// What a factory is given by whoever runs the fleet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FactoryContext {
    /// The installation, stamped into every database.
    pub deployment: DeploymentId,
    /// Where each tenant's database is.
    pub placements: Arc<dyn PlacementStore>,
    /// Where credentials are kept, if any are.
    pub secrets: Option<Arc<dyn SecretStore>>,
    /// The schema a new database gets. `None`: it starts with a stamp and no tables.
    pub template: Option<Arc<dyn SchemaTemplate>>,
}

impl FactoryContext {
    /// The context of an embedded provider: derived placements, no secrets, no schema.
    pub fn new(deployment: DeploymentId) -> Self {
        Self { deployment, placements: Arc::new(DerivedPlacements), secrets: None, template: None }
    }

    /// Keeps placements in `placements`.
    #[must_use]
    pub fn with_placements(mut self, placements: Arc<dyn PlacementStore>) -> Self {
        self.placements = placements;
        self
    }

    /// Keeps credentials in `secrets`.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Arc<dyn SecretStore>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Gives new databases this schema.
    #[must_use]
    pub fn with_template(mut self, template: Arc<dyn SchemaTemplate>) -> Self {
        self.template = Some(template);
        self
    }

    /// The ledger to read schema versions from, if a schema is known.
    pub fn ledger(&self) -> Option<&str> {
        self.template.as_ref().map(|template| template.ledger())
    }
}

/// The state of a tenant, as whoever runs the fleet knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantInfo {
    /// Where it is in its life.
    pub state: TenantState,
    /// Which of its successive databases is the current one.
    pub generation: Generation,
}

impl TenantInfo {
    /// A tenant in `state`, with `generation` current.
    pub const fn new(state: TenantState, generation: Generation) -> Self {
        Self { state, generation }
    }
}

/// Who knows the tenants and gives out their adapters: what an HTTP layer needs from above.
#[async_trait]
pub trait TenantSource: fmt::Debug + Send + Sync + 'static {
    /// State and generation of `tenant`, at most a few seconds old.
    ///
    /// # Errors
    /// `TenantNotFound`; `Unavailable`: the catalog does not answer.
    async fn tenant(&self, tenant: &TenantId) -> Result<TenantInfo>;

    /// The adapters of an active tenant.
    ///
    /// # Errors
    /// `TenantNotFound`, `TenantNotActive`, and those of
    /// [`DatabaseFactory::get_adapters`](crate::DatabaseFactory::get_adapters). Never another
    /// tenant's adapters, never a default database's.
    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters>;
}
