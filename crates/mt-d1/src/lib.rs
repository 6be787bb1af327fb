#![doc = include_str!("README.md")]

mod api;
mod backup;
mod budget;
mod builder;
mod config;
mod factory;
mod forecast;
mod look;
mod maintenance;
mod names;
mod place;
mod provision;
mod raw;
mod restore;
mod time_travel;
mod wires;

pub use api::{ApiLimits, Bookmark, CreateDatabase, Creation, D1Client, Database, PointInTime};
pub use budget::{Budget, BudgetSettings, BudgetUsage};
pub use builder::D1FactoryBuilder;
pub use config::{D1Config, Jurisdiction, LocationHint};
pub use factory::D1Factory;

/// The registered name of this provider, which is also its Cargo feature and URL scheme.
pub const NAME: &str = "d1";

mt_core::register_factory!(NAME, config::create, config::settings_from_url);
