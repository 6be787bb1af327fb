use std::sync::Arc;

use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, SqliteTransactionMode,
    Statement, StreamTrait as _, TransactionOptions, TransactionTrait as _,
};

use futures_util::StreamExt as _;

use crate::{
    Connections, DataStream, DataTransaction, Error, ErrorKind, ReadOnly, Result, adapters::Inner,
    driver::Way, gate::Pass, sql, transaction::Open,
};

/// One way to a tenant's database: over which connections, and what it may be used for.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) connections: &'a Connections,
    /// `Some`: for reading only, and who enforces it.
    pub(crate) reads: Option<ReadOnly>,
}

impl<'a> Lane<'a> {
    pub(crate) async fn enter(&self) -> Result<(Pass, Way<'a>), DbErr> {
        self.inner.gate.enter(self.connections).await.map_err(Error::into_db_err)
    }

    pub(crate) fn check(&self, text: &str) -> Result<(), DbErr> {
        check(text, self.connections.backend(), self.reads)
            .map_err(|e| e.with_tenant(&self.inner.tenant).into_db_err())
    }

    pub(crate) async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.check(&statement.sql)?;
        let (pass, way) = self.enter().await?;
        match way {
            Way::SeaOrm(connection) => pass.run(connection.execute_raw(statement)).await,
            Way::Driver(driver) => driver.execute(statement).await,
        }
    }

    pub(crate) async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        self.check(text)?;
        let (pass, way) = self.enter().await?;
        match way {
            Way::SeaOrm(connection) => pass.run(connection.execute_unprepared(text)).await,
            Way::Driver(driver) => driver.execute_unprepared(text).await,
        }
    }

    pub(crate) async fn query_one(
        &self,
        statement: Statement,
    ) -> Result<Option<QueryResult>, DbErr> {
        self.check(&statement.sql)?;
        let (pass, way) = self.enter().await?;
        match way {
            Way::SeaOrm(connection) => pass.run(query_one(&connection, statement)).await,
            Way::Driver(driver) => Ok(driver.query(statement).await?.into_iter().next()),
        }
    }

    pub(crate) async fn query_all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.check(&statement.sql)?;
        let (pass, way) = self.enter().await?;
        pass.run(way.query(statement)).await
    }

    pub(crate) async fn stream(self, statement: Statement) -> Result<DataStream<'a>, DbErr> {
        self.check(&statement.sql)?;
        let (pass, way) = self.enter().await?;
        let rows = match way {
            Way::SeaOrm(connection) => connection.stream_raw(statement).await?.boxed(),
            Way::Driver(driver) => driver.stream(statement),
        };
        Ok(DataStream::new(rows, Some(pass)))
    }

    pub(crate) async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<DataTransaction, DbErr> {
        let (pass, way) = self.enter().await?;
        let options = self.with_default_mode(options);
        let open = match way {
            Way::SeaOrm(connection) => {
                Open::SeaOrm(pass.run(connection.begin_with_options(options)).await?)
            }
            Way::Driver(driver) => Open::Driver(driver.begin(options).await?),
        };
        let backend = self.connections.backend();
        Ok(DataTransaction::new(open, pass, self.inner, backend, self.reads))
    }

    /// SQLite takes the write lock at the first write, and a transaction that has read by then can
    /// lose it to somebody else without a second try. So a transaction that may write takes the
    /// lock at once, unless the caller says otherwise. On a server one that only reads says so.
    fn with_default_mode(&self, mut options: TransactionOptions) -> TransactionOptions {
        let writes = self.reads.is_none() && options.access_mode != Some(AccessMode::ReadOnly);
        if self.connections.backend() == DbBackend::Sqlite {
            options.sqlite_transaction_mode.get_or_insert(if writes {
                SqliteTransactionMode::Immediate
            } else {
                SqliteTransactionMode::Deferred
            });
        } else if !writes {
            options.access_mode = Some(AccessMode::ReadOnly);
        }
        options
    }
}

/// Refuses what a handle never runs; and on a read handle that the engine does not guard, what
/// does not only read.
pub(crate) fn check(text: &str, backend: DbBackend, reads: Option<ReadOnly>) -> Result<()> {
    sql::check(text, backend)?;
    if reads == Some(ReadOnly::Handle) && !sql::only_reads(text, backend) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a read-only handle runs no such statement",
        ));
    }
    Ok(())
}

/// The first row of a statement that may write.
///
/// Asked for one row, sqlx stops an SQLite statement at the first. One that writes outside of a
/// transaction then commits as it is reset, and what the commit says is lost: on a full disk, or
/// with a deferred foreign key, a row that was not stored would be acknowledged. Nor does SQLite
/// fold the log into the file after such a commit. So what may write is run to its end.
pub(crate) async fn query_one<C: ConnectionTrait>(
    connection: &C,
    statement: Statement,
) -> Result<Option<QueryResult>, DbErr> {
    if statement.db_backend == DbBackend::Sqlite && !sql::is_select(&statement.sql) {
        return Ok(connection.query_all_raw(statement).await?.into_iter().next());
    }
    connection.query_one_raw(statement).await
}
