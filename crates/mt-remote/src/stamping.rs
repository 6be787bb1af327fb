use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{
    TryStreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::{Driver, DriverTransaction, Stamp};
use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions};

/// A new database that becomes a tenant's together with its schema.
///
/// The stamp goes in front of whatever is written first, in the same atomic unit: nobody can come
/// upon a database that has tables and no stamp, or a stamp and half of its tables. Where somebody
/// else was faster with a stamp, that unit fails: look whose it is.
#[derive(Debug)]
pub struct Stamping {
    inner: Arc<dyn Driver>,
    stamp: Mutex<Vec<Statement>>,
}

impl Stamping {
    /// Stamps the database behind `inner` with the first write.
    pub fn new(inner: Arc<dyn Driver>, stamp: &Stamp, ledger: Option<&str>) -> Self {
        let mut statements = Stamp::to_tables(DbBackend::Sqlite, ledger);
        // The tables stay as they are where they are there; the row must not be there.
        statements.extend(stamp.to_replacing_statements(DbBackend::Sqlite).pop());
        Self { inner, stamp: Mutex::new(statements) }
    }

    /// Whether the stamp is in the database for certain.
    pub fn has_stamped(&self) -> bool {
        self.peek().is_empty()
    }

    /// Stamps it, if nothing was written.
    ///
    /// # Errors
    /// The database's.
    pub async fn finish(&self) -> Result<(), DbErr> {
        let stamp = self.peek();
        if stamp.is_empty() {
            return Ok(());
        }
        self.inner.batch(stamp).await?;
        self.forget();
        Ok(())
    }

    fn peek(&self) -> Vec<Statement> {
        self.stamp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.stamp.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[async_trait]
impl Driver for Stamping {
    fn backend(&self) -> DbBackend {
        self.inner.backend()
    }

    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.finish().await?;
        self.inner.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.finish().await?;
        self.inner.execute_unprepared(sql).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        if !mt_core::only_reads(&statement.sql, DbBackend::Sqlite) {
            self.finish().await?;
        }
        self.inner.query(statement).await
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        if mt_core::only_reads(&statement.sql, DbBackend::Sqlite) {
            return self.inner.stream(statement);
        }
        let stamped = async move {
            self.finish().await?;
            Ok::<_, DbErr>(self.inner.stream(statement))
        };
        Box::pin(stream::once(stamped).try_flatten())
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr> {
        let mut all = self.peek();
        let stamps = all.len();
        all.extend(statements);
        let mut results = self.inner.batch(all).await?;
        self.forget();
        Ok(results.split_off(stamps))
    }

    async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Box<dyn DriverTransaction>, DbErr> {
        self.finish().await?;
        self.inner.begin(options).await
    }

    async fn ping(&self) -> Result<(), DbErr> {
        self.inner.ping().await
    }

    async fn close(&self) -> Result<(), DbErr> {
        self.inner.close().await
    }
}
