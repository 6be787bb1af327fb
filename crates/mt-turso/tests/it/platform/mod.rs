//! The client of the platform, fault by fault, each with its outcome.

mod create;
mod data;
mod faults;
mod list;
mod rest;

use mt_core::{Error, ErrorKind};

use crate::replay::TOKEN;

/// Checks what an error says of itself, and that it says nothing it must not.
fn expect(error: &Error, kind: ErrorKind, words: &str) {
    let chain = error.to_chain();
    assert_eq!(error.kind(), kind, "{chain}");
    assert!(chain.contains(words), "{chain}");
    assert_eq!(error.provider(), Some(mt_turso::NAME));
    let shown = format!("{chain} {error:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("eyJ"), "{shown}");
}
