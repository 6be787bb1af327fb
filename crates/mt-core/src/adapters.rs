use std::{
    any::{Any, type_name},
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use sea_orm::{DbErr, ExecResult};

use crate::{
    Connection, Connections, DeploymentId, Error, ErrorKind, Opening, ReadOnly, Result, Stamp,
    Step, TenantId, batch::Batch, driver::Way, gate::Gate, lane::Lane, session::Session,
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
    pub(crate) provider: &'static str,
    pub(crate) row: StampRow,
    pub(crate) opened_at: Instant,
    pub(crate) primary: Connections,
    pub(crate) read: Option<Connections>,
    pub(crate) read_only: ReadOnly,
    pub(crate) session: Session,
}

impl DataAdapters {
    /// Opens a tenant's database over `connections`, checking that it is `tenant`'s in `deployment`.
    /// The only way to make a handle; [`DataAdapters::opening`] is the same with more to say.
    ///
    /// # Errors
    /// As [`Opening::open`].
    pub async fn open(
        tenant: &TenantId,
        deployment: DeploymentId,
        connections: impl Into<Connections>,
    ) -> Result<Self> {
        Self::opening(tenant, deployment, connections).open().await
    }

    /// Begins to open a tenant's database over `connections`.
    pub fn opening(
        tenant: &TenantId,
        deployment: DeploymentId,
        connections: impl Into<Connections>,
    ) -> Opening {
        Opening::new(tenant, deployment, connections.into())
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

    /// Runs all steps as one atomic unit, in order; also where there are no interactive
    /// transactions. Answers one result per statement.
    ///
    /// A step is a [`Statement`](sea_orm::Statement), or one with a guard: see [`Step`]. The guide's
    /// page on transactions has what they are for.
    ///
    /// # Errors
    /// The database's for the first statement that failed: none took effect. Ours (see
    /// [`Error::in_db_err`]):
    ///
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `Conflict` | a guard does not hold; nothing took effect | yes, after reading again |
    /// | `Unsupported` | a refused statement, or a guard on what cannot be guarded | no |
    /// | `TenantNotActive` | the handle is revoked | no |
    ///
    /// A server's refusal to serialize a batch with a condition is the database's error.
    pub async fn batch<S: Into<Step>>(
        &self,
        steps: impl IntoIterator<Item = S> + Send,
    ) -> Result<Vec<ExecResult>, DbErr> {
        let steps: Vec<Step> = steps.into_iter().map(Into::into).collect();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let lane = self.lane();
        let batch = Batch::new(steps, &lane)?;
        if let Connections::One(Connection::Driver(driver)) = lane.connections {
            let _pass = lane.enter().await?;
            return batch.send(&**driver).await;
        }
        let options = batch.options(lane.connections.backend());
        batch.run(lane.begin(options).await?).await
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// The database's, or ours for a revoked handle.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let lane = self.lane();
        let (pass, way) = lane.enter().await?;
        match way {
            Way::SeaOrm(connection) => pass.run(connection.ping()).await,
            Way::Driver(driver) => driver.ping().await,
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

    pub(crate) fn lane(&self) -> Lane<'_> {
        Lane { inner: &self.inner, connections: &self.inner.primary, reads: None }
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

    pub(crate) fn lane(&self) -> Lane<'_> {
        let inner = &self.data.inner;
        let connections = inner.read.as_ref().unwrap_or(&inner.primary);
        Lane { inner, connections, reads: Some(inner.read_only) }
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
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), create: None }
    }

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

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(weak: &Weak<Inner>) -> Option<Self> {
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
