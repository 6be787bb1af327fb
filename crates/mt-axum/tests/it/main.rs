//! The layer, the extractor and the problems, on real axum routers over in-memory databases.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop where it is")]

mod errors;
mod isolation;
mod resolve;
mod service;
mod source;
mod support;
