//! The transaction of a migration that cannot be one batch.

use mt_core::{DriverTransaction, Error, ErrorKind};
use sea_orm::{DbBackend, DbErr, Statement};

use super::{
    Stop,
    attempt::{Answer, Attempt},
    guard,
    sending::Collected,
};
use crate::{failure::Fault, session::immediate};

/// How statements run that cannot wait.
pub(super) enum Live {
    /// Each on its own: there are no transactions, or the migration opted out of them.
    OneByOne,
    /// In a transaction that is not begun yet.
    Ready,
    /// In this one.
    Inside(Box<dyn DriverTransaction>),
}

impl Live {
    pub(super) fn transaction(&self) -> Option<&dyn DriverTransaction> {
        match self {
            Self::Inside(transaction) => Some(&**transaction),
            Self::OneByOne | Self::Ready => None,
        }
    }

    /// Takes the transaction out, to end it.
    fn take(&mut self) -> Option<Box<dyn DriverTransaction>> {
        match std::mem::replace(self, Self::Ready) {
            Self::Inside(transaction) => Some(transaction),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Attempt<'_> {
    /// Puts what was collected into the migration's transaction, which is begun if it was not.
    /// `false`: there are no transactions here, and nothing was done but sending what belongs to
    /// the migrations before it.
    pub(super) async fn enter(&mut self) -> Result<bool, Stop> {
        let is_inside = match self.live {
            Live::OneByOne => false,
            Live::Ready => self.begin().await?,
            Live::Inside(_) => true,
        };
        if is_inside {
            self.flush().await?;
        }
        Ok(is_inside)
    }

    /// Begins the transaction and passes the guard in it, under the write lock: whoever is slower
    /// waits for that, and finds the record.
    async fn begin(&mut self) -> Result<bool, Stop> {
        // The migrations before it are complete. As a batch of their own they take one request, and
        // none of the time that a server gives to a transaction.
        let loose = self.collected.take_loose();
        if !self.collected.is_empty() {
            self.send().await?;
        }
        for statement in loose {
            self.collected.push(statement);
        }
        let transaction = match self.remote.driver.begin(immediate()).await {
            Ok(transaction) => transaction,
            Err(error) if kind_of(&error) == Some(ErrorKind::Unsupported) => {
                self.live = Live::OneByOne;
                return Ok(false);
            }
            Err(error) => return Err(self.stop(Fault::Begin(error))),
        };
        let ledger = self.remote.runner.ledger_table();
        let guard = guard::statement(ledger, &self.outcome.ledger, self.remote.stamp);
        let passed = match transaction.execute(ledger.create(DbBackend::Sqlite)).await {
            Ok(_) => transaction.query(guard).await.map(drop),
            Err(error) => Err(error),
        };
        self.live = Live::Inside(transaction);
        if let Err(error) = self.unless_ended(passed)? {
            self.roll_back().await;
            return Err(self.explain_guard(error).await);
        }
        Ok(true)
    }

    /// Runs in the transaction what was collected.
    async fn flush(&mut self) -> Result<(), Stop> {
        let statements = self.collected.take_loose();
        self.check_drops(&statements).await?;
        // Neighbours without parameters go as one text: a request each would use up the time.
        let mut text = String::new();
        for statement in statements {
            if statement.values.is_none() {
                // It may end in a comment.
                text.push_str(&statement.sql);
                text.push_str("\n;\n");
                continue;
            }
            self.run_text(std::mem::take(&mut text)).await?;
            self.run_inside(statement).await?;
        }
        self.run_text(text).await
    }

    async fn run_text(&self, text: String) -> Result<(), Stop> {
        match self.live.transaction() {
            Some(transaction) if !text.is_empty() => {
                self.done(transaction.execute_unprepared(&text).await)
            }
            _ => Ok(()),
        }
    }

    async fn run_inside(&self, statement: Statement) -> Result<(), Stop> {
        match self.live.transaction() {
            Some(transaction) => self.done(transaction.execute(statement).await),
            None => Ok(()),
        }
    }

    fn done<T>(&self, answer: Result<T, DbErr>) -> Result<(), Stop> {
        match self.unless_ended(answer)? {
            Ok(_) => Ok(()),
            Err(source) => {
                let (verb, name) = (self.remote.direction.verb(), self.current.clone());
                Err(self.stop(Fault::Migration { verb, name, source }))
            }
        }
    }

    /// Adds the migration's record and makes all of it last.
    pub(super) async fn commit(&mut self, record: Statement) -> Result<(), Stop> {
        self.flush().await?;
        self.run_inside(record).await?;
        let Some(transaction) = self.live.take() else {
            return Ok(());
        };
        let name = self.current.clone();
        match transaction.commit().await {
            Ok(()) => {}
            Err(error) if kind_of(&error) == Some(ErrorKind::Unavailable) => {
                return Err(self.ended_by_itself(error));
            }
            Err(error) => self.explain(&Collected::sent(name.clone()), error).await?,
        }
        self.follow(std::slice::from_ref(&name));
        self.outcome.ran.push(name);
        Ok(())
    }

    /// Takes back what the transaction did, if there is one.
    pub(super) async fn roll_back(&mut self) {
        if let Some(transaction) = self.live.take()
            && let Err(error) = transaction.rollback().await
        {
            // It is over either way.
            tracing::warn!(error = %error, "a failed migration's transaction did not roll back cleanly");
        }
    }

    /// The answer to a statement, unless it says that the transaction is over. The migration does not
    /// hear of that: whatever it made of it, nothing would last.
    pub(super) fn unless_ended<T>(&self, answer: Result<T, DbErr>) -> Answer<T> {
        match answer {
            // Nothing lasts before the commit, so an unknown outcome is none.
            Err(error)
                if self.live.transaction().is_some()
                    && matches!(
                        kind_of(&error),
                        Some(ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)
                    ) =>
            {
                Err(self.ended_by_itself(error))
            }
            answer => Ok(answer),
        }
    }

    fn ended_by_itself(&self, source: DbErr) -> Stop {
        let (verb, name) = (self.remote.direction.verb(), self.current.clone());
        self.stop(Fault::Ended { verb, name, source })
    }
}

/// The kind of an error of ours inside SeaORM's.
fn kind_of(error: &DbErr) -> Option<ErrorKind> {
    Error::in_db_err(error).map(Error::kind)
}
