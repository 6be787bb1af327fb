//! The provider against servers: one that replays the platform's answers and faults, and the real
//! engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod backup;
mod conformance;
mod outage;
mod platform;
mod platform_live;
mod provision;
mod reads;
mod replay;
mod restore;
mod support;
mod transactions;
