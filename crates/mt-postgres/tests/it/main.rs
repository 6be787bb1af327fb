//! The provider on a real PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod backups;
mod conformance;
mod connections;
mod leftovers;
mod programs;
mod restores;
mod roles;
mod stock;
mod support;
mod tampered;
