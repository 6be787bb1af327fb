use std::{
    any::{Any, type_name},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionSession as _,
    TransactionTrait,
};

use crate::{
    Connection, ConnectionBudget, DataTransaction, DeploymentId, Error, ErrorKind, Generation,
    ReadOnly, Result, Stamp, TenantId,
    gate::{Gate, Pass},
    lane::Lane,
    session::Session,
    stamp::StampRow,
};

/// One tenant's database, opened and known to be that tenant's.
///
/// It is a SeaORM connection: `User::find().all(&data)` works on every provider, and so do
/// transactions and streams. Cloning is cheap and shares the database.
///
/// Every call, transaction and stream passes one gate. Once the handle is revoked (its tenant is
/// suspended, deprovisioned, restored or moved) no new call enters, in any clone; there is no door
/// around it. Statements that reach outside the tenant's database, or would leave a transaction or
/// a setting behind for whoever uses the connection next, are refused before they are sent.
pub struct DataAdapters {
    inner: Arc<Inner>,
    create: Option<CreateAdapters>,
}

/// A read-only view of [`DataAdapters`]: a replica where there is one, else the same database.
///
/// [`Capabilities::read_only`](crate::Capabilities::read_only) says who enforces it.
#[derive(Clone, Debug)]
pub struct ReadAdapters {
    data: DataAdapters,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tenant: TenantId,
    pub(crate) gate: Arc<Gate>,
    provider: &'static str,
    row: StampRow,
    opened_at: Instant,
    primary: Connection,
    read: Option<Connection>,
    read_only: ReadOnly,
    session: Session,
}

/// How [`DataAdapters`] are made: what is known of the database, and what to keep with it.
#[must_use = "nothing is checked until `open`"]
pub struct Opening {
    deployment: DeploymentId,
    tenant: TenantId,
    generation: Generation,
    provider: &'static str,
    primary: Connection,
    read: Option<Connection>,
    read_only: ReadOnly,
    ledger: Option<String>,
    budget: Option<Arc<dyn ConnectionBudget>>,
    hold: Option<Box<dyn Any + Send + Sync>>,
}

impl Opening {
    /// Says which generation is expected. Default: [`Generation::FIRST`].
    pub fn with_generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    /// Names the provider, for errors. Default: `custom`.
    pub fn with_provider(mut self, provider: &'static str) -> Self {
        self.provider = provider;
        self
    }

    /// Gives the connection behind [`DataAdapters::read`], and says who keeps it from writing.
    /// Default: the primary, kept from writing by the handle.
    pub fn with_read(mut self, connection: impl Into<Connection>, read_only: ReadOnly) -> Self {
        self.read = Some(connection.into());
        self.read_only = read_only;
        self
    }

    /// Names the migration ledger whose newest entry is the schema version. Default: none is read.
    pub fn with_ledger(mut self, table: impl Into<String>) -> Self {
        self.ledger = Some(table.into());
        self
    }

    /// Makes every call ask for a permit first. Default: no limit.
    pub fn with_budget(mut self, budget: Arc<dyn ConnectionBudget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Keeps `hold` until the connections are closed.
    pub fn with_hold(mut self, hold: impl Any + Send + Sync) -> Self {
        self.hold = Some(Box::new(hold));
        self
    }

    /// Reads the stamp and the schema version in one query, and gives out the handle if the
    /// database is the tenant's. Otherwise everything is closed again.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `ForeignDatabase` | the stamp is missing, or names another tenant, deployment or generation |
    /// | `Corrupt` | the stamp cannot be understood |
    /// | `Unavailable` | no answer; the database's error is the source |
    pub async fn open(self) -> Result<DataAdapters> {
        // Made first: also a cancelled open closes before it lets go of what is held.
        let session =
            Session::new([Some(self.primary.clone()), self.read.clone()].into_iter().flatten());
        if let Some(hold) = self.hold {
            session.hold(hold);
        }
        let read = StampRow::read(&self.primary, &self.tenant, self.ledger.as_deref()).await;
        let row = read.and_then(|row| {
            row.stamp.check(self.deployment, &self.tenant, self.generation).map(|()| row)
        });
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                session.close().await;
                return Err(error.with_provider(self.provider));
            }
        };
        let inner = Inner {
            gate: Arc::new(Gate::new(self.tenant.clone(), self.budget)),
            tenant: self.tenant,
            provider: self.provider,
            row,
            opened_at: Instant::now(),
            primary: self.primary,
            read: self.read,
            read_only: self.read_only,
            session,
        };
        Ok(Parked { inner: Arc::new(inner), create: None }.lend())
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("tenant", &self.tenant)
            .field("generation", &self.generation)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl DataAdapters {
    /// Opens a tenant's database over `connection`, checking that it is `tenant`'s in `deployment`.
    /// The only way to make a handle; [`DataAdapters::opening`] is the same with more to say.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub async fn open(
        tenant: &TenantId,
        deployment: DeploymentId,
        connection: impl Into<Connection>,
    ) -> Result<Self> {
        Self::opening(tenant, deployment, connection).open().await
    }

