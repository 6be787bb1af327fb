//! The client against a server that says what a test tells it to say, fault by fault, each with its
//! outcome.

mod create;
mod engine;
mod export;
mod faults;
mod find;
mod list;
mod replay;
mod statements;

use mt_core::{Error, ErrorKind};

use self::replay::TOKEN;

/// A database's id, as the service makes them.
const UUID: &str = "6f1f1e3a-0c7b-4f0e-9d7b-2f4f3f0a9b11";
const OTHER: &str = "00000000-0c7b-4f0e-9d7b-2f4f3f0a9b11";

/// Checks what an error says of itself, and that it says nothing it must not.
fn expect(error: &Error, kind: ErrorKind, words: &str) {
    let chain = error.to_chain();
    assert_eq!(error.kind(), kind, "{chain}");
    assert!(chain.contains(words), "{chain}");
    assert_eq!(error.provider(), Some(crate::NAME), "{chain}");
    let shown = format!("{chain} {error:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("X-Amz"), "{shown}");
}
