//! Transactions: a stream of their own, and nothing of it outside of them.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{
    TryStreamExt as _,
    stream::{self, BoxStream},
};
use libsql_hrana::proto::{Batch, BatchStep, StreamRequest, StreamResult};
use mt_core::{Error, ErrorKind};
use mt_remote::{Answer, Command, Fault, Part, ProtocolTransaction, TransactionMode};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, mpsc},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    cursor,
    door::{Door, Effect},
    effect_of,
    encoding::Encoding,
    fault,
    wire::{self, Pipeline, Steps, StreamAt},
};
use crate::NAME;

/// An open transaction.
///
/// The server takes the lock away from a transaction that is older than five seconds as soon as
/// somebody else wants to write, and runs what comes after on its own. So every statement has the
/// condition that there is a transaction, and one that comes too late is not sent at all. At the
/// deadline the stream is closed, whoever has it: nothing waits for longer.
///
/// What is sent is sent in a task of its own: a caller that gives up half way would otherwise lose
/// the stream, and with it a lock that nobody could let go of.
pub(crate) struct HranaTransaction {
    door: Arc<Door>,
    stream: Arc<Mutex<Option<StreamAt>>>,
    encoding: Encoding,
    /// Counted from when the server has begun, for it may have waited for the lock.
    deadline: Instant,
    /// Lets go of the lock at the deadline.
    reaper: JoinHandle<()>,
}

impl HranaTransaction {
    pub(super) async fn begin(door: Arc<Door>, mode: TransactionMode) -> Result<Self, Fault> {
        let request = wire::execute(&Command::new(wire::begin(mode)));
        let opening = {
            let door = Arc::clone(&door);
            tokio::spawn(async move {
                let begun = door.pipeline(Pipeline::fresh(vec![request]), Effect::Reads).await?;
                let opened = Opened { door, stream: begun.stream };
                wire::read_execute(begun.results, Effect::Reads)?;
                Ok::<_, Fault>(opened)
            })
        };
        let mut opened = opening.await.map_err(worker)??;
        let Some(stream) = opened.stream.take() else {
            return Err(fault::ended("the server opened no stream for the transaction"));
        };
        let deadline = Instant::now() + door.limits().transaction;
        let encoding = stream.encoding;
        let stream = Arc::new(Mutex::new(Some(stream)));
        let reaper = tokio::spawn(reap(Arc::clone(&door), Arc::clone(&stream), deadline));
        Ok(Self { door, stream, encoding, deadline, reaper })
    }

    /// The stream, for one request at a time; none when the transaction is over. Nothing is sent
    /// after the deadline.
    async fn enter(&self) -> Option<Entered> {
        let lock = Arc::clone(&self.stream).lock_owned();
        let mut guard = timeout_at(self.deadline, lock).await.ok()?;
        let stream = guard.take()?;
        if Instant::now() >= self.deadline {
            cursor::close_in_background(Arc::clone(&self.door), stream);
            return None;
        }
        Some(Entered { guard, stream })
    }

    fn over(&self) -> Fault {
        over(self.door.limits().transaction)
    }

    async fn send(
        &self,
        requests: Vec<StreamRequest>,
        effect: Effect,
    ) -> Result<Vec<StreamResult>, Fault> {
        let entered = self.enter().await.ok_or_else(|| self.over())?;
        let sending = tokio::spawn(entered.send(Arc::clone(&self.door), requests, effect));
        sending.await.map_err(|e| fault::lost(effect, worker(e)))?
    }

    async fn run(&self, commands: &[Command]) -> Result<Vec<Answer>, Fault> {
        let steps = Steps::inside(commands);
        // Refused before the stream is touched: the transaction goes on.
        self.encoding.require_all(steps.batch())?;
        // Nothing lasts before the commit, so a lost answer leaves nothing to wonder about.
        let results = self.send(vec![steps.to_request()], Effect::Reads).await?;
        match steps.read(results, effect_of(commands)) {
            Err(fault) => match fault::lost_to(&fault) {
                // It ran, and must not last when its caller takes it for one that did not.
                Some(cause) => {
                    if let Err(error) = self.rollback().await {
                        tracing::debug!(error = %error, "a stream is left to the server to close");
                    }
                    Err(fault::undone(cause))
                }
                None => Err(fault),
            },
            answers => answers,
        }
    }
}

/// The stream of a transaction, in one hand.
struct Entered {
    /// Where it is put back.
    guard: OwnedMutexGuard<Option<StreamAt>>,
    stream: StreamAt,
}

impl Entered {
    async fn send(
        mut self,
        door: Arc<Door>,
        requests: Vec<StreamRequest>,
        effect: Effect,
    ) -> Result<Vec<StreamResult>, Fault> {
        let reply = door.pipeline(Pipeline::on(self.stream, requests), effect).await?;
        *self.guard = reply.stream;
        Ok(reply.results)
    }

