#![doc = include_str!("README.md")]

mod backup;
mod builder;
mod config;
mod excerpt;
mod factory;
mod hrana;
mod names;
#[cfg(feature = "native-client")]
mod native;
mod place;
mod platform;
mod provision;
mod restore;
mod tokens;

pub use builder::TursoFactoryBuilder;
pub use config::TursoConfig;
pub use factory::TursoFactory;
pub use platform::{
    Authorization, Configuration, ConfigurationChange, CreateDatabase, Creation, Database,
    DatabaseFilter, Engine, Expiration, Group, Instance, Parent, PlatformClient, PlatformLimits,
    Seed, TokenScope, Usage,
};
pub use tokens::Tokens;

/// The registered name of this provider, which is also its Cargo feature and URL scheme.
pub const NAME: &str = "turso";

mt_core::register_factory!(NAME, config::create, config::settings_from_url);
