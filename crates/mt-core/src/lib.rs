#![doc = include_str!("README.md")]

mod adapters;
mod backup;
mod batch;
mod budget;
mod cache;
mod capabilities;
mod driver;
mod error;
mod factory;
mod forecast;
mod gate;
mod guard;
mod handles;
mod lane;
mod layer;
mod name;
mod opening;
mod ports;
mod registry;
mod session;
mod sql;
mod stamp;
mod tenant;
mod traits;
mod transaction;

pub use adapters::{CreateAdapters, DataAdapters, ReadAdapters};
pub use backup::{BackupManifest, RestoreOptions};
pub use batch::Step;
pub use budget::{BudgetSettings, BudgetUsage, Connect, ConnectionBudget, ConnectionPool};
pub use cache::{CacheSettings, CachedFactory};
pub use capabilities::{Capabilities, ReadOnly};
pub use driver::{Connection, Connections, Driver, DriverTransaction};
pub use error::{Error, ErrorKind, Result};
pub use factory::{
    DatabaseEntry, DatabaseFactory, DatabaseFactoryExt, DatabaseInfo, Maintenance, MaintenanceMode,
    RecordedSchema, SchemaRecord,
};
pub use forecast::{Forecast, Work};
pub use guard::condition_guard;
pub use handles::{OpenHandles, Revoked};
pub use layer::{FactoryLayer, WithCreateAdapters};
pub use name::{DatabaseName, NameRules};
pub use opening::Opening;
pub use ports::{
    DerivedPlacements, FactoryContext, Placement, PlacementStore, SchemaTemplate, Secret,
    SecretRef, SecretStore, TenantInfo, TenantSource,
};
pub use registry::{Provider, Registry};
pub use sql::{SqlToken, SqlTokens, only_reads, split_statements};
pub use stamp::Stamp;
pub use tenant::{DeploymentId, Generation, TenantId, TenantState};
pub use traits::DataStream;
pub use transaction::DataTransaction;

/// What [`register_factory!`] expands to needs; not for anybody else.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
}