    /// Begins to open a tenant's database over `connection`.
    pub fn opening(
        tenant: &TenantId,
        deployment: DeploymentId,
        connection: impl Into<Connection>,
    ) -> Opening {
        Opening {
            deployment,
            tenant: tenant.clone(),
            generation: Generation::FIRST,
            provider: "custom",
            primary: connection.into(),
            read: None,
            read_only: ReadOnly::Handle,
            ledger: None,
            budget: None,
            hold: None,
        }
    }

    /// Whose database this is.
    pub fn tenant(&self) -> &TenantId {
        &self.inner.tenant
    }

    /// The provider that opened it, by its registered name.
    pub fn provider(&self) -> &'static str {
        self.inner.provider
    }

    /// The stamp as it was read when the database was opened.
    pub fn stamp(&self) -> &Stamp {
        &self.inner.row.stamp
    }

    /// The newest applied migration when the database was opened, if a ledger was named.
    pub fn schema_version(&self) -> Option<&str> {
        self.inner.row.schema_version.as_deref()
    }

    /// When it was opened; what was read of the tenant before may be outdated.
    pub fn opened_at(&self) -> Instant {
        self.inner.opened_at
    }

    /// Whether the handle has been revoked, and refuses new calls.
    pub fn is_revoked(&self) -> bool {
        self.inner.gate.is_revoked()
    }

    /// The same database, read-only.
    pub fn read(&self) -> ReadAdapters {
        ReadAdapters { data: self.clone() }
    }

    /// Runs all statements as one atomic unit, in order; also where there are no interactive
    /// transactions. Answers one result per statement.
    ///
    /// # Errors
    /// The database's for the first statement that failed: none took effect. Ours (see
    /// [`Error::in_db_err`]) for a revoked handle or a refused statement.
    pub async fn batch(
        &self,
        statements: impl IntoIterator<Item = Statement> + Send,
    ) -> Result<Vec<ExecResult>, DbErr> {
        let statements: Vec<Statement> = statements.into_iter().collect();
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let lane = self.lane();
        for statement in &statements {
            lane.check(&statement.sql)?;
        }
        match lane.connection {
            Connection::Driver(driver) => {
                let _pass = lane.enter().await?;
                driver.batch(statements).await
            }
            Connection::SeaOrm(_) => {
                let transaction = lane.begin(TransactionOptions::default()).await?;
                let mut results = Vec::with_capacity(statements.len());
                for statement in statements {
                    results.push(transaction.execute_raw(statement).await?);
                }
                transaction.commit().await?;
                Ok(results)
            }
        }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// The database's, or ours for a revoked handle.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let lane = self.lane();
        let _pass = lane.enter().await?;
        match lane.connection {
            Connection::SeaOrm(connection) => connection.ping().await,
            Connection::Driver(driver) => driver.ping().await,
        }
    }

    /// Gives the application's own adapters over this database, as made by the function that was
    /// attached with [`create_adapters`](crate::DatabaseFactoryExt::create_adapters).
    ///
    /// # Errors
    /// `Config`: no function was attached, or it makes another type.
    pub fn adapters<A: Send + Sync + 'static>(&self) -> Result<A> {
        let made = self.create.as_ref().map(|create| (create.0)(self.clone()));
        made.and_then(|any| any.downcast().ok()).map(|adapters| *adapters).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "no adapters of type `{}`; attach a function that makes them with `create_adapters`",
                    type_name::<A>()
                ),
            )
            .with_tenant(self.tenant())
        })
    }

    /// Attaches the function behind [`DataAdapters::adapters`] to this handle.
    #[must_use]
    pub fn with_create_adapters(mut self, create: CreateAdapters) -> Self {
        self.create = Some(create);
        self
    }

    /// Revokes the handle in every clone, waits up to `drain` for what runs, then closes the
    /// database. Already closed: does nothing.
    ///
    /// # Errors
    /// `InUse`: a transaction or stream was still open after `drain`. The handle stays revoked and
    /// is fenced: no further statement or commit of that transaction is let through.
    pub async fn close(&self, drain: Duration) -> Result<()> {
        self.park().close(drain).await
    }

    fn lane(&self) -> Lane<'_> {
        Lane { inner: &self.inner, connection: &self.inner.primary, reads: None }
    }

    /// The same, without counting as a user of it.
    pub(crate) fn park(&self) -> Parked {
        Parked { inner: Arc::clone(&self.inner), create: self.create.clone() }
    }
}

