use mt_core::{Error, ErrorKind, only_reads, split_statements};
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::{Remote, Stop, inside::Live, sending::Collected};
use crate::{
    capture::{Call, Capture, Ended, Event, Job, Reply, exec_result},
    failure::Fault,
    session::{Direction, Outcome},
    statement::{TRANSACTION, known_count, refusal},
};

/// One run through migrations, answering what they ask.
pub(super) struct Attempt<'a> {
    pub(super) remote: &'a Remote<'a>,
    /// Every statement runs as it comes, outside of any batch.
    pub(super) alone: bool,
    pub(super) outcome: &'a mut Outcome,
    pub(super) collected: Collected,
    /// The migration that runs.
    pub(super) current: String,
    /// A part of it has taken effect, and its record has not.
    pub(super) torn: bool,
    /// The guard has been passed since it began.
    pub(super) guarded: bool,
    pub(super) live: Live,
}

/// The answer to one statement: SeaORM's, an error for the migration, or the end of the attempt.
pub(super) type Answer<T> = Result<Result<T, DbErr>, Stop>;

impl<'a> Attempt<'a> {
    pub(super) fn new(remote: &'a Remote<'a>, alone: bool, outcome: &'a mut Outcome) -> Self {
        Self {
            remote,
            alone,
            outcome,
            collected: Collected::default(),
            current: String::new(),
            torn: false,
            guarded: false,
            live: if alone { Live::OneByOne } else { Live::Ready },
        }
    }

    /// Runs the migrations `names`, in their order, and sends what is left of them.
    pub(super) async fn run(mut self, names: Vec<String>) -> Result<(), Stop> {
        let outcome = self.run_all(names).await;
        self.roll_back().await;
        outcome
    }

    async fn run_all(&mut self, names: Vec<String>) -> Result<(), Stop> {
        let job = Job {
            runner: self.remote.runner.clone(),
            names: names.clone(),
            direction: self.remote.direction,
            backend: DbBackend::Sqlite,
        };
        let mut capture = Capture::start(job).map_err(|e| Stop::clean(Fault::Thread(e)))?;
        for name in names {
            (self.current, self.torn, self.guarded) = (name, false, false);
            self.run_one(&mut capture).await?;
        }
        if self.collected.is_empty() { Ok(()) } else { self.send().await }
    }

    async fn run_one(&mut self, capture: &mut Capture) -> Result<(), Stop> {
        loop {
            match capture.next().await {
                Some(Event::Call(call)) => self.answer(call).await?,
                Some(Event::Begin) => return Err(self.refused(TRANSACTION)),
                Some(Event::Done(Ok(()))) => return self.note().await,
                Some(Event::Done(Err(ended))) => return Err(self.ended(ended)),
                None => return Err(self.stop(Fault::Gone)),
            }
        }
    }

    /// Adds the record of the migration that has just come to its end.
    async fn note(&mut self) -> Result<(), Stop> {
        let ledger = self.remote.runner.ledger_table();
        let record = match self.remote.direction {
            Direction::Up => ledger.insert(DbBackend::Sqlite, &self.current),
            Direction::Down => ledger.delete(DbBackend::Sqlite, &self.current),
        };
        if self.live.transaction().is_some() {
            return self.commit(record).await;
        }
        self.collected.note(record, self.current.clone());
        // What has happened in part is recorded at once, before another migration can fail.
        if self.torn || self.alone { self.send().await } else { Ok(()) }
    }

    async fn answer(&mut self, Call { statement, reply }: Call) -> Result<(), Stop> {
        // Nobody waits for an answer any more where the migration dropped what it was doing; the
        // thread itself tells how it ended.
        match reply {
            Reply::Execute(to) => drop(to.send(self.execute(statement).await?)),
            Reply::Query(to) => drop(to.send(self.query(statement).await?)),
        }
        Ok(())
    }

