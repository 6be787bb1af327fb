//! The suite finds drivers that break the contract.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::BoxStream};
use mt_core::{Error, ErrorKind};
use mt_remote::{
    Answer, Command, Decoder, Fault, Part, Protocol, ProtocolTransaction, RemoteDriver, Row,
    StatementError, TransactionMode, Value,
    conformance::{CHECKS, DriverSubject},
};

use crate::local::Local;

/// What is wrong with a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    RoundsIntegers,
    TakesWholeNumbersForIntegers,
    CutsTextAtNul,
    SortsColumns,
    EndsStreamsAtErrors,
    RunsBatchesOneByOne,
    LosesCommits,
    LosesWords,
    GoesOnAfterTheEnd,
    HasNoTransactions,
}

#[derive(Debug)]
struct Faulty {
    local: Local,
    wrong: Wrong,
}

impl Wrong {
    fn value(self, value: Value) -> Value {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "the fault"
        )]
        match (self, value) {
            (Self::RoundsIntegers, Value::Integer(value)) => Value::Integer(value as f64 as i64),
            (Self::TakesWholeNumbersForIntegers, Value::Real(value)) if value.fract() == 0.0 => {
                Value::Integer(value as i64)
            }
            (Self::CutsTextAtNul, Value::Text(text)) => {
                Value::Text(text.split('\0').next().unwrap_or_default().to_owned())
            }
            (_, value) => value,
        }
    }

    fn row(self, row: Row) -> Row {
        row.into_iter().map(|value| self.value(value)).collect()
    }

    fn answer(self, mut answer: Answer) -> Answer {
        answer.rows = answer.rows.into_iter().map(|row| self.row(row)).collect();
        if self == Self::SortsColumns {
            let mut order: Vec<usize> = (0..answer.columns.len()).collect();
            order.sort_by_key(|at| answer.columns[*at].name.clone());
            let sorted = |row: &Row| order.iter().map(|at| row[*at].clone()).collect();
            answer.rows = answer.rows.iter().map(sorted).collect();
            answer.columns = order.iter().map(|at| answer.columns[*at].clone()).collect();
        }
        answer
    }

    fn fault(self, fault: Fault) -> Fault {
        match fault {
            Fault::Statement(error) if self == Self::LosesWords => {
                Fault::Statement(StatementError::new("the statement failed", error.code))
            }
            fault => fault,
        }
    }
}

#[async_trait]
impl Protocol for Faulty {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        let answer = self.local.execute(command).await;
        answer.map(|answer| self.wrong.answer(answer)).map_err(|fault| self.wrong.fault(fault))
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.local.script(commands).await.map_err(|fault| self.wrong.fault(fault))
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        let parts = self.local.stream(command);
        if self.wrong == Wrong::EndsStreamsAtErrors {
            return parts.take_while(|part| std::future::ready(part.is_ok())).boxed();
        }
        parts
    }

    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        if self.wrong == Wrong::RunsBatchesOneByOne {
            return self.local.script(commands).await;
        }
        self.local.batch(commands).await.map_err(|fault| self.wrong.fault(fault))
    }

    async fn begin(&self, mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault> {
        if self.wrong == Wrong::HasNoTransactions {
            return Err(Error::new(ErrorKind::Unsupported, "there are no transactions").into());
        }
        let (inner, wrong) = (self.local.begin(mode).await?, self.wrong);
        Ok(Box::new(FaultyTransaction { inner, local: self.local.clone(), wrong }))
    }

    async fn close(&self) -> Result<(), Fault> {
        self.local.close().await
    }
}

#[derive(Debug)]
struct FaultyTransaction {
    inner: Box<dyn ProtocolTransaction>,
    local: Local,
    wrong: Wrong,
}

#[async_trait]
impl ProtocolTransaction for FaultyTransaction {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        match self.inner.execute(command.clone()).await {
            // As a server does on which a statement of a transaction that is over runs alone.
            Err(Fault::Other(_)) if self.wrong == Wrong::GoesOnAfterTheEnd => {
                self.local.execute(command).await
            }
            answer => answer,
        }
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.inner.script(commands).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        self.inner.stream(command)
    }

    async fn commit(&self) -> Result<(), Fault> {
        if self.wrong == Wrong::LosesCommits {
            return self.inner.rollback().await;
        }
        self.inner.commit().await
    }

    async fn rollback(&self) -> Result<(), Fault> {
        self.inner.rollback().await
    }
}

fn subject(wrong: Wrong) -> DriverSubject {
    let directory = tempfile::tempdir().unwrap();
    let local = Local::open(&directory.path().join("database"));
    let driver = RemoteDriver::new(Faulty { local, wrong }, Decoder::new(1));
    DriverSubject::new(Arc::new(driver)).with_keep(directory)
}

#[tokio::test]
async fn a_driver_that_breaks_a_promise_is_caught() {
    for (wrong, checks) in [
        (Wrong::RoundsIntegers, &["parameters_come_back_to_the_bit"][..]),
        (Wrong::RoundsIntegers, &["values_come_back_as_they_were", "an_entity_is_served"]),
        (
            Wrong::TakesWholeNumbersForIntegers,
            &["parameters_come_back_to_the_bit", "values_come_back_as_they_were"],
        ),
        (Wrong::CutsTextAtNul, &["parameters_come_back_to_the_bit", "an_entity_is_served"]),
        (Wrong::SortsColumns, &["columns_keep_their_order_and_names"]),
        (Wrong::EndsStreamsAtErrors, &["an_error_ends_a_stream"]),
        (Wrong::RunsBatchesOneByOne, &["a_failing_batch_leaves_nothing"]),
        (Wrong::LosesCommits, &["a_commit_lasts", "transactions_at_once_lose_no_update"]),
        (
            Wrong::LosesWords,
            &[
                "a_unique_violation_is_told",
                "a_foreign_key_violation_is_told",
                "other_violations_are_statement_errors",
                "a_wrong_statement_is_a_statement_error",
                "a_missing_stamp_is_told",
            ],
        ),
        (Wrong::GoesOnAfterTheEnd, &["a_transaction_ended_by_the_engine_is_over"]),
        (Wrong::HasNoTransactions, &["a_commit_lasts", "nested_transactions_end_alone"]),
    ] {
        for name in checks {
            let check = CHECKS.iter().find(|check| check.name == *name).unwrap();
            let violation = check.run(&subject(wrong)).await.unwrap_err();
            assert_eq!(violation.check, *name, "{wrong:?}");
            check.run(&subject(Wrong::Nothing)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_ability_that_is_denied_is_looked_for() {
    let check = CHECKS.iter().find(|check| check.name == "a_commit_lasts").unwrap();
    check.run(&subject(Wrong::Nothing).without_transactions()).await.unwrap_err();
    let check = CHECKS.iter().find(|check| check.name == "nested_transactions_end_alone").unwrap();
    check.run(&subject(Wrong::Nothing).without_savepoints()).await.unwrap_err();
}

/// The suite over a driver that can do no more than each must: the rest must not need it.
mod minimal {
    use mt_remote::{conformance::DriverSubject, driver_conformance_suite};

    use super::{Wrong, subject};

    async fn setup(_check: &str) -> DriverSubject {
        subject(Wrong::HasNoTransactions).without_transactions().without_streaming()
    }

    driver_conformance_suite!(setup);
}
