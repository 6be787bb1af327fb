//! A PostgreSQL server of our own.

mod programs;
mod server;

pub use programs::{fetch, find};
pub use server::{Postgres, PostgresBuilder};
