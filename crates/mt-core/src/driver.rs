use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use sea_orm::{
    DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions,
};

use crate::{ConnectionPool, budget::Lease};

/// A database that SeaORM has no connection for, such as one reached by HTTP.
///
/// Rows and results are SeaORM's own types, so entities decode as they do anywhere else. SeaORM's
/// own `ConnectionTrait` cannot be a trait object, and its `proxy` can neither refuse a `begin` nor
/// report a failed `commit`; this trait can do both.
///
/// An implementor runs what it is given and decides nothing about tenants: revocation, read-only
/// handles and refused statements are [`DataAdapters`](crate::DataAdapters)' business.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// The SQL dialect.
    fn backend(&self) -> DbBackend;

    /// Runs one statement for its effect.
    ///
    /// # Errors
    /// The database's, with a code that [`DbErr::sql_err`] understands where it has one.
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr>;

    /// Runs text that may hold several statements and has no parameters. Not atomic.
    ///
    /// # Errors
    /// The database's, for the first statement that failed: those after it were not run, and those
    /// before it stay; or, where a text is one request that is atomic (D1), nothing of it stays.
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr>;

    /// Runs one statement for its rows, columns in the statement's order.
    ///
    /// # Errors
    /// The database's.
    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr>;

    /// Runs one statement and hands out its rows as they come, where the protocol can; all at once
    /// where it cannot.
    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>>;

    /// Runs all statements as one atomic unit, in order: all take effect or none does.
    ///
    /// # Errors
    /// The database's, for the first that failed; nothing took effect. An unknown outcome is
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) inside a
    /// [`DbErr`](crate::Error::into_db_err).
    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr>;

    /// Opens a transaction of its own: nobody else's statements fall into it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there are no interactive
    /// transactions, else the database's.
    async fn begin(&self, options: TransactionOptions)
    -> Result<Box<dyn DriverTransaction>, DbErr>;

    /// Checks that the database answers.
    ///
    /// # Errors
    /// The database's, or the connection's.
    async fn ping(&self) -> Result<(), DbErr>;

    /// Lets go of everything held for this database. Called once, when nothing runs.
    ///
    /// # Errors
    /// What could not be let go.
    async fn close(&self) -> Result<(), DbErr>;
}

/// An open transaction of a [`Driver`]. Dropping it rolls back.
#[async_trait]
pub trait DriverTransaction: fmt::Debug + Send + Sync {
    /// As [`Driver::execute`], inside the transaction.
    ///
    /// # Errors
    /// As there; and when the server has ended the transaction by itself. Such a statement never
    /// takes effect on its own.
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr>;

    /// As [`Driver::execute_unprepared`], inside the transaction.
    ///
    /// # Errors
    /// As [`DriverTransaction::execute`].
    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr>;

    /// As [`Driver::query`], inside the transaction.
    ///
    /// # Errors
    /// As [`DriverTransaction::execute`].
    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr>;

    /// As [`Driver::stream`], inside the transaction.
    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>>;

    /// Opens a transaction inside this one, by a savepoint.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there are none.
    async fn begin(&self) -> Result<Box<dyn DriverTransaction>, DbErr>;

    /// Makes it last.
    ///
    /// # Errors
    /// The database's: nothing lasted. When the answer was lost,
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown); never repeated by itself.
    async fn commit(self: Box<Self>) -> Result<(), DbErr>;

    /// Takes it back.
    ///
    /// # Errors
    /// The connection's. Nothing lasted either way.
    async fn rollback(self: Box<Self>) -> Result<(), DbErr>;
}

/// An open database, before it is known whose it is: SeaORM's own connection, or a [`Driver`].
#[derive(Clone, Debug)]
pub enum Connection {
    /// One of the engines SeaORM connects to itself.
    SeaOrm(DatabaseConnection),
    /// Any other.
    Driver(Arc<dyn Driver>),
}

impl Connection {
    /// The SQL dialect.
    pub fn backend(&self) -> DbBackend {
        match self {
            Self::SeaOrm(connection) => connection.get_database_backend(),
            Self::Driver(driver) => driver.backend(),
        }
    }

    /// Runs one statement for its rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::SeaOrm(connection) => {
                sea_orm::ConnectionTrait::query_all_raw(connection, statement).await
            }
            Self::Driver(driver) => driver.query(statement).await,
        }
    }

    /// Closes it, after what runs on it is over.
    ///
    /// # Errors
    /// What could not be let go.
    pub async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::SeaOrm(connection) => connection.close_by_ref().await,
            Self::Driver(driver) => driver.close().await,
        }
    }
}

impl From<DatabaseConnection> for Connection {
    fn from(connection: DatabaseConnection) -> Self {
        Self::SeaOrm(connection)
    }
}

impl<D: Driver> From<Arc<D>> for Connection {
    fn from(driver: Arc<D>) -> Self {
        Self::Driver(driver)
    }
}

/// What a handle works with: one [`Connection`], or a pool out of a budget that tenants share.
#[derive(Clone, Debug)]
pub enum Connections {
    /// One, which may be a pool of its own.
    One(Connection),
    /// One for each call, transaction and stream, out of a
    /// [`ConnectionBudget`](crate::ConnectionBudget).
    Pool(ConnectionPool),
}

impl Connections {
    pub(crate) fn backend(&self) -> DbBackend {
        match self {
            Self::One(connection) => connection.backend(),
            Self::Pool(pool) => pool.backend(),
        }
    }

    /// What one call is made on, and what it has to keep for as long.
    ///
    /// # Errors
    /// As [`ConnectionPool::lease`].
    pub(crate) async fn take(&self) -> crate::Result<(Option<Lease>, Way<'_>)> {
        Ok(match self {
            Self::One(Connection::SeaOrm(connection)) => (None, Way::SeaOrm(connection.clone())),
            Self::One(Connection::Driver(driver)) => (None, Way::Driver(driver)),
            Self::Pool(pool) => {
                let lease = pool.lease().await?;
                let connection = lease.connection().clone();
                (Some(lease), Way::SeaOrm(connection))
            }
        })
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::One(connection) => connection.close().await,
            Self::Pool(pool) => {
                pool.close().await;
                Ok(())
            }
        }
    }
}

/// What one call is made on.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    SeaOrm(DatabaseConnection),
    Driver(&'a Arc<dyn Driver>),
}

impl Way<'_> {
    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::SeaOrm(connection) => {
                sea_orm::ConnectionTrait::query_all_raw(connection, statement).await
            }
            Self::Driver(driver) => driver.query(statement).await,
        }
    }
}

impl From<Connection> for Connections {
    fn from(connection: Connection) -> Self {
        Self::One(connection)
    }
}

impl From<DatabaseConnection> for Connections {
    fn from(connection: DatabaseConnection) -> Self {
        Self::One(connection.into())
    }
}

impl<D: Driver> From<Arc<D>> for Connections {
    fn from(driver: Arc<D>) -> Self {
        Self::One(driver.into())
    }
}

impl From<ConnectionPool> for Connections {
    fn from(pool: ConnectionPool) -> Self {
        Self::Pool(pool)
    }
}
