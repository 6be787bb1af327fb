#![doc = include_str!("README.md")]

mod background;
mod cache;
mod call;
pub mod d1;
pub mod fault;
mod http;
mod port;
mod process;
pub mod sqld;
pub mod turso;
mod wire;
pub mod workerd;

pub use d1::D1;
pub use http::client as http_client;
pub use sqld::Sqld;
pub use turso::Turso;
pub use workerd::Workerd;
