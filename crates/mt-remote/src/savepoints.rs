use std::sync::{Mutex, MutexGuard, PoisonError};

use mt_core::{Error, ErrorKind};
use tokio::sync;

use crate::{Command, Fault, ProtocolTransaction};

/// A transaction of a [`crate::Protocol`] and the savepoints in it.
///
/// A savepoint that is dropped must be rolled back before anything else is done, and dropping
/// cannot wait for an answer. So it is noted, and every step first sends what was noted.
#[derive(Debug)]
pub(crate) struct Savepoints {
    pub(crate) transaction: Box<dyn ProtocolTransaction>,
    state: Mutex<State>,
    /// Held while savepoints are opened or taken back: whoever comes next waits for it.
    turn: sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Savepoints have numbers for names, and none is used twice.
    last: u64,
    /// Those that are open, each inside the one before it.
    open: Vec<u64>,
    /// Those that were dropped, in the order in which they are to be rolled back.
    dropped: Vec<u64>,
    /// Why there is no next step.
    over: Option<Error>,
}

impl State {
    /// Forgets `savepoint` and all inside it. Answers whether it was open.
    fn close(&mut self, savepoint: u64) -> bool {
        let position = self.open.iter().position(|open| *open == savepoint);
        self.open.truncate(position.unwrap_or(self.open.len()));
        position.is_some()
    }
}

impl Savepoints {
    pub(crate) fn new(transaction: Box<dyn ProtocolTransaction>) -> Self {
        Self { transaction, state: Mutex::default(), turn: sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets nothing more be done in the transaction, for the reason that came first.
    pub(crate) fn end(&self, why: &str) {
        self.state().over.get_or_insert_with(|| Error::new(ErrorKind::Statement, why));
    }

    /// What comes before every step inside `savepoint`, or outside of all.
    pub(crate) async fn step(&self, savepoint: Option<u64>) -> Result<(), Fault> {
        self.turn(savepoint).await.map(drop)
    }

    /// Rolls back what was dropped, and keeps others from opening a savepoint meanwhile.
    async fn turn(&self, savepoint: Option<u64>) -> Result<sync::MutexGuard<'_, ()>, Fault> {
        let turn = self.turn.lock().await;
        self.check(savepoint)?;
        let dropped = std::mem::take(&mut self.state().dropped);
        if !dropped.is_empty() {
            let mut unsure = Unsure { savepoints: self, sure: false };
            let script = dropped.into_iter().flat_map(roll_back).collect();
            self.transaction.script(script).await?;
            unsure.sure = true;
        }
        Ok(turn)
    }

    fn check(&self, savepoint: Option<u64>) -> Result<(), Error> {
        let state = self.state();
        if let Some(over) = &state.over {
            return Err(over.clone());
        }
        if savepoint.is_some_and(|savepoint| !state.open.contains(&savepoint)) {
            let over = "the transaction around this one was ended before it";
            return Err(Error::new(ErrorKind::Statement, over));
        }
        Ok(())
    }

    /// Opens a savepoint inside `savepoint`.
    pub(crate) async fn open(&self, savepoint: Option<u64>) -> Result<u64, Fault> {
        let _turn = self.turn(savepoint).await?;
        let new = {
            let mut state = self.state();
            state.last += 1;
            state.last
        };
        self.transaction.execute(Command::new(format!("SAVEPOINT {}", name(new)))).await?;
        self.state().open.push(new);
        Ok(new)
    }

    /// Keeps what was done since `savepoint`, except in savepoints that are still open inside it.
    pub(crate) async fn keep(&self, savepoint: u64) -> Result<(), Fault> {
        let _turn = self.turn(Some(savepoint)).await?;
        let mut script = self.take_back_inside(Some(savepoint));
        script.push(release(savepoint));
        self.transaction.script(script).await?;
        self.state().close(savepoint);
        Ok(())
    }

    /// Takes back what was done since `savepoint`.
    pub(crate) async fn take_back(&self, savepoint: u64) -> Result<(), Fault> {
        let _turn = self.turn(Some(savepoint)).await?;
        self.transaction.script(roll_back(savepoint).into()).await?;
        self.state().close(savepoint);
        Ok(())
    }

    /// Notes that `savepoint` is to be taken back. Does nothing if it ended.
    pub(crate) fn note_dropped(&self, savepoint: u64) {
        let mut state = self.state();
        if state.close(savepoint) {
            state.dropped.push(savepoint);
        }
    }

    /// Commits the transaction, except for savepoints that are still open in it.
    pub(crate) async fn commit(&self) -> Result<(), Fault> {
        let settled = async {
            let _turn = self.turn(None).await?;
            let script = self.take_back_inside(None);
            if !script.is_empty() {
                self.transaction.script(script).await?;
            }
            Ok(())
        };
        let settled: Result<(), Fault> = settled.await;
        self.end(ENDED);
        match settled {
            Ok(()) => self.transaction.commit().await,
            Err(fault) => {
                if let Err(error) = self.transaction.rollback().await {
                    tracing::debug!(error = %error, "a transaction did not roll back cleanly");
                }
                Err(fault)
            }
        }
    }

    pub(crate) async fn roll_back(&self) -> Result<(), Fault> {
        self.end(ENDED);
        self.transaction.rollback().await
    }

    /// What takes back the savepoints that are open inside `savepoint`.
    fn take_back_inside(&self, savepoint: Option<u64>) -> Vec<Command> {
        let state = self.state();
        let outermost = match savepoint {
            None => state.open.first(),
            Some(savepoint) => state.open.iter().skip_while(|open| **open != savepoint).nth(1),
        };
        outermost.copied().map(roll_back).into_iter().flatten().collect()
    }
}

pub(crate) const ENDED: &str = "the transaction has ended";

/// Ends the transaction when the answer to a rollback does not come or nobody waits for it: what
/// there is in the transaction is unknown then.
struct Unsure<'a> {
    savepoints: &'a Savepoints,
    sure: bool,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if !self.sure {
            self.savepoints.end("a savepoint that was dropped may not have been rolled back");
        }
    }
}

fn name(savepoint: u64) -> String {
    format!("mt_{savepoint}")
}

fn release(savepoint: u64) -> Command {
    Command::new(format!("RELEASE {}", name(savepoint)))
}

/// Takes back what was done since `savepoint`, and removes it.
fn roll_back(savepoint: u64) -> [Command; 2] {
    [Command::new(format!("ROLLBACK TO {}", name(savepoint))), release(savepoint)]
}
