//! The provider on a real PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod conformance;
mod leftovers;
mod roles;
mod stock;
mod support;
