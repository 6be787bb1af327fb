use sea_orm::{DbBackend, DbErr, Statement};

use super::{
    Remote, Stop,
    attempt::{Attempt, is_unknown},
    guard,
};
use crate::{
    failure::{Fault, kind_without_answer},
    rebuild::{References, is_drop},
    session::Direction,
};

/// What migrations wrote and is not sent yet.
#[derive(Default)]
pub(super) struct Collected {
    statements: Vec<Statement>,
    /// The migrations whose record is among the statements.
    noted: Vec<String>,
    /// How many statements at the end belong to a migration that is not noted.
    loose: usize,
}

impl Collected {
    pub(super) const fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub(super) fn push(&mut self, statement: Statement) {
        self.statements.push(statement);
        self.loose += 1;
    }

    /// Whether there is something of a migration that is not noted.
    pub(super) const fn is_loose(&self) -> bool {
        self.loose > 0
    }

    /// Takes out what belongs to a migration that is not noted, and leaves the others'.
    pub(super) fn take_loose(&mut self) -> Vec<Statement> {
        let loose = std::mem::take(&mut self.loose);
        self.statements.split_off(self.statements.len().saturating_sub(loose))
    }

    /// What is left once the migration `name` was sent some other way, with its record.
    pub(super) fn sent(name: String) -> Self {
        Self { noted: vec![name], ..Self::default() }
    }

    /// Closes the migration `name` with its record.
    pub(super) fn note(&mut self, record: Statement, name: String) {
        self.statements.push(record);
        self.noted.push(name);
        self.loose = 0;
    }
}

impl Attempt<'_> {
    /// Sends what is collected as one atomic batch behind the guard; with nothing collected, the
    /// guard alone.
    pub(super) async fn send(&mut self) -> Result<(), Stop> {
        let collected = std::mem::take(&mut self.collected);
        self.check_drops(&collected.statements).await?;
        let ledger = self.remote.runner.ledger_table();
        let head = [
            ledger.create(DbBackend::Sqlite),
            guard::statement(ledger, &self.outcome.ledger, self.remote.stamp),
        ];
        let batch = head.into_iter().chain(collected.statements.iter().cloned()).collect();
        if let Err(error) = self.remote.driver.batch(batch).await {
            self.explain(&collected, error).await?;
        }
        self.guarded = true;
        let Collected { noted, loose, .. } = collected;
        // A migration that is noted late, or has more to come after this, was not one unit.
        if noted.last() == Some(&self.current) && (self.torn || self.alone) {
            self.outcome.not_atomic.push(self.current.clone());
        }
        self.torn = loose > 0 || self.torn && noted.last() != Some(&self.current);
        self.follow(&noted);
        self.outcome.ran.extend(noted);
        Ok(())
    }

    pub(super) fn follow(&mut self, noted: &[String]) {
        let ledger = &mut self.outcome.ledger;
        match self.remote.direction {
            Direction::Up => ledger.extend_from_slice(noted),
            Direction::Down => ledger.retain(|name| !noted.contains(name)),
        }
    }

    /// Finds out what a failed batch or commit came to, by looking at the database again. `Ok`: it
    /// is in.
    pub(super) async fn explain(&self, collected: &Collected, error: DbErr) -> Result<(), Stop> {
        let lost = is_unknown(&error);
        if !lost && kind_without_answer(&error).is_some() {
            // Nothing took effect, and the driver has said why.
            return Err(self.stop(self.fault_of(collected, error)));
        }
        let Some(ledger) = self.look_again().await? else {
            return Err(self.stop(self.fault_of(collected, error)));
        };
        let is_in = |name: &String| ledger.contains(name);
        let all_done = match self.remote.direction {
            Direction::Up => collected.noted.iter().all(is_in),
            Direction::Down => !collected.noted.iter().any(is_in),
        };
        let is_whole = collected.loose == 0;
        if lost && all_done && is_whole && !collected.noted.is_empty() {
            return Ok(());
        }
        if !is_same(&ledger, &self.outcome.ledger) {
            // The guard compares the whole ledger: a batch that is still on its way cannot pass it
            // any more.
            return Err(if self.torn && !(all_done && is_whole) {
                self.stop(Fault::Overtaken { names: self.names_of(collected) })
            } else {
                Stop::Overtaken(ledger)
            });
        }
        Err(self.stop(self.fault_of(collected, error)))
    }

    /// The ledger as it is after a failure; `None`: nobody can tell.
    ///
    /// # Errors
    /// The database is somebody else's.
    async fn look_again(&self) -> Result<Option<Vec<String>>, Stop> {
        match self.look().await {
            Ok((ledger, stamp)) => {
                stamp.map_err(|e| self.stop(Fault::Foreign(e)))?;
                Ok(Some(ledger))
            }
            Err(error) => {
                tracing::warn!(error = %error, "the database could not be looked at after a failure");
                Ok(None)
            }
        }
    }

    /// Why the guard, or what is run with it, failed. Its transaction is rolled back by now.
    pub(super) async fn explain_guard(&self, error: DbErr) -> Stop {
        if kind_without_answer(&error).is_none() {
            match self.look_again().await {
                Err(stop) => return stop,
                Ok(Some(ledger)) if !is_same(&ledger, &self.outcome.ledger) => {
                    return Stop::Overtaken(ledger);
                }
                Ok(_) => {}
            }
        }
        self.stop(self.fault_of(&Collected::default(), error))
    }

    /// Reads the ledger, and whether the stamp is the one expected.
    async fn look(&self) -> Result<(Vec<String>, mt_core::Result<()>), DbErr> {
        let Remote { driver, runner, stamp, .. } = self.remote;
        let ledger = runner.ledger_table().read(*driver).await?;
        let stamp = match stamp {
            Some(stamp) => guard::check_stamp(*driver, stamp).await?,
            None => Ok(()),
        };
        Ok((ledger, stamp))
    }

    /// The migrations that have a part in a batch.
    fn names_of(&self, collected: &Collected) -> Vec<String> {
        let mut names = collected.noted.clone();
        if collected.loose > 0 || names.is_empty() {
            names.push(self.current.clone());
        }
        names
    }

    fn fault_of(&self, collected: &Collected, source: DbErr) -> Fault {
        let (verb, names) = (self.remote.direction.verb(), self.names_of(collected));
        if is_unknown(&source) {
            return Fault::Lost { verb, names, source };
        }
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Fault::Migration { verb, name, source },
            Err(names) => Fault::Batch { verb, names, source },
        }
    }

    /// Refuses `statements` if one of them drops a table that another table refers to. Asks the
    /// database only if one of them drops a table.
    pub(super) async fn check_drops(&self, statements: &[Statement]) -> Result<(), Stop> {
        if !statements.iter().any(|statement| is_drop(&statement.sql)) {
            return Ok(());
        }
        let rows = self.unless_ended(self.ask(References::select()).await)?;
        let mut references = rows
            .and_then(|rows| References::from_rows(&rows))
            .map_err(|e| self.stop(Fault::References(e)))?;
        for statement in statements {
            references.follow(&statement.sql).map_err(|referenced| {
                self.stop(Fault::Referenced { table: referenced.table, by: referenced.by })
            })?;
        }
        Ok(())
    }
}

fn is_same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}
