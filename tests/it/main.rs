//! Checks across crates, on real files and the real engine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod backups;
mod cli;
mod contract;
mod d1_beside_sqlite;
mod d1_fleet;
mod d1_killed;
mod d1_lifecycle;
mod d1_rate;
mod d1_support;
mod fleet;
mod lifecycle;
mod linking;
mod moving;
mod native;
mod postgres_fleet;
mod postgres_killed;
mod postgres_support;
mod processes;
mod providers;
mod removal;
mod serving;
mod side_by_side;
mod support;
mod turso_beside_sqlite;
mod turso_fleet;
mod turso_lifecycle;
mod turso_provision;
mod turso_support;
