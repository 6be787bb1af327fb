#![doc = include_str!("README.md")]

mod failure;
mod foreign_keys;
mod ledger;
mod reference;
mod runner;
mod session;
mod status;

pub use reference::Migrator;
pub use runner::Runner;
pub use status::{MigrationReport, SchemaStatus};
