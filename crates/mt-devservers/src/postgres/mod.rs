//! A PostgreSQL server of our own.

mod programs;
mod server;
mod shared;

pub use programs::{fetch, find};
pub use server::{Postgres, PostgresBuilder};
pub use shared::SharedPostgres;
