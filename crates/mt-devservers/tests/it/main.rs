//! The servers of this crate, checked by what the facts say of the real ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod d1;
mod d1_corpus;
mod d1_faults;
mod d1_travel;
mod data;
mod faults;
mod fetch;
mod life;
mod postgres;
mod support;
mod tokens;