    /// Reads the answer to `batch` until the deadline, or until nobody reads it any more. The server
    /// runs one thing at a time on a stream, so nobody else sends as long as it is read.
    async fn read(
        mut self,
        door: Arc<Door>,
        batch: Batch,
        deadline: Instant,
        parts: &mpsc::Sender<Piece>,
    ) -> Result<(), Fault> {
        let opened = door.cursor(Some(self.stream), batch, Effect::Reads).await?;
        *self.guard = opened.stream;
        let reading = async {
            let mut answer = pin!(cursor::parts(opened.frames, Effect::Reads, ()));
            while let Some(part) = answer.try_next().await? {
                if parts.send(Ok(Some(part))).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::select! {
            read = reading => read,
            () = parts.closed() => Ok(()),
            () = sleep_until(deadline) => Err(over(door.limits().transaction)),
        }
    }
}

/// A part of an answer that is read in a task of its own. The last is none, or an error.
type Piece = Result<Option<Part>, Fault>;

/// The parts that may be read before they are asked for.
const AHEAD: usize = 16;

/// What is read in a task of its own.
fn pieces(
    parts: mpsc::Receiver<Piece>,
    limit: Duration,
) -> BoxStream<'static, Result<Part, Fault>> {
    Box::pin(stream::try_unfold(parts, move |mut parts| async move {
        match parts.recv().await {
            Some(Ok(part)) => Ok(part.map(|part| (part, parts))),
            Some(Err(fault)) => Err(fault),
            None => Err(over(limit)),
        }
    }))
}

/// A stream that is closed if nobody comes for it.
struct Opened {
    door: Arc<Door>,
    stream: Option<StreamAt>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            cursor::close_in_background(Arc::clone(&self.door), stream);
        }
    }
}

async fn reap(door: Arc<Door>, stream: Arc<Mutex<Option<StreamAt>>>, deadline: Instant) {
    sleep_until(deadline).await;
    if let Some(stream) = stream.lock().await.take() {
        cursor::close_in_background(door, stream);
    }
}

fn over(limit: Duration) -> Fault {
    Error::new(
        ErrorKind::Unavailable,
        format!("the transaction is over: it had {limit:?}, or its connection broke; nothing of it lasts"),
    )
    .with_provider(NAME)
    .into()
}

fn worker(error: JoinError) -> Fault {
    Error::new(ErrorKind::Internal, "a request was interrupted")
        .with_provider(NAME)
        .with_source(error)
        .into()
}

#[async_trait]
impl ProtocolTransaction for HranaTransaction {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        match self.run(std::slice::from_ref(&command)).await {
            Ok(mut answers) => {
                answers.pop().ok_or_else(|| fault::garbled("no answer to the statement"))
            }
            // A cursor has no such limit.
            Err(fault) if fault::is_too_large(&fault) && effect_of([&command]) == Effect::Reads => {
                cursor::collect(self.stream(command)).await
            }
            Err(fault) => Err(fault),
        }
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.run(&commands).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        if effect_of([&command]) == Effect::Writes {
            return cursor::in_one_piece(self.execute(command));
        }
        let open = async move {
            let step = BatchStep {
                condition: Some(wire::in_transaction()),
                stmt: wire::statement(&command),
            };
            let batch = Batch { steps: vec![step], replication_index: None };
            self.encoding.require_all(&batch)?;
            let entered = self.enter().await.ok_or_else(|| self.over())?;
            let (door, deadline) = (Arc::clone(&self.door), self.deadline);
            let (sender, parts) = mpsc::channel(AHEAD);
            drop(tokio::spawn(async move {
                let read = entered.read(door, batch, deadline, &sender).await;
                // Nobody may be there any more to be told.
                sender.send(read.map(|()| None)).await.ok();
            }));
            Ok::<_, Fault>(pieces(parts, self.door.limits().transaction))
        };
        Box::pin(stream::once(open).try_flatten())
    }

    async fn commit(&self) -> Result<(), Fault> {
        let requests = vec![wire::end("COMMIT"), wire::end("ROLLBACK"), wire::close()];
        let results = self.send(requests, Effect::Writes).await?;
        if wire::read_end(results)? {
            return Ok(());
        }
        Err(fault::ended("the server had ended the transaction by the time of its commit"))
    }

    async fn rollback(&self) -> Result<(), Fault> {
        // A stream that is not there any more has rolled back, or is about to.
        let Some(entered) = self.enter().await else { return Ok(()) };
        let requests = vec![wire::end("ROLLBACK"), wire::close()];
        let sending = entered.send(Arc::clone(&self.door), requests, Effect::Reads);
        tokio::spawn(sending).await.map_err(worker)?.map(drop)
    }
}

impl Drop for HranaTransaction {
    fn drop(&mut self) {
        self.reaper.abort();
        let (door, stream) = (Arc::clone(&self.door), Arc::clone(&self.stream));
        match Arc::clone(&stream).try_lock_owned() {
            Ok(mut guard) => {
                if let Some(stream) = guard.take() {
                    cursor::close_in_background(door, stream);
                }
            }
            // A request is under way, and brings the stream back when it is over.
            Err(_busy) => {
                if let Ok(runtime) = Handle::try_current() {
                    drop(runtime.spawn(reap(door, stream, Instant::now())));
                }
            }
        }
    }
}

impl fmt::Debug for HranaTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HranaTransaction").field("door", &self.door).finish_non_exhaustive()
    }
}
