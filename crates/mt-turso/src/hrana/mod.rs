//! The protocol of libSQL's servers, version 3, over HTTP
//! (<https://github.com/tursodatabase/libsql/blob/main/docs/HRANA_3_SPEC.md>).
//!
//! Messages are in Protobuf where the server has it, and in JSON otherwise.
//!
//! Outside of transactions every request closes the stream it opens, but for reads that follow one
//! another closely: the server holds nothing for a tenant who is idle, so nothing can expire. A
//! transaction is a stream of its own.

mod cursor;
mod door;
mod encoding;
mod fault;
mod frames;
mod protobuf;
mod refusal;
#[cfg(test)]
mod tests;
mod transaction;
mod warm;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use libsql_hrana::proto::Batch;
use mt_core::only_reads;
use mt_remote::{Answer, Command, Fault, Part, Protocol, ProtocolTransaction, TransactionMode};
use sea_orm::DbBackend;

#[cfg(feature = "native-client")]
pub(crate) use door::is_same_service;
pub(crate) use door::{Access, Door};
pub(crate) use encoding::Agreed;

use self::{
    door::Effect,
    transaction::HranaTransaction,
    warm::{Lease, Warm},
    wire::{Pipeline, Steps},
};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A request, from its first byte to its answer's last; a piece of an answer that is streamed.
    pub(crate) request: Duration,
    /// A transaction, from when the server has begun it to when its commit is sent.
    pub(crate) transaction: Duration,
}

/// One tenant's database over Hrana.
#[derive(Clone)]
pub(crate) struct Hrana {
    door: Arc<Door>,
    warm: Arc<Warm>,
}

impl Hrana {
    pub(crate) fn new(door: Door) -> Self {
        Self { door: Arc::new(door), warm: Arc::default() }
    }

    /// Runs one read of many on the stream that is kept for them. `None`: that stream is gone, and
    /// the read is to be run on another.
    async fn read_on(&self, lease: Lease, command: &Command) -> Option<Result<Answer, Fault>> {
        let mut lease = lease;
        let mut requests = vec![wire::execute(command)];
        if !lease.keeps {
            requests.push(wire::close());
        }
        let pipeline = Pipeline { stream: lease.stream.take(), requests };
        let reply = match self.door.pipeline(pipeline, Effect::Reads).await {
            Ok(reply) => reply,
            Err(Fault::Other(error)) if error.is_transient() => return None,
            Err(fault) => return Some(Err(fault)),
        };
        if let (true, Some(stream)) = (lease.keeps, reply.stream) {
            lease.give_back(stream, &self.door);
        }
        Some(wire::read_execute(reply.results, Effect::Reads))
    }

    async fn execute_alone(&self, command: &Command, effect: Effect) -> Result<Answer, Fault> {
        let requests = vec![wire::execute(command), wire::close()];
        let reply = self.door.pipeline(Pipeline::fresh(requests), effect).await?;
        wire::read_execute(reply.results, effect)
    }

    /// On the stream kept for reads where this is one of many, else on one of its own.
    async fn read(&self, command: &Command) -> Result<Answer, Fault> {
        if let Some(lease) = self.warm.lend()
            && let Some(answer) = self.read_on(lease, command).await
        {
            return answer;
        }
        self.execute_alone(command, Effect::Reads).await
    }

    /// Runs queries one after the other on one state of the database, in one request, handing out
    /// the parts of their answers as they come, each with the place of its query.
    pub(crate) fn snapshot(
        &self,
        queries: Vec<Command>,
    ) -> BoxStream<'static, Result<(usize, Part), Fault>> {
        let (door, count) = (Arc::clone(&self.door), queries.len());
        let open = async move {
            let steps = Steps::snapshot(&queries);
            let last = steps.last();
            let opened = door.cursor(None, steps.into_batch(), Effect::Reads).await?;
            let close = cursor::CloseAfter::new(Arc::clone(&door), opened.stream);
            Ok::<_, Fault>(cursor::steps(opened.frames, Effect::Reads, last, close))
        };
        let parts = futures_util::stream::once(open).try_flatten();
        // The first step is ours, and so is the last.
        let own = move |(step, part): (u32, Part)| {
            let query = usize::try_from(step).ok().and_then(|step| step.checked_sub(1));
            std::future::ready(Ok(query.filter(|q| *q < count).map(|query| (query, part))))
        };
        Box::pin(parts.try_filter_map(own))
    }

    /// Runs steps on a stream of their own and closes it.
    async fn run(&self, steps: &Steps, effect: Effect) -> Result<Vec<Answer>, Fault> {
        let requests = vec![steps.to_request(), wire::close()];
        let reply = self.door.pipeline(Pipeline::fresh(requests), effect).await?;
        steps.read(reply.results, effect)
    }
}

impl fmt::Debug for Hrana {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hrana").field("door", &self.door).finish_non_exhaustive()
    }
}

/// Whether a lost answer leaves anything to wonder about.
fn effect_of<'c>(commands: impl IntoIterator<Item = &'c Command>) -> Effect {
    let reads = commands.into_iter().all(|command| only_reads(&command.sql, DbBackend::Sqlite));
    if reads { Effect::Reads } else { Effect::Writes }
}

#[async_trait]
impl Protocol for Hrana {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        let effect = effect_of([&command]);
        if effect == Effect::Writes {
            return self.execute_alone(&command, effect).await;
        }
        match self.read(&command).await {
            // It only read, so asking again is safe, and a cursor has no such limit.
            Err(fault) if fault::is_too_large(&fault) => {
                cursor::collect(self.stream(command)).await
            }
            answer => answer,
        }
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.run(&Steps::script(&commands), effect_of(&commands)).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        let effect = effect_of([&command]);
        if effect == Effect::Writes {
            // Whether it took effect is told before its first row is handed out. And a cursor that
            // may not write breaks the connection (sqld 0.24.32) instead of saying so.
            return cursor::in_one_piece(self.execute(command));
        }
        let open = async move {
            let batch = Batch::single(wire::statement(&command));
            let opened = self.door.cursor(None, batch, effect).await?;
            let close = cursor::CloseAfter::new(Arc::clone(&self.door), opened.stream);
            Ok::<_, Fault>(cursor::parts(opened.frames, effect, close))
        };
        Box::pin(futures_util::stream::once(open).try_flatten())
    }

    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.run(&Steps::atomic(&commands), Effect::Writes).await
    }

    async fn begin(&self, mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault> {
        Ok(Box::new(HranaTransaction::begin(Arc::clone(&self.door), mode).await?))
    }

    async fn close(&self) -> Result<(), Fault> {
        // Connections are the shared client's.
        if let Some(stream) = self.warm.take() {
            cursor::close_in_background(Arc::clone(&self.door), stream);
        }
        Ok(())
    }
}
