//! The command line from arguments to exit code and output, on SQLite and on Turso.
#![expect(clippy::unwrap_used, reason = "tests")]

mod commands;
mod hostile;
mod migrate_all;
mod support;
mod turso;
