#![doc = include_str!("README.md")]

#[cfg(feature = "conformance")]
pub mod conformance;
mod decode;
mod driver;
mod encode;
mod fault;
mod http;
mod locks;
mod look;
mod memory;
mod outcome;
mod protocol;
mod rows;
mod savepoints;
mod stamping;
mod switch;
mod transaction;
mod violation;

pub use decode::Decoder;
pub use driver::RemoteDriver;
pub use fault::{Fault, StatementError};
pub use http::{Endpoint, HttpSettings, ensure_json, http_client, lookup, retry_after, tls_config};
pub use locks::{ExclusiveLock, SharedLock, TenantLocks};
pub use look::Look;
pub use protocol::{
    Answer, Column, Command, Part, Protocol, ProtocolTransaction, Row, TransactionMode, Value,
};
pub use stamping::Stamping;
pub use switch::{NotSwitched, switch_placement};
