use std::{sync::Arc, time::Duration};

use mt_core::{DatabaseName, Error, ErrorKind, Placement, Result, Stamp, TenantId};
use mt_remote::{Fault, Look};
use mt_sqlite_copy::{ScratchFile, on_thread};
use rusqlite::Connection;
use serde_json::Value as Json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    changed,
    plan::{Plan, unread},
    reading,
    steps::{Check, Step, read},
};
use crate::{
    D1Factory, NAME,
    budget::Lane,
    place::Place,
    provision::taken,
    raw::{Effect, RawAnswer, RawStatement, Wire},
    wires::Patient,
};

/// How often a step is sent, where its answer is lost each time.
const ATTEMPTS: u32 = 5;
/// Before it is sent again; doubled each time.
const AGAIN: Duration = Duration::from_millis(250);

/// A copy on its way to the service, while the tenant still has what it has.
pub(super) struct Arrival<'r> {
    pub(super) factory: &'r D1Factory,
    pub(super) tenant: &'r TenantId,
    pub(super) before: &'r Placement,
    /// There is a database to be replaced, and not only a tenant without one.
    pub(super) replaces: bool,
}

impl Arrival<'_> {
    /// Makes the database that the copy goes to.
    pub(super) async fn make(&self, name: &DatabaseName, stamp: &Stamp) -> Result<Place> {
        let (place, created) = self.factory.create(name, stamp.generation).await?;
        if created {
            return Ok(place);
        }
        self.clear(&place).await?;
        match self.factory.create(name, stamp.generation).await? {
            (place, true) => Ok(place),
            // Somebody has made it this moment.
            (_, false) => Err(changed()),
        }
    }

    /// Removes what a restore that died left under the new name, or a request of ours whose answer
    /// was lost made.
    async fn clear(&self, place: &Place) -> Result<()> {
        let factory = self.factory;
        let look = match factory.look_at(place).await {
            Err(e) if e.kind() == ErrorKind::TenantNotFound => return Ok(()),
            look => look?,
        };
        if look == Look::Unstamped && !place.is_arriving(self.before) {
            return Err(taken(Stamp::missing(self.tenant)));
        }
        if let Look::Stamped { stamp, .. } = look {
            let own = stamp.check(factory.context.deployment, self.tenant, stamp.generation);
            own.map_err(taken)?;
        }
        // Without one to be replaced, this is the tenant's current one: somebody has just made it.
        // And what another restore has switched to meanwhile is no leftover.
        if !self.replaces || factory.placement(self.tenant).await? != *self.before {
            return Err(changed());
        }
        factory.delete(place).await
    }

    /// Sends the copy, each request a whole that is read back in itself; the stamp comes with the
    /// last one.
    pub(super) async fn fill(
        &self,
        place: &Place,
        copy: ScratchFile,
        plan: Plan,
        stamp: &Stamp,
    ) -> Result<()> {
        let deadline = Instant::now() + self.factory.config.ready_timeout();
        let wire = Patient::new(self.factory.wire(place, Lane::Control), deadline);
        let progress = plan.progress.clone();
        let sending = Sending { arrival: self, place, wire: Arc::new(wire), stamp, progress };
        let (sender, mut steps) = mpsc::channel(1);
        let reader = on_thread(move || {
            let connection = Connection::open(copy.path()).map_err(unread)?;
            read(&connection, plan, &sender)
        });
        let send = async move {
            let mut number = 0_u64;
            while let Some(step) = steps.recv().await {
                sending.send(number, step).await?;
                number += 1;
            }
            Ok(())
        };
        // Where both fail, sending is why: the reader has nobody to read for.
        let (read, sent) = tokio::join!(reader, send);
        sent.and(read)
    }
}

/// The way of a copy's steps.
struct Sending<'a> {
    arrival: &'a Arrival<'a>,
    place: &'a Place,
    wire: Arc<dyn Wire>,
    stamp: &'a Stamp,
    /// The table that says how far the copy has arrived; gone with the last step.
    progress: String,
}

