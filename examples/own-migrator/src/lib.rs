#![doc = include_str!("../README.md")]

mod entities;
mod migrations;

pub use entities::{project, task};
pub use migrations::Migrator;
