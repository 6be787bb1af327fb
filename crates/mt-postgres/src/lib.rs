#![doc = include_str!("README.md")]

mod admin;
mod backup;
mod builder;
mod child;
mod comment;
mod config;
mod connect;
mod contents;
mod error;
mod factory;
mod furnish;
mod libpq;
mod login;
mod look;
mod names;
mod place;
mod programs;
mod provision;
mod remove;
mod restore;
mod roles;
mod stock;
mod sweep;
mod template;
mod turn;

pub use builder::PostgresFactoryBuilder;
pub use config::PostgresConfig;
pub use factory::PostgresFactory;

/// The registered name of this provider, which is also its Cargo feature and URL scheme.
pub const NAME: &str = "postgres";

mt_core::register_factory!(NAME, config::create, config::settings_from_url);