impl Sending<'_> {
    /// Takes a step once, whatever becomes of answers.
    ///
    /// Each step writes its number, so that a second arrival of it fails as a whole.
    async fn send(&self, number: u64, step: Step) -> Result<()> {
        let statements = self.numbered(number, &step);
        let checks = step.checks.len();
        let mut wait = AGAIN;
        for attempt in 1..=ATTEMPTS {
            let error = match self.wire.send(statements.clone(), Effect::Writes).await {
                Ok(mut answers) => {
                    let answers = answers.split_off(answers.len().saturating_sub(checks));
                    return compare(&step.checks, &answers);
                }
                // It has arrived before, by an earlier attempt or on its way here; or the service
                // does not take it.
                Err(fault @ Fault::Statement(_)) => {
                    if self.has_arrived(number, step.is_last).await? {
                        return self.check(&step.checks).await;
                    }
                    return Err(refused(fault));
                }
                Err(Fault::Other(error)) => error,
            };
            let is_lost =
                [ErrorKind::OutcomeUnknown, ErrorKind::Unavailable].contains(&error.kind());
            if !is_lost || attempt == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(database = %self.place.name, step = number, error = %error.to_chain(), "a part of a copy is sent again");
            sleep(wait).await;
            wait *= 2;
        }
        Ok(())
    }

    fn numbered(&self, number: u64, step: &Step) -> Vec<RawStatement> {
        let progress = &self.progress;
        let is_only = number == 0 && step.is_last;
        // Rows that refer to rows after them may come within one request.
        let mut statements = vec![reading("PRAGMA defer_foreign_keys = ON")];
        if number == 0 && !is_only {
            statements.push(reading(format!("CREATE TABLE {progress} (step INTEGER PRIMARY KEY)")));
        }
        if !is_only {
            statements.push(reading(format!("INSERT INTO {progress} VALUES ({number})")));
        }
        statements.extend(step.statements.iter().cloned());
        if step.is_last && !is_only {
            statements.push(reading(format!("DROP TABLE {progress}")));
        }
        statements.extend(step.checks.iter().map(|check| reading(check.sql.as_str())));
        statements
    }

    async fn has_arrived(&self, number: u64, is_last: bool) -> Result<bool> {
        if is_last {
            let look = self.arrival.factory.look_at(self.place).await?;
            let Look::Stamped { stamp, .. } = look else { return Ok(false) };
            let (deployment, tenant) = (self.stamp.deployment, &self.stamp.tenant);
            return Ok(stamp.check(deployment, tenant, self.stamp.generation).is_ok());
        }
        let query = format!("SELECT count(*) FROM {} WHERE step = {number}", self.progress);
        match self.wire.send(vec![reading(query)], Effect::Reads).await {
            Ok(answers) => Ok(answers
                .first()
                .and_then(|answer| answer.rows.first()?.first()?.as_u64())
                .is_some_and(|count| count == 1)),
            Err(Fault::Statement(_)) => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn check(&self, checks: &[Check]) -> Result<()> {
        if checks.is_empty() {
            return Ok(());
        }
        let questions = checks.iter().map(|check| reading(check.sql.as_str())).collect();
        let answers = self.wire.send(questions, Effect::Reads).await?;
        compare(checks, &answers)
    }
}

fn compare(checks: &[Check], answers: &[RawAnswer]) -> Result<()> {
    if answers.len() != checks.len() {
        let message = "the service answered something else than it was asked for";
        return Err(Error::new(ErrorKind::Unavailable, message).with_provider(NAME));
    }
    for (check, answer) in checks.iter().zip(answers) {
        let value = |place: usize| {
            answer.rows.first().and_then(|row| row.get(place)).and_then(Json::as_str)
        };
        let (rows, values) = &check.expected;
        if value(0) != Some(rows) || value(1) != Some(values) {
            let message = format!(
                "the service took the copy over with other rows in `{}`: it has {} of this part, expected {rows}",
                check.table,
                value(0).unwrap_or("none")
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
    }
    Ok(())
}

/// What is in the copy, the service refused.
fn refused(fault: Fault) -> Error {
    let message = "the service does not take the copy; the tenant's database is as it was";
    Error::new(ErrorKind::Unsupported, message).with_provider(NAME).with_source(Error::from(fault))
}
