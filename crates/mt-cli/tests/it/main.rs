//! The command line from arguments to exit code and output, on SQLite, PostgreSQL, D1 and Turso.
#![expect(clippy::unwrap_used, reason = "tests")]

mod catalog;
mod commands;
mod d1;
mod forecast;
mod hostile;
mod migrate_all;
mod postgres;
mod support;
mod turso;
