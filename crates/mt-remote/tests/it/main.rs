//! A driver over SQLite itself, as the reference: what it answers must be what SeaORM's own
//! connection answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encoding;
mod errors;
mod faults;
mod local;
mod rows;
mod savepoints;
mod scripted;
mod sockets;
mod stamping;
mod suite;
