//! The protocol's two encodings, and which of them a service's servers have.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libsql_hrana::proto::{
    Batch, CursorEntry, CursorReqBody, CursorRespBody, PipelineReqBody, PipelineRespBody, Stmt,
    StreamRequest, Value,
};
use mt_core::{Error, ErrorKind};
use mt_remote::Fault;
use serde::Serialize;
use tokio::time::Instant;

use super::{door::Effect, fault, protobuf};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Exact, also for infinite numbers.
    Protobuf,
    /// What every server has.
    Json,
}

/// The encoding that all servers of a service are spoken to in. While it is not known, each message
/// finds out for itself.
///
/// That they have Protobuf is certain once one of them has answered in it. That they have not is
/// what a proxy may say wrongly for a moment, and JSON changes numbers: so it is believed when it
/// has been said [`DENIALS`] times, for as long as [`BELIEVED`] after the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreed(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    has_protobuf: bool,
    denials: u32,
    denied_at: Option<Instant>,
}

/// So often must it be said that there is no Protobuf.
const DENIALS: u32 = 3;
/// So long is it believed. The next message then asks again.
const BELIEVED: Duration = Duration::from_secs(5 * 60);

impl Agreed {
    pub(super) fn get(&self) -> Option<Encoding> {
        let known = self.lock();
        if known.has_protobuf {
            return Some(Encoding::Protobuf);
        }
        let is_believed = |at: Instant| known.denials >= DENIALS && at.elapsed() < BELIEVED;
        known.denied_at.is_some_and(is_believed).then_some(Encoding::Json)
    }

    /// A server has answered in Protobuf.
    pub(super) fn confirm_protobuf(&self) {
        self.lock().has_protobuf = true;
    }

    /// A server has answered that it has no Protobuf.
    pub(super) fn deny_protobuf(&self) {
        let mut known = self.lock();
        known.denials = known.denials.saturating_add(1);
        known.denied_at = Some(Instant::now());
        tracing::debug!(denials = known.denials, "a server says that it has no Protobuf");
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Message<'m> {
    Pipeline(&'m PipelineReqBody),
    Cursor(&'m CursorReqBody),
}

impl Message<'_> {
    /// Whether it goes to a stream that is open.
    pub(super) const fn is_on_stream(self) -> bool {
        match self {
            Self::Pipeline(body) => body.baton.is_some(),
            Self::Cursor(body) => body.baton.is_some(),
        }
    }

    /// Whether nothing of it is open when it is answered.
    pub(super) fn closes(self) -> bool {
        match self {
            Self::Pipeline(body) => matches!(body.requests.last(), Some(StreamRequest::Close(_))),
            Self::Cursor(_) => false,
        }
    }

    pub(super) const fn route(self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::Cursor(_) => "cursor",
        }
    }

    pub(super) fn write(self, encoding: Encoding) -> Result<Bytes, Fault> {
        match (encoding, self) {
            (Encoding::Protobuf, Self::Pipeline(body)) => protobuf::write_pipeline(body),
            (Encoding::Protobuf, Self::Cursor(body)) => Ok(protobuf::write_cursor(body)),
            (Encoding::Json, Self::Pipeline(body)) => {
                for request in &body.requests {
                    match request {
                        StreamRequest::Execute(request) => encoding.require(&request.stmt)?,
                        StreamRequest::Batch(request) => encoding.require_all(&request.batch)?,
                        _ => {}
                    }
                }
                to_json(body)
            }
            (Encoding::Json, Self::Cursor(body)) => {
                encoding.require_all(&body.batch)?;
                to_json(body)
            }
        }
    }
}

impl Encoding {
    /// The path that the protocol's routes are under.
    pub(super) const fn root(self) -> &'static str {
        match self {
            Self::Protobuf => "v3-protobuf",
            Self::Json => "v3",
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// Checks that each value of the batch has a form.
    pub(super) fn require_all(self, batch: &Batch) -> Result<(), Fault> {
        batch.steps.iter().try_for_each(|step| self.require(&step.stmt))
    }

    fn require(self, statement: &Stmt) -> Result<(), Fault> {
        let is_infinite =
            |value: &Value| matches!(value, Value::Float { value } if value.is_infinite());
        match self {
            Self::Json if statement.args.iter().any(is_infinite) => Err(fault::no_infinity()),
            Self::Json | Self::Protobuf => Ok(()),
        }
    }

    /// The answer to `requests`.
    pub(super) fn read_pipeline(
        self,
        answer: Bytes,
        requests: &[StreamRequest],
        effect: Effect,
    ) -> Result<PipelineRespBody, Fault> {
        let read = match self {
            Self::Protobuf => protobuf::read_pipeline(answer, requests),
            Self::Json => match serde_json::from_slice(&answer) {
                Err(_) if fault::has_infinity(&answer) => Err(fault::infinite()),
                read => read.map_err(fault::unreadable),
            },
        };
        read.map_err(|fault| fault::lost(effect, fault))
    }

    /// What the answer of a cursor begins with.
    pub(super) fn read_head(self, frame: Bytes, effect: Effect) -> Result<CursorRespBody, Fault> {
        let read = match self {
            Self::Protobuf => protobuf::read(frame),
            Self::Json => serde_json::from_slice(&frame).map_err(fault::unreadable),
        };
        read.map_err(|fault| fault::lost(effect, fault))
    }

    /// What it goes on with.
    pub(super) fn read_entry(self, frame: Bytes, effect: Effect) -> Result<CursorEntry, Fault> {
        let read = match self {
            Self::Protobuf => protobuf::read_entry(frame),
            Self::Json => match serde_json::from_slice(&frame) {
                Err(_) if fault::has_infinity(&frame) => Err(fault::infinite()),
                read => read.map_err(fault::unreadable),
            },
        };
        read.map_err(|fault| fault::lost(effect, fault))
    }
}

fn to_json(body: &impl Serialize) -> Result<Bytes, Fault> {
    let bytes = serde_json::to_vec(body).map_err(|e| {
        Error::new(ErrorKind::Internal, "the request cannot be written").with_source(e)
    })?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_protobuf_is_believed_when_it_was_said_often_and_for_a_while() {
        let agreed = Agreed::default();
        for _ in 1..DENIALS {
            agreed.deny_protobuf();
            assert_eq!(agreed.get(), None);
        }
        agreed.deny_protobuf();
        assert_eq!(agreed.get(), Some(Encoding::Json));
        tokio::time::advance(BELIEVED).await;
        assert_eq!(agreed.get(), None);
        // Whoever asks again and hears the same need not hear it so often.
        agreed.deny_protobuf();
        assert_eq!(agreed.get(), Some(Encoding::Json));
        agreed.confirm_protobuf();
        assert_eq!(agreed.get(), Some(Encoding::Protobuf));
        agreed.deny_protobuf();
        assert_eq!(agreed.get(), Some(Encoding::Protobuf));
    }

    #[test]
    fn a_write_has_run_when_json_cannot_carry_its_answer() {
        let infinite = Bytes::from_static(br#"{"results":[{"type":"float","value":null}]}"#);
        for (effect, kind) in
            [(Effect::Reads, ErrorKind::Unsupported), (Effect::Writes, ErrorKind::OutcomeUnknown)]
        {
            let fault = Encoding::Json.read_pipeline(infinite.clone(), &[], effect).unwrap_err();
            assert_eq!(Error::from(fault).kind(), kind);
            let fault = Encoding::Json.read_entry(infinite.clone(), effect).unwrap_err();
            assert_eq!(Error::from(fault).kind(), kind);
        }
    }
}
