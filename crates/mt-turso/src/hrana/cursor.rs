//! Answers that come step by step and row by row.

use std::sync::Arc;

use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use libsql_hrana::proto::CursorEntry;
use mt_remote::{Answer, Fault, Part};
use tokio::runtime::Handle;

use super::{
    door::{Door, Effect},
    fault,
    frames::Frames,
    wire::{self, Pipeline, StreamAt},
};

/// Closes a stream on the server when the answer has been read, or nobody reads it any more.
pub(super) struct CloseAfter {
    door: Arc<Door>,
    stream: Option<StreamAt>,
}

impl CloseAfter {
    pub(super) const fn new(door: Arc<Door>, stream: Option<StreamAt>) -> Self {
        Self { door, stream }
    }
}

impl Drop for CloseAfter {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            close_in_background(Arc::clone(&self.door), stream);
        }
    }
}

/// Closes `stream` without anybody waiting for it. Without a runtime the server does, a few seconds
/// later.
pub(super) fn close_in_background(door: Arc<Door>, stream: StreamAt) {
    let Ok(runtime) = Handle::try_current() else { return };
    drop(runtime.spawn(async move {
        let close = Pipeline::on(stream, vec![wire::close()]);
        if let Err(error) = door.pipeline(close, Effect::Reads).await {
            tracing::debug!(error = %error, "a stream is left to the server to close");
        }
    }));
}

/// How far an answer has been read.
struct Reading<K> {
    frames: Frames,
    effect: Effect,
    /// The last step of the batch.
    last: u32,
    step: u32,
    begun: bool,
    ended: bool,
    #[expect(dead_code, reason = "held for its drop")]
    keep: K,
}

/// The parts of the answer to a batch of one step. `keep` is dropped with the stream.
pub(super) fn parts<K: Send + 'static>(
    frames: Frames,
    effect: Effect,
    keep: K,
) -> impl Stream<Item = Result<Part, Fault>> + Send + 'static {
    steps(frames, effect, 0, keep).map_ok(|(_, part)| part)
}

/// The parts of the answer to a batch of `last` and one steps, each with its step. `keep` is
/// dropped with the stream.
pub(super) fn steps<K: Send + 'static>(
    frames: Frames,
    effect: Effect,
    last: u32,
    keep: K,
) -> impl Stream<Item = Result<(u32, Part), Fault>> + Send + 'static {
    let reading = Reading { frames, effect, last, step: 0, begun: false, ended: false, keep };
    stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|part| (part, reading)))
    })
}

impl<K> Reading<K> {
    async fn next(&mut self) -> Result<Option<(u32, Part)>, Fault> {
        while let Some(entry) = self.frames.entry().await? {
            match entry {
                CursorEntry::StepBegin(step) => {
                    self.begun = true;
                    self.step = step.step;
                    return Ok(Some((self.step, Part::Columns(wire::columns(step.cols)))));
                }
                CursorEntry::Row { row } => {
                    return wire::row(row).map(|row| Some((self.step, Part::Row(row))));
                }
                CursorEntry::StepEnd(_) => self.ended = self.step == self.last,
                CursorEntry::StepError(step) => {
                    return Err(fault::of_statement(&step.error, Effect::Reads));
                }
                CursorEntry::Error { error } => {
                    return Err(fault::of_statement(&error, self.effect));
                }
                CursorEntry::ReplicationIndex { .. } | CursorEntry::None => {}
            }
        }
        match (self.begun, self.ended) {
            (_, true) => Ok(None),
            (true, false) => Err(self.frames.lost("it breaks off")),
            (false, false) => Err(fault::ended("the server ended the transaction")),
        }
    }
}

/// The parts of an answer that comes in one piece.
pub(super) fn in_one_piece<'a>(
    answer: impl Future<Output = Result<Answer, Fault>> + Send + 'a,
) -> BoxStream<'a, Result<Part, Fault>> {
    let parts = async move {
        let Answer { columns, rows, .. } = answer.await?;
        let rows = rows.into_iter().map(Part::Row);
        Ok::<_, Fault>(stream::iter([Part::Columns(columns)].into_iter().chain(rows).map(Ok)))
    };
    stream::once(parts).try_flatten().boxed()
}

/// All parts as one answer.
pub(super) async fn collect(
    mut parts: BoxStream<'_, Result<Part, Fault>>,
) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    while let Some(part) = parts.next().await {
        match part? {
            Part::Columns(columns) => answer.columns = columns,
            Part::Row(row) => answer.rows.push(row),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use libsql_hrana::proto::{Row, StepBeginEntry, StepEndEntry, Value};
    use prost::Message as _;

    use super::*;
    use crate::hrana::encoding::Encoding;

    /// A step with one row.
    fn step() -> [CursorEntry; 3] {
        let begin = StepBeginEntry { step: 0, cols: Vec::new() };
        let row = Row { values: vec![Value::Null] };
        let end = StepEndEntry { affected_row_count: 0, last_insert_rowid: None };
        [CursorEntry::StepBegin(begin), CursorEntry::Row { row }, CursorEntry::StepEnd(end)]
    }

    fn written(entry: &CursorEntry, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Json => [serde_json::to_vec(entry).unwrap(), b"\n".to_vec()].concat(),
            Encoding::Protobuf => entry.encode_length_delimited_to_vec(),
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let read = async |bytes: &[u8]| {
                let bytes = Bytes::copy_from_slice(bytes);
                let chunks = stream::iter([Ok(bytes)]).boxed();
                let frames = Frames::new(chunks, encoding, Effect::Reads);
                collect(parts(frames, Effect::Reads, ()).boxed()).await
            };
            let [begin, row, end] = step().map(|entry| written(&entry, encoding));
            let whole = [begin.clone(), row.clone(), end].concat();
            assert_eq!(read(&whole).await.unwrap().rows.len(), 1);
            assert!(read(&[begin.clone(), row.clone()].concat()).await.is_err());
            assert!(read(&[&begin, &row[..3]].concat()).await.is_err());
            // The step was left out: there was no transaction for it.
            assert!(read(b"").await.is_err());
        }
    }
}
