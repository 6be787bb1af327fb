//! Migrations on a database that is reached by a driver.
//!
//! There is one atomic unit that every driver has, the batch. So what migrations write is collected
//! and leaves as one, each migration's statements followed by its record, behind a guard that fails
//! it all where somebody else was faster.
//!
//! Whatever a migration asks that depends on what it wrote cannot wait for the batch. Such a
//! migration goes on in a transaction of its own, which begins with the guard. Where the driver has
//! no transactions, what was collected so far is sent and the rest runs as it comes; such a migration
//! is reported as not atomic.

mod attempt;
mod guard;
mod inside;
mod sending;

use mt_core::{Driver, Error, ErrorKind, Stamp};
use sea_orm::DbBackend;

use crate::{
    Runner,
    failure::{Failure, Fault},
    remote::attempt::Attempt,
    session::{Direction, Group, Outcome, refuse_newer},
    status::SchemaStatus,
};

/// How often a run is planned again because another migrator changed the ledger first. Each time,
/// that one got on with it.
const TRIES: usize = 5;

/// Does groups on a database that is reached by a driver, and that others may use meanwhile.
pub(crate) struct Remote<'a> {
    pub(crate) driver: &'a dyn Driver,
    pub(crate) runner: &'a Runner,
    pub(crate) direction: Direction,
    /// Whose database it must be, where that is known.
    pub(crate) stamp: Option<&'a Stamp>,
}

/// Why an attempt stopped.
enum Stop {
    /// Somebody else changed the ledger, which has these names now. Nothing of the attempt that is
    /// not in it took effect.
    Overtaken(Vec<String>),
    Failed {
        fault: Fault,
        stays: bool,
    },
}

impl Stop {
    const fn clean(fault: Fault) -> Self {
        Self::Failed { fault, stays: false }
    }
}

impl<'a> Remote<'a> {
    /// # Errors
    /// `Unsupported`: a dialect other than SQLite's.
    pub(crate) fn new(
        driver: &'a dyn Driver,
        runner: &'a Runner,
        direction: Direction,
        stamp: Option<&'a Stamp>,
    ) -> Result<Self, Error> {
        match driver.backend() {
            DbBackend::Sqlite => Ok(Self { driver, runner, direction, stamp }),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("migrations run on drivers of SQLite's dialect, not of {}", other.as_str()),
            )),
        }
    }

    /// Does what of `group` is left to do where the ledger has the names in `seen`. Those are not
    /// read again: the guard says if they are not true any more.
    pub(crate) async fn run(
        &self,
        group: &Group<'_>,
        seen: Vec<String>,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome { ran: Vec::new(), not_atomic: Vec::new(), ledger: seen };
        for _ in 0..TRIES {
            match self.try_run(group, &mut outcome).await {
                Ok(()) => return Ok(outcome),
                Err(Stop::Overtaken(ledger)) => {
                    tracing::info!("another migrator was faster; planning again");
                    outcome.ledger = ledger;
                }
                Err(Stop::Failed { fault, stays }) => {
                    return Err(Failure { fault, stays, earlier: outcome.ran });
                }
            }
        }
        let fault = Fault::Overtaken { names: group.names() };
        Err(Failure { fault, stays: false, earlier: outcome.ran })
    }

    async fn try_run(&self, group: &Group<'_>, outcome: &mut Outcome) -> Result<(), Stop> {
        let left = group.left_of(&outcome.ledger, self.direction);
        if left.migrations.is_empty() {
            return Ok(());
        }
        if self.direction == Direction::Down {
            let status = SchemaStatus::new(self.runner.names(), &outcome.ledger);
            refuse_newer(&status, &left.names()).map_err(Stop::clean)?;
        }
        Attempt::new(self, group.alone, outcome).run(left.names()).await
    }
}