impl Clone for DataAdapters {
    fn clone(&self) -> Self {
        self.inner.gate.add_user();
        Self { inner: Arc::clone(&self.inner), create: self.create.clone() }
    }
}

impl Drop for DataAdapters {
    fn drop(&mut self) {
        self.inner.gate.remove_user();
    }
}

impl fmt::Debug for DataAdapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataAdapters")
            .field("tenant", self.tenant())
            .field("provider", &self.provider())
            .field("generation", &self.stamp().generation)
            .field("schema_version", &self.schema_version())
            .field("revoked", &self.is_revoked())
            .finish_non_exhaustive()
    }
}

impl ReadAdapters {
    /// Whose database this is.
    pub fn tenant(&self) -> &TenantId {
        self.data.tenant()
    }

    fn lane(&self) -> Lane<'_> {
        let inner = &self.data.inner;
        let connection = inner.read.as_ref().unwrap_or(&inner.primary);
        Lane { inner, connection, reads: Some(inner.read_only) }
    }
}

/// A function that makes an application's own adapters (repositories, services) over a tenant's
/// database.
#[derive(Clone)]
pub struct CreateAdapters(Arc<dyn Fn(DataAdapters) -> Box<dyn Any + Send + Sync> + Send + Sync>);

impl CreateAdapters {
    /// Wraps `create`. It runs once per [`DataAdapters::adapters`] call and should be cheap.
    pub fn new<A: Send + Sync + 'static>(
        create: impl Fn(DataAdapters) -> A + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |data| Box::new(create(data))))
    }
}

impl fmt::Debug for CreateAdapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreateAdapters")
    }
}

/// An open database that waits for its next user: what a cache keeps, and what can be revoked.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    inner: Arc<Inner>,
    create: Option<CreateAdapters>,
}

impl Parked {
    pub(crate) fn lend(&self) -> DataAdapters {
        self.inner.gate.add_user();
        DataAdapters { inner: Arc::clone(&self.inner), create: self.create.clone() }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.inner.gate
    }

    /// Keeps `hold` until the connections are closed.
    pub(crate) fn hold(&self, hold: impl Any + Send + Sync) {
        self.inner.session.hold(hold);
    }

    pub(crate) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(weak: &std::sync::Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(|inner| Self { inner, create: None })
    }

    /// As [`DataAdapters::close`].
    pub(crate) async fn close(&self, drain: Duration) -> Result<()> {
        let inner = &*self.inner;
        inner.gate.revoke();
        if !inner.gate.drained(drain).await {
            inner.gate.fence();
            return Err(Error::new(
                ErrorKind::InUse,
                format!("a transaction or stream was still open after {drain:?}"),
            )
            .with_tenant(&inner.tenant)
            .with_provider(inner.provider));
        }
        inner.session.close().await;
        Ok(())
    }
}

/// The rows of one query as they come. Counts as in use until it is dropped.
pub struct DataStream<'a> {
    // In this order: the rows let go of the database before the gate is told that they have.
    rows: BoxStream<'a, Result<QueryResult, DbErr>>,
    #[expect(dead_code, reason = "held for its drop")]
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
        self.rows.poll_next_unpin(context)
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
                self.lane().connection.backend()
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
                self.lane().connection.backend()
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
