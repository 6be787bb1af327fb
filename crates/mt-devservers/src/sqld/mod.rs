//! The libSQL server.

pub(crate) mod admin;
pub(crate) mod dump;
mod fetch;
mod literal;
mod server;

pub use fetch::find;
pub use server::Sqld;
