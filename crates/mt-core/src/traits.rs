//! SeaORM's traits for our handles.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionSession as _,
    TransactionTrait,
};

use crate::{DataAdapters, DataTransaction, ReadAdapters, Result, gate::Pass};

/// The rows of one query as they come. Counts as in use until it is dropped.
pub struct DataStream<'a> {
    // In this order: the rows let go of the database before the gate is told that they have.
    rows: BoxStream<'a, Result<QueryResult, DbErr>>,
    pass: Option<Pass>,
}

impl<'a> DataStream<'a> {
    pub(crate) fn new(rows: BoxStream<'a, Result<QueryResult, DbErr>>, pass: Option<Pass>) -> Self {
        Self { rows, pass }
    }
}

impl fmt::Debug for DataStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataStream")
    }
}

impl Stream for DataStream<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.rows.poll_next_unpin(context);
        if let (Poll::Ready(None), Some(pass)) = (&polled, &self.pass) {
            pass.set_quiet(true);
        }
        polled
    }
}

type Callback<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

async fn run<F, T, E>(transaction: DataTransaction, callback: F) -> Result<T, TransactionError<E>>
where
    F: for<'c> FnOnce(&'c DataTransaction) -> Callback<'c, T, E> + Send,
    T: Send,
    E: fmt::Display + fmt::Debug + Send,
{
    match callback(&transaction).await {
        Ok(value) => {
            transaction.commit().await.map_err(TransactionError::Connection)?;
            Ok(value)
        }
        Err(error) => {
            transaction.rollback().await.map_err(TransactionError::Connection)?;
            Err(TransactionError::Transaction(error))
        }
    }
}

/// SeaORM's connection traits for a type with a `lane`.
macro_rules! connection_traits {
    ($handle:ty) => {
        #[async_trait]
        impl ConnectionTrait for $handle {
            fn get_database_backend(&self) -> DbBackend {
                self.lane().connections.backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.lane().execute(statement).await
            }

            async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
                self.lane().execute_unprepared(text).await
            }

            async fn query_one_raw(
                &self,
                statement: Statement,
            ) -> Result<Option<QueryResult>, DbErr> {
                self.lane().query_one(statement).await
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                self.lane().query_all(statement).await
            }
        }

        impl StreamTrait for $handle {
            type Stream<'a> = DataStream<'a>;

            fn get_database_backend(&self) -> DbBackend {
                self.lane().connections.backend()
            }

            fn stream_raw<'a>(
                &'a self,
                statement: Statement,
            ) -> Pin<Box<dyn Future<Output = Result<DataStream<'a>, DbErr>> + Send + 'a>> {
                Box::pin(self.lane().stream(statement))
            }
        }

        transaction_trait!($handle, |handle, options| handle.lane().begin(options).await);
    };
}

/// SeaORM's transaction trait for a type, given how it begins one.
macro_rules! transaction_trait {
    ($handle:ty, |$self:ident, $options:ident| $begin:expr) => {
        #[async_trait]
        impl TransactionTrait for $handle {
            type Transaction = DataTransaction;

            async fn begin(&self) -> Result<DataTransaction, DbErr> {
                self.begin_with_options(TransactionOptions::default()).await
            }

            async fn begin_with_config(
                &self,
                isolation_level: Option<IsolationLevel>,
                access_mode: Option<AccessMode>,
            ) -> Result<DataTransaction, DbErr> {
                self.begin_with_options(TransactionOptions {
                    isolation_level,
                    access_mode,
                    ..TransactionOptions::default()
                })
                .await
            }

            async fn begin_with_options(
                &self,
                $options: TransactionOptions,
            ) -> Result<DataTransaction, DbErr> {
                let $self = self;
                $begin
            }

            async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
            where
                F: for<'c> FnOnce(&'c DataTransaction) -> Callback<'c, T, E> + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                let transaction = self.begin().await.map_err(TransactionError::Connection)?;
                run(transaction, callback).await
            }

            async fn transaction_with_config<F, T, E>(
                &self,
                callback: F,
                isolation_level: Option<IsolationLevel>,
                access_mode: Option<AccessMode>,
            ) -> Result<T, TransactionError<E>>
            where
                F: for<'c> FnOnce(&'c DataTransaction) -> Callback<'c, T, E> + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                let transaction = self
                    .begin_with_config(isolation_level, access_mode)
                    .await
                    .map_err(TransactionError::Connection)?;
                run(transaction, callback).await
            }
        }
    };
}

connection_traits!(DataAdapters);
connection_traits!(ReadAdapters);

// A transaction inside a transaction is a savepoint, whatever options are asked for.
transaction_trait!(DataTransaction, |outer, _options| outer.nest().await);
