use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::DriverTransaction;
use sea_orm::{DbErr, ExecResult, QueryResult, Statement};

use crate::{
    Decoder, Fault, ProtocolTransaction,
    driver::{command, commands, refused},
    outcome::{self, Asked},
    rows,
    savepoints::{ENDED, Savepoints},
};

/// A transaction of a remote database, or one nested in it by a savepoint.
pub(crate) struct RemoteTransaction {
    savepoints: Arc<Savepoints>,
    /// The savepoint, if it is nested.
    savepoint: Option<u64>,
    decoder: Decoder,
}

impl RemoteTransaction {
    pub(crate) fn new(transaction: Box<dyn ProtocolTransaction>, decoder: Decoder) -> Self {
        Self { savepoints: Arc::new(Savepoints::new(transaction)), savepoint: None, decoder }
    }

    async fn effect<T>(&self, outcome: Result<T, Fault>) -> Result<T, DbErr> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }

    async fn step(&self) -> Result<(), DbErr> {
        let outcome = self.savepoints.step(self.savepoint).await;
        self.effect(outcome).await
    }
}

#[async_trait]
impl DriverTransaction for RemoteTransaction {
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let command = command(statement)?;
        self.step().await?;
        let outcome = self.savepoints.transaction.execute(command).await;
        outcome::of_answer(&self.effect(outcome).await?)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.step().await?;
        let commands = commands(sql);
        if commands.is_empty() {
            return outcome::of_answers(&[]);
        }
        let outcome = self.savepoints.transaction.script(commands).await;
        outcome::of_answers(&self.effect(outcome).await?)
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let command = command(statement)?;
        self.step().await?;
        match self.savepoints.transaction.execute(command).await {
            Ok(answer) => self.decoder.rows(&answer.columns, answer.rows).await,
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Rows).await),
        }
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        let opening = async move {
            let prepared = match command(statement) {
                Ok(command) => self.step().await.map(|()| command),
                Err(error) => Err(error),
            };
            match prepared {
                Ok(command) => {
                    rows::decoded(&self.decoder, self.savepoints.transaction.stream(command))
                }
                Err(error) => refused(error),
            }
        };
        stream::once(opening).flatten().boxed()
    }

    async fn begin(&self) -> Result<Box<dyn DriverTransaction>, DbErr> {
        let outcome = self.savepoints.open(self.savepoint).await;
        let savepoint = Some(self.effect(outcome).await?);
        let savepoints = Arc::clone(&self.savepoints);
        Ok(Box::new(Self { savepoints, savepoint, decoder: self.decoder.clone() }))
    }

    async fn commit(self: Box<Self>) -> Result<(), DbErr> {
        let outcome = match self.savepoint {
            None => self.savepoints.commit().await,
            Some(savepoint) => self.savepoints.keep(savepoint).await,
        };
        self.effect(outcome).await
    }

    async fn rollback(self: Box<Self>) -> Result<(), DbErr> {
        let outcome = match self.savepoint {
            None => self.savepoints.roll_back().await,
            Some(savepoint) => self.savepoints.take_back(savepoint).await,
        };
        self.effect(outcome).await
    }
}

impl fmt::Debug for RemoteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTransaction")
            .field("savepoint", &self.savepoint)
            .finish_non_exhaustive()
    }
}

impl Drop for RemoteTransaction {
    fn drop(&mut self) {
        match self.savepoint {
            // What is nested in it may outlive it, and must do nothing more.
            None => self.savepoints.end(ENDED),
            Some(savepoint) => self.savepoints.note_dropped(savepoint),
        }
    }
}
