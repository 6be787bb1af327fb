//! Checks across crates, on real files and the real engine.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod backups;
mod cli;
mod contract;
mod fleet;
mod lifecycle;
mod linking;
mod removal;
mod serving;
mod support;
