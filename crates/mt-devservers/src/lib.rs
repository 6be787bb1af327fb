#![doc = include_str!("README.md")]

mod http;
mod port;
mod process;
pub mod sqld;
pub mod turso;

pub use http::client as http_client;
pub use sqld::Sqld;
pub use turso::Turso;
