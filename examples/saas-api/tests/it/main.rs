//! The service over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod isolation;
mod process;
mod processes;
mod refusals;
mod remote;
mod routes;
mod side_by_side;
mod sign_up;
mod support;
