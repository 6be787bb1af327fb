#![doc = include_str!("README.md")]

mod build;
mod contents;
mod error;
mod filling;
mod manifest;
mod scratch;
mod tables;
mod transfer;
mod verify;

pub use build::{FileBuilder, SchemaObject};
pub use contents::{Contents, find_stamp, has_table};
pub use error::{file_kind, sqlite_kind};
pub use filling::{Built, Filling};
pub use manifest::{ENCODING, Sent, manifest};
pub use scratch::ScratchFile;
pub use tables::TableRows;
pub use transfer::{on_thread, receive, receive_stamped, send};
pub use verify::{standardized, verify_and_stamp};
