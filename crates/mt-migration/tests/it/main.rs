//! The runner and the reference schema on SQLite files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod down;
mod factory;
mod migrations;
mod reference;
mod template;
mod up;
