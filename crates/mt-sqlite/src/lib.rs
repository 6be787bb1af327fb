#![doc = include_str!("README.md")]

mod backup;
mod builder;
mod config;
mod connect;
mod error;
mod factory;
mod files;
mod glance;
mod image;
mod look;
mod provision;
mod tenant_lock;

pub use builder::SqliteFactoryBuilder;
pub use config::SqliteConfig;
pub use factory::SqliteFactory;

/// The registered name of this provider, which is also its Cargo feature and URL scheme.
pub const NAME: &str = "sqlite";

mt_core::register_factory!(NAME, config::create, config::settings_from_url);
