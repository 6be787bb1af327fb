//! Statements to one database and their answers, exactly, over JSON that is not exact.

mod call;
mod exact;
mod inline;
mod items;
mod parameters;
mod parcel;
mod plan;
mod protocol;
mod real;
mod refusals;
mod shapes;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use async_trait::async_trait;
use mt_remote::Fault;
use serde::{Deserialize, Serialize};

pub(crate) use self::{protocol::D1Protocol, shapes::Shapes};

/// A statement as it is sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RawStatement {
    pub(crate) sql: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) params: Vec<serde_json::Value>,
}

/// What the service answers for one statement that succeeded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct RawAnswer {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<serde_json::Value>>,
    pub(crate) meta: Meta,
}

/// What the service tells of a statement beside its rows; every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    pub(crate) changes: Option<u64>,
    pub(crate) size_after: Option<u64>,
    pub(crate) rows_read: Option<u64>,
    pub(crate) rows_written: Option<u64>,
}

/// Whether a lost answer leaves anything to wonder about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Asking again is safe.
    Reads,
    /// It may have taken effect.
    Writes,
}

/// How statements get to one database: one request, and all of them are one atomic unit.
#[async_trait]
pub(crate) trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Sends `statements` and answers as many answers, in their order.
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault>;
}
