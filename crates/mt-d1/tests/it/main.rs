//! The provider against the real engine, with the service's API and its faults in front of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod api;
mod backup;
mod conformance;
mod migrations;
mod outage;
mod provision;
mod restore;
mod support;
mod time_travel;
mod values;
