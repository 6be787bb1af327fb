#![doc = include_str!("README.md")]

mod archive;
mod builder;
mod catalog;
mod closures;
mod fleet;
mod forecast;
mod isolation;
mod lifecycle;
mod multi_tenancy;
mod provider;
mod providers;

pub use archive::RestoreAs;
pub use builder::{AccessControl, MultiTenancyBuilder};
pub use catalog::{Catalog, CatalogLocation, TenantRecord};
pub use closures::Closures;
pub use fleet::{FleetReport, MigrateAll, Outcome, TenantMigration};
pub use forecast::ProviderForecast;
pub use isolation::{DatabaseIsolation, HookContext};
pub use multi_tenancy::{MultiTenancy, TenantStatus};
