//! The runner and the reference schema on SQLite files, reached by SeaORM and by a driver.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod down;
mod factory;
mod migrations;
mod reference;
mod remote;
mod remote_asking;
mod remote_faults;
mod remote_transactions;
mod template;
mod up;
mod wire;
