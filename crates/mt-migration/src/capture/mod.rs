//! Runs migrations and hands their statements out, one by one, to whoever answers them.
//!
//! `MigrationTrait` wants a `SchemaManager`, which is over one of SeaORM's own connections and
//! nothing else. The only one of them that runs code of ours is its mock driver, and that is
//! synchronous: it has to wait for each answer in place. So migrations run on a thread of their own,
//! and the task that asked for them answers over channels, on any runtime.

mod mock;
mod thread;

use std::{io, sync::mpsc::SyncSender};

use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{mpsc, oneshot};

pub(crate) use mock::exec_result;

use crate::{Runner, session::Direction};

/// What to run.
pub(crate) struct Job {
    pub(crate) runner: Runner,
    /// The migrations' names, in the order in which they run. The first that fails is the last.
    pub(crate) names: Vec<String>,
    pub(crate) direction: Direction,
    /// The dialect that the migrations are told.
    pub(crate) backend: DbBackend,
}

/// What happens in a migration.
pub(crate) enum Event {
    /// It runs a statement and waits for the answer.
    Call(Call),
    /// It opened a transaction of its own. The mock driver can neither make one nor refuse it.
    Begin,
    /// It came to its end.
    Done(Result<(), Ended>),
}

/// A statement of a migration.
pub(crate) struct Call {
    pub(crate) statement: Statement,
    pub(crate) reply: Reply,
}

/// Where the answer to a statement goes. Dropped without one, the migration gets an error.
pub(crate) enum Reply {
    /// The migration wants an effect.
    Execute(SyncSender<Result<ExecResult, DbErr>>),
    /// The migration wants rows.
    Query(SyncSender<Result<Vec<QueryResult>, DbErr>>),
}

/// How a migration ended that did not succeed.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(DbErr),
    Panicked(String),
}

/// Migrations that run. Dropping it ends them: what they wait for fails, and they are dropped at
/// the next point at which they wait.
pub(crate) struct Capture {
    events: mpsc::UnboundedReceiver<Event>,
    #[expect(dead_code, reason = "held for its drop")]
    alive: oneshot::Sender<()>,
}

impl Capture {
    /// Starts `job`. Inside a tokio runtime its migrations may use that runtime's timers and tasks.
    ///
    /// # Errors
    /// The system's: there is no room for another thread.
    pub(crate) fn start(job: Job) -> io::Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let (alive, given_up) = oneshot::channel();
        thread::spawn(job, sender, given_up)?;
        Ok(Self { events, alive })
    }

    /// What happens next; `None`: the thread is gone.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}
