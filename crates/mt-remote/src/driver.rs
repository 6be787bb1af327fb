use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::{Driver, DriverTransaction, Error};
use sea_orm::{
    AccessMode, DbBackend, DbErr, ExecResult, QueryResult, SqliteTransactionMode, Statement,
    TransactionOptions,
};

use crate::{
    Command, Decoder, Protocol, TransactionMode, encode,
    outcome::{self, Asked},
    rows,
    transaction::RemoteTransaction,
};

/// A [`Driver`] over a [`Protocol`]: what a provider of the SQLite dialect has to give.
///
/// Statements go out with their parameters in the forms in which sqlx binds them to SQLite, and
/// rows come back through a [`Decoder`], so entities read and write what they do on a file.
#[derive(Debug)]
pub struct RemoteDriver<P> {
    protocol: P,
    decoder: Decoder,
}

impl<P: Protocol> RemoteDriver<P> {
    /// Speaks `protocol`, and passes rows through `decoder`, which others may share.
    pub const fn new(protocol: P, decoder: Decoder) -> Self {
        Self { protocol, decoder }
    }

    /// The protocol.
    pub const fn protocol(&self) -> &P {
        &self.protocol
    }
}

/// The commands of `text`, which may hold several statements.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    mt_core::split_statements(text).into_iter().map(Command::new).collect()
}

/// A statement as it is sent, or as SeaORM is told that it cannot be.
pub(crate) fn command(statement: Statement) -> Result<Command, DbErr> {
    encode::command(statement).map_err(Error::into_db_err)
}

/// A stream of nothing but `error`.
pub(crate) fn refused<'a>(error: DbErr) -> BoxStream<'a, Result<QueryResult, DbErr>> {
    stream::iter([Err(error)]).boxed()
}

#[async_trait]
impl<P: Protocol> Driver for RemoteDriver<P> {
    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self.protocol.execute(command(statement)?).await {
            Ok(answer) => outcome::of_answer(&answer),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let commands = commands(sql);
        if commands.is_empty() {
            return outcome::of_answers(&[]);
        }
        match self.protocol.script(commands).await {
            Ok(answers) => outcome::of_answers(&answers),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.protocol.execute(command(statement)?).await {
            Ok(answer) => self.decoder.rows(&answer.columns, answer.rows).await,
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Rows).await),
        }
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        match command(statement) {
            Ok(command) => rows::decoded(&self.decoder, self.protocol.stream(command)),
            Err(error) => refused(error),
        }
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr> {
        let commands = statements.into_iter().map(command).collect::<Result<Vec<_>, _>>()?;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let expected = commands.len();
        match self.protocol.batch(commands).await {
            Ok(answers) if answers.len() == expected => {
                answers.iter().map(outcome::of_answer).collect()
            }
            Ok(_) => Err(outcome::broken("a batch has another number of answers than statements")),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }

    async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Box<dyn DriverTransaction>, DbErr> {
        match self.protocol.begin(mode(options)).await {
            Ok(open) => Ok(Box::new(RemoteTransaction::new(open, self.decoder.clone()))),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }

    async fn ping(&self) -> Result<(), DbErr> {
        match self.protocol.execute(Command::new("SELECT 1")).await {
            Ok(_) => Ok(()),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Rows).await),
        }
    }

    async fn close(&self) -> Result<(), DbErr> {
        match self.protocol.close().await {
            Ok(()) => Ok(()),
            Err(fault) => Err(outcome::db_err(&self.decoder, fault, Asked::Effect).await),
        }
    }
}

/// A transaction takes the write lock at once unless it says that it only reads or that it will
/// wait: one that has read can lose the lock to somebody else without a second try. There is no
/// lock against readers from afar, so the exclusive mode is the immediate one; and isolation is
/// always serializable.
fn mode(options: TransactionOptions) -> TransactionMode {
    let only_reads = matches!(options.access_mode, Some(AccessMode::ReadOnly));
    match options.sqlite_transaction_mode {
        Some(SqliteTransactionMode::Deferred) => TransactionMode::Deferred,
        Some(SqliteTransactionMode::Immediate | SqliteTransactionMode::Exclusive) => {
            TransactionMode::Immediate
        }
        None if only_reads => TransactionMode::Deferred,
        None => TransactionMode::Immediate,
    }
}
