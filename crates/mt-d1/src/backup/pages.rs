//! A copy of a database that is too large for one answer.

use async_trait::async_trait;
use mt_core::{Error, ErrorKind, Result};
use mt_sqlite_copy::{Built, Filling, SchemaObject};
use serde_json::Value as Json;

use super::{
    ask, exactly, prepare, read_schema, reading,
    select::{Page, Selection},
    to_schema, unreadable,
};
use crate::{
    api::Bookmark,
    raw::{RawAnswer, Wire},
};

/// How much one answer has, where no single row is larger.
const BYTES: usize = 8 * 1024 * 1024;
/// Of how many tables one answer has rows.
const TABLES_AT_ONCE: usize = 16;
/// Moves with every row that is written, and begins anew whenever the database is started.
const CHANGES: &str = "SELECT CAST(total_changes() AS TEXT)";

/// Says whether a database was written to.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// Where it is in its history: after every write somewhere else.
    async fn bookmark(&self) -> Result<Bookmark>;
}

/// Reads a database in several requests, and proves that they saw one state. Each row is looked at
/// twice, which the service counts: for its length, and for its values.
pub(super) struct Pages<'s> {
    wire: &'s dyn Wire,
    history: &'s dyn History,
    bytes: usize,
}

impl<'s> Pages<'s> {
    pub(super) fn new(wire: &'s dyn Wire, history: &'s dyn History) -> Self {
        Self { wire, history, bytes: BYTES }
    }

    /// Asks for so much at a time.
    #[cfg(test)]
    pub(super) const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Copies it, if nobody writes meanwhile.
    pub(super) async fn copy(&self, ledger: Option<&str>) -> Result<Built> {
        let before = self.history.bookmark().await?;
        let [schema] = exactly(read_schema(self.wire).await?)?;
        let schema = to_schema(schema)?;
        let read = self.read(&schema, ledger, &before).await;
        if let Err(error) = &read
            && error.kind() == ErrorKind::Conflict
        {
            return read;
        }
        // What was read of several states may look like anything; that it was is what to tell.
        match (self.require(&before).await, read) {
            (Ok(()), read) => read,
            (Err(written), Err(error)) if written.kind() == ErrorKind::Conflict => {
                Err(written.with_source(error))
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn read(
        &self,
        schema: &[SchemaObject],
        ledger: Option<&str>,
        before: &Bookmark,
    ) -> Result<Built> {
        let (builder, selections) = prepare(schema).await?;
        let mut filling = Filling::start(builder, ledger.map(str::to_owned));
        let mut left: Vec<(usize, Selection)> = selections.into_iter().enumerate().collect();
        let mut changes = None;
        while !left.is_empty() {
            let at_once = left.len().min(TABLES_AT_ONCE);
            let share = (self.bytes / at_once).max(1);
            let mut statements = vec![reading(CHANGES)];
            for (_, selection) in left.iter().take(at_once) {
                statements.extend(selection.page(share));
            }
            let mut answers = ask(self.wire, statements).await?.into_iter();
            let now = to_changes(&answers.next().ok_or_else(unreadable)?)?;
            // A hint, because others than tenants may write rows that nobody sees: only the
            // bookmark tells, and asking it now spares the rest of the pages.
            if changes.replace(now).is_some_and(|before| before < now) {
                self.require(before).await?;
            }
            let mut more = Vec::with_capacity(left.len());
            for (place, (table, mut selection)) in left.into_iter().enumerate() {
                if place >= at_once {
                    more.push((table, selection));
                    continue;
                }
                let rows: Vec<_> = selection.rows(&mut answers)?.collect::<Result<_>>()?;
                if selection.advance(&rows, share) == Page::Cut {
                    more.push((table, selection));
                }
                for row in rows {
                    filling.insert(table, row).await?;
                }
            }
            left = more;
        }
        filling.finish().await
    }

    async fn require(&self, before: &Bookmark) -> Result<()> {
        if self.history.bookmark().await? == *before {
            return Ok(());
        }
        let message = "the database was written to while it was read in several requests, which is no copy of one moment; it is too large for one. Repeat when nobody writes to it, or suspend the tenant meanwhile";
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

fn to_changes(answer: &RawAnswer) -> Result<u64> {
    let text = answer.rows.first().and_then(|row| row.first()).and_then(Json::as_str);
    text.and_then(|text| text.parse().ok()).ok_or_else(unreadable)
}
