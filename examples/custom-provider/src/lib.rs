#![doc = include_str!("../README.md")]

mod config;
mod error;
mod factory;
mod folder;

pub use config::FoldersConfig;
pub use factory::FoldersFactory;

/// The registered name of this provider, which is also its URL scheme.
pub const NAME: &str = "folders";

mt_core::register_factory!(NAME, config::create, config::settings_from_url);