    /// A statement for its effect.
    async fn execute(&mut self, statement: Statement) -> Answer<ExecResult> {
        let backend = DbBackend::Sqlite;
        if statement.values.is_some() {
            self.check(&statement.sql)?;
            return match known_count(&statement.sql) {
                Some(rows) if !self.alone => {
                    self.collected.push(statement);
                    Ok(exec_result(backend, rows, 0))
                }
                _ => self.execute_live(statement).await,
            };
        }
        // Text without parameters may be several statements. Its count is 0 where it cannot be
        // known: whoever writes text asks for rows if they want to know.
        let (mut rows, mut last_insert_id) = (0, 0);
        for sql in split_statements(&statement.sql) {
            self.check(sql)?;
            let single = Statement::from_string(backend, sql);
            if !self.alone {
                rows += known_count(sql).unwrap_or(0);
                self.collected.push(single);
                continue;
            }
            match self.execute_live(single).await? {
                Ok(result) => {
                    rows += result.rows_affected();
                    last_insert_id = result.last_insert_id();
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(exec_result(backend, rows, last_insert_id))
    }

    /// A statement for its rows.
    async fn query(&mut self, statement: Statement) -> Answer<Vec<QueryResult>> {
        self.check(&statement.sql)?;
        let only_reads = only_reads(&statement.sql, DbBackend::Sqlite);
        if only_reads {
            self.prepare_read().await?;
        } else {
            self.prepare_live(&statement).await?;
        }
        let answer = self.ask(statement).await;
        if !only_reads {
            self.tear(&answer);
        }
        self.unless_ended(answer)
    }

    async fn execute_live(&mut self, statement: Statement) -> Answer<ExecResult> {
        self.prepare_live(&statement).await?;
        let answer = match self.live.transaction() {
            Some(transaction) => transaction.execute(statement).await,
            None => self.remote.driver.execute(statement).await,
        };
        self.tear(&answer);
        self.unless_ended(answer)
    }

    /// Runs a query where the migration is.
    pub(super) async fn ask(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.live.transaction() {
            Some(transaction) => transaction.query(statement).await,
            None => self.remote.driver.query(statement).await,
        }
    }

    /// Makes sure that a query finds what was written before it.
    async fn prepare_read(&mut self) -> Result<(), Stop> {
        // What others wrote before it goes by itself; only what it wrote itself makes it depend.
        if (self.live.transaction().is_some() || self.collected.is_loose()) && self.enter().await? {
            return Ok(());
        }
        if self.collected.is_empty() { Ok(()) } else { self.send().await }
    }

    /// Makes sure that a statement may run at once: nobody was faster with its migration, and what
    /// comes before it is in.
    async fn prepare_live(&mut self, statement: &Statement) -> Result<(), Stop> {
        if !self.enter().await? && (!self.guarded || !self.collected.is_empty()) {
            self.send().await?;
        }
        self.check_drops(std::slice::from_ref(statement)).await
    }

    /// Notes that a statement took effect on its own, or may have. In a transaction none does.
    fn tear<T>(&mut self, answer: &Result<T, DbErr>) {
        let may_be_in = answer.as_ref().err().is_none_or(is_unknown);
        self.torn |= may_be_in && self.live.transaction().is_none();
    }

    fn check(&self, sql: &str) -> Result<(), Stop> {
        refusal(sql).map_or(Ok(()), |reason| Err(self.refused(reason)))
    }

    fn refused(&self, reason: &'static str) -> Stop {
        self.stop(Fault::Refused { name: self.current.clone(), reason })
    }

    fn ended(&self, ended: Ended) -> Stop {
        let (verb, name) = (self.remote.direction.verb(), self.current.clone());
        self.stop(match ended {
            Ended::Failed(source) => Fault::Migration { verb, name, source },
            Ended::Panicked(message) => Fault::Panicked { verb, name, message },
        })
    }

    pub(super) const fn stop(&self, fault: Fault) -> Stop {
        Stop::Failed { fault, stays: self.torn }
    }
}

/// Whether the statement may have taken effect although it was answered with `error`.
pub(super) fn is_unknown(error: &DbErr) -> bool {
    Error::in_db_err(error).is_some_and(|ours| ours.kind() == ErrorKind::OutcomeUnknown)
}
