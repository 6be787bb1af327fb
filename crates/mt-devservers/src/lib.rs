#![doc = include_str!("README.md")]

mod background;
mod cache;
mod call;
pub mod d1;
pub mod fault;
mod http;
mod npm;
mod port;
pub mod postgres;
mod process;
pub mod sqld;
pub mod turso;
mod user;
mod wire;
pub mod workerd;

pub use d1::D1;
pub use http::client as http_client;
pub use postgres::Postgres;
pub use sqld::Sqld;
pub use turso::Turso;
pub use workerd::Workerd;
