//! Rows that come in pieces.

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use sea_orm::{DbErr, QueryResult};

use crate::{
    Column, Decoder, Fault, Part, Row,
    outcome::{Asked, broken, db_err},
};

/// How many rows are decoded at once, at most: those that have come by then, so that no row waits
/// for another.
const CHUNK: usize = 256;

/// The rows among `parts`, and where an error comes, all rows before it.
pub(crate) fn decoded<'a>(
    decoder: &'a Decoder,
    parts: BoxStream<'a, Result<Part, Fault>>,
) -> BoxStream<'a, Result<QueryResult, DbErr>> {
    let reading = Reading { decoder, columns: None };
    stream::unfold(Some((parts.ready_chunks(CHUNK), reading)), |state| async move {
        let (mut chunks, mut reading) = state?;
        let (rows, error) = reading.read(chunks.next().await?).await;
        let goes_on = error.is_none().then_some((chunks, reading));
        Some((stream::iter(rows.into_iter().map(Ok).chain(error.map(Err))), goes_on))
    })
    .flatten()
    .boxed()
}

struct Reading<'a> {
    decoder: &'a Decoder,
    columns: Option<Vec<Column>>,
}

impl Reading<'_> {
    /// The rows of a chunk, and the error that ends it.
    async fn read(&mut self, parts: Vec<Result<Part, Fault>>) -> (Vec<QueryResult>, Option<DbErr>) {
        let mut rows = Vec::with_capacity(parts.len());
        let mut end = None;
        for part in parts {
            match part {
                Ok(Part::Row(row)) => rows.push(row),
                Ok(Part::Columns(columns)) if self.columns.is_none() => {
                    self.columns = Some(columns);
                }
                Ok(Part::Columns(_)) => end = Some(broken("an answer has its columns twice")),
                Err(fault) => end = Some(db_err(self.decoder, fault, Asked::Rows).await),
            }
            if end.is_some() {
                break;
            }
        }
        match self.decode(rows).await {
            Ok(rows) => (rows, end),
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    async fn decode(&self, rows: Vec<Row>) -> Result<Vec<QueryResult>, DbErr> {
        match &self.columns {
            _ if rows.is_empty() => Ok(Vec::new()),
            Some(columns) => self.decoder.rows(columns, rows).await,
            None => Err(broken("an answer has rows before its columns")),
        }
    }
}
