#![doc = include_str!("README.md")]

mod capture;
mod failure;
mod foreign_keys;
mod ledger;
mod rebuild;
mod reference;
mod remote;
mod runner;
mod session;
mod statement;
mod status;

pub use reference::Migrator;
pub use runner::Runner;
pub use status::{MigrationReport, SchemaStatus};
