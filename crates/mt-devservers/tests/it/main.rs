//! The servers of this crate, checked by what the facts say of the real ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod data;
mod faults;
mod fetch;
mod life;
mod support;
mod tokens;
