use async_trait::async_trait;
use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::{Driver, DriverTransaction, Error, Stamp};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, StreamTrait as _, TransactionOptions, TransactionTrait as _,
};

/// A driver over SeaORM's own connections, with a place for a fault in it.
#[derive(Debug)]
pub(crate) struct Seam {
    /// What is asked for everything but the stamp.
    connection: DatabaseConnection,
    /// What is asked for the stamp.
    stamped: DatabaseConnection,
    loses_commits: bool,
    is_plain: bool,
    batches: Batches,
}

/// What a batch is to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batches {
    /// One atomic unit.
    Atomic,
    /// One atomic unit, in which a question that fails is passed over.
    Deaf,
    /// Statements one after the other, up to the first that fails.
    Torn,
}

impl Seam {
    pub(crate) fn new(connection: DatabaseConnection) -> Self {
        Self {
            stamped: connection.clone(),
            connection,
            loses_commits: false,
            is_plain: false,
            batches: Batches::Atomic,
        }
    }

    /// Answers a question for the stamp from `stamped`.
    pub(crate) fn with_stamp_of(mut self, stamped: DatabaseConnection) -> Self {
        self.stamped = stamped;
        self
    }

    /// Has neither transactions nor streams that deliver row by row, as a database reached by HTTP.
    pub(crate) fn without_sessions(mut self) -> Self {
        self.is_plain = true;
        self
    }

    pub(crate) fn with_batches(mut self, batches: Batches) -> Self {
        self.batches = batches;
        self
    }

    /// Rolls back when it is told to commit, and says that all is well.
    pub(crate) fn with_lost_commits(mut self, lost: bool) -> Self {
        self.loses_commits = lost;
        self
    }
}

#[async_trait]
impl Driver for Seam {
    fn backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.connection.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.connection.execute_unprepared(sql).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let asks_for_stamp = statement.sql.contains(Stamp::TABLE);
        let connection = if asks_for_stamp { &self.stamped } else { &self.connection };
        connection.query_all_raw(statement).await
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        if self.is_plain {
            let rows = self.query(statement).map_ok(|rows| stream::iter(rows.into_iter().map(Ok)));
            return rows.into_stream().try_flatten().boxed();
        }
        self.connection.stream_raw(statement).into_stream().try_flatten().boxed()
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr> {
        let mut results = Vec::with_capacity(statements.len());
        if self.batches == Batches::Torn {
            for statement in statements {
                results.push(self.connection.execute_raw(statement).await?);
            }
            return Ok(results);
        }
        let transaction = self.connection.begin().await?;
        for statement in statements {
            let asks = mt_core::only_reads(&statement.sql, DbBackend::Sqlite);
            let result = match transaction.execute_raw(statement).await {
                Err(_) if asks && self.batches == Batches::Deaf => {
                    transaction.execute_unprepared("SELECT 1").await
                }
                result => result,
            };
            results.push(result?);
        }
        transaction.commit().await?;
        Ok(results)
    }

    async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Box<dyn DriverTransaction>, DbErr> {
        if self.is_plain {
            return Err(Error::unsupported("custom", "open a transaction").into_db_err());
        }
        let open = self.connection.begin_with_options(options).await?;
        Ok(Box::new(SeamTransaction { open, loses_commits: self.loses_commits }))
    }

    async fn ping(&self) -> Result<(), DbErr> {
        self.connection.ping().await
    }

    async fn close(&self) -> Result<(), DbErr> {
        self.stamped.close_by_ref().await?;
        self.connection.close_by_ref().await
    }
}

#[derive(Debug)]
struct SeamTransaction {
    open: DatabaseTransaction,
    loses_commits: bool,
}

#[async_trait]
impl DriverTransaction for SeamTransaction {
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.open.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.open.execute_unprepared(sql).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.open.query_all_raw(statement).await
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        self.open.stream_raw(statement).into_stream().try_flatten().boxed()
    }

    async fn begin(&self) -> Result<Box<dyn DriverTransaction>, DbErr> {
        let open = self.open.begin().await?;
        Ok(Box::new(Self { open, loses_commits: self.loses_commits }))
    }

    async fn commit(self: Box<Self>) -> Result<(), DbErr> {
        if self.loses_commits {
            return self.open.rollback().await;
        }
        self.open.commit().await
    }

    async fn rollback(self: Box<Self>) -> Result<(), DbErr> {
        self.open.rollback().await
    }
}
