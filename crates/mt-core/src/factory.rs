use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use sea_orm::Statement;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    BackupManifest, Capabilities, Connection, CreateAdapters, DataAdapters, DatabaseName,
    DeploymentId, Forecast, Generation, RestoreOptions, Result, Stamp, TenantId, Work,
    layer::WithCreateAdapters, session::Session, stamp::StampRow,
};

/// Makes, opens, keeps and removes the databases of tenants, one each.
///
/// The promises below hold for every provider; each is a check in `mt-conformance`, named with it.
/// `docs/adr/0001-the-factory-contract.md` walks each method through SQLite, PostgreSQL, Turso and
/// D1.
///
/// Every method may also answer `Config`, `Unauthenticated`, `Unavailable` (no answer, nothing took
/// effect) and `Internal`; the tables name what is particular to it. A transient error is safe to
/// repeat.
#[async_trait]
pub trait DatabaseFactory: fmt::Debug + Send + Sync + 'static {
    /// The provider's registered name, which is also its Cargo feature and URL scheme.
    fn name(&self) -> &'static str;

    /// What this factory can do. Does no I/O. Checked by `capabilities_are_true`.
    fn capabilities(&self) -> Capabilities;

    /// What `work` will cost, where the provider rations requests: how many, and how long that makes
    /// it take. Does no I/O.
    ///
    /// `None`, as here: nothing is rationed, and there is nothing to say beforehand.
    fn forecast(&self, work: Work) -> Option<Forecast> {
        let _ = work;
        None
    }

    /// Opens the database of `tenant`.
    ///
    /// - The stamp has been checked: the handle is this tenant's, of this deployment and of the
    ///   generation that is current. Checked by `a_foreign_database_is_refused`.
    /// - Each call opens anew; [`CachedFactory`](crate::CachedFactory) keeps what is open.
    /// - Creates nothing, whether it succeeds or fails.
    /// - Cancelling closes what was opened.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `TenantNotFound` | there is no database of that name | no |
    /// | `ForeignDatabase` | the stamp is missing or names somebody else | no |
    /// | `Corrupt` | what is there is no database | no |
    /// | `TenantNotActive` | the engine refuses it, because it is suspended | no |
    /// | `InUse` | it is being restored, moved or removed | yes |
    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters>;

    /// Makes the database of `tenant`: created, stamped, and with the context's schema if it has
    /// one.
    ///
    /// - Atomic: on error no half-made database is left under the tenant's name; if cleaning up
    ///   fails, the error says so.
    /// - Idempotent: a database stamped for this tenant is adopted and its data not touched; an
    ///   empty one without a stamp is stamped. An adopted database keeps the schema it has. Checked by `provision_twice_keeps_the_data`.
    /// - Safe to call at once from several processes: all succeed, with one database. Checked by
    ///   `provision_at_once_makes_one_database`.
    /// - Durable when it returns.
    /// - Cancelling may leave the database; the next call adopts it.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `NameTaken` | there is a database with tables and no stamp, or with another's | no |
    /// | `QuotaExceeded` | the disk or the account is full | no |
    /// | `MigrationFailed` | the schema could not be applied | no |
    async fn provision(&self, tenant: &TenantId) -> Result<()>;

    /// Removes the database of `tenant` and everything beside it.
    ///
    /// - Revokes every handle this factory gave out for the tenant, waits for what runs on them,
    ///   and only then removes. No write is acknowledged after that. Checked by
    ///   `deprovision_revokes_open_handles`.
    /// - Idempotent: no database is success. Checked by `deprovision_twice_is_fine`.
    /// - The stamp is checked first: another tenant's database is never removed.
    /// - Cancelling may leave the database or remove it; the next call finishes.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `ForeignDatabase` | the database is not this tenant's; nothing was done | no |
    /// | `InUse` | a transaction, or another process, still uses it; nothing was removed | yes |
    async fn deprovision(&self, tenant: &TenantId) -> Result<()>;

    /// The databases under this factory's prefix, in no particular order, read as they are asked
    /// for. Names under the prefix that this codec did not make are left out. Checked by
    /// `a_provisioned_tenant_is_listed_and_described`.
    fn list(&self) -> BoxStream<'_, Result<DatabaseEntry>>;

    /// What can be read of the tenant's database in one look: stamp, applied migrations, size.
    /// Changes nothing. Checked by `a_provisioned_tenant_is_listed_and_described`.
    ///
    /// # Errors
    /// As [`DatabaseFactory::get_adapters`].
    async fn describe(&self, tenant: &TenantId) -> Result<DatabaseInfo>;

    /// As [`DatabaseFactory::describe`] for each of `tenants`, in their order.
    ///
    /// For looking at a whole fleet. A provider that can look at many at less than so many times
    /// the cost of one does; otherwise they are looked at one after the other, as here. Such a
    /// provider may leave out [`DatabaseInfo::size_bytes`], where telling it takes longer than all
    /// the rest.
    async fn describe_many(&self, tenants: &[TenantId]) -> Vec<Result<DatabaseInfo>> {
        let mut infos = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            infos.push(self.describe(tenant).await);
        }
        infos
    }

    /// What is recorded beside the current database of each of `tenants` of its schema, in their
    /// order, without opening any: one question for all, where the engine has a place for it.
    /// `None`: nothing is recorded.
    ///
    /// Migrations write it in their own transaction. It is a cache of the ledger: who changes the
    /// ledger by other means leaves it behind. Checked by `a_recorded_schema_is_that_of_the_ledger`.
    ///
    /// # Errors
    /// `Unavailable`: the engine, or the store of placements, does not answer.
    async fn recorded_schemas(&self, tenants: &[TenantId]) -> Result<Vec<Option<RecordedSchema>>> {
        Ok(vec![None; tenants.len()])
    }

    /// Does what a provider has to do beside the calls, such as making databases in advance. Whoever
    /// runs the fleet in a process that stays calls it every few seconds; one call at a time is
    /// enough, and nothing depends on it but speed.
    ///
    /// # Errors
    /// What could not be done. The next call begins anew.
    async fn tend(&self) -> Result<()> {
        Ok(())
    }

    /// Opens the tenant's database for changing its schema.
    ///
    /// A connection of its own, with the rights to do so, that no cache shares. While it is open,
    /// nobody can deprovision or restore the tenant. Checked by
    /// `maintenance_keeps_deprovision_and_restore_out` and `exclusive_maintenance_keeps_others_out`.
    ///
    /// # Errors
    /// As [`DatabaseFactory::get_adapters`]. For [`MaintenanceMode::Exclusive`] also `InUse` where
    /// others have the database open and do not let go, and `Unsupported` where
    /// [`Capabilities::exclusive_maintenance`] is not set.
    async fn maintain(&self, tenant: &TenantId, mode: MaintenanceMode) -> Result<Maintenance>;

    /// As [`DatabaseFactory::maintain`], shared, of a database that `describe` told of a moment ago.
    ///
    /// Where each look is a request to somebody else's server, `seen` is taken for the stamp and it
    /// is not read again: whoever changes the schema checks [`Maintenance::stamp`] in the same
    /// atomic unit. Otherwise the database is simply looked at again, as here.
    ///
    /// # Errors
    /// As [`DatabaseFactory::maintain`].
    async fn maintain_described(
        &self,
        tenant: &TenantId,
        seen: &DatabaseInfo,
    ) -> Result<Maintenance> {
        let _ = seen;
        self.maintain(tenant, MaintenanceMode::Shared).await
    }

    /// Makes the engine itself refuse the tenant's connections; `deprovision` goes on working.
    /// `describe`, `maintain` and `backup` do too, or answer `TenantNotActive` where the engine
    /// keeps everybody out. Idempotent. Checked by `suspend_keeps_everybody_out_until_activate`.
    ///
    /// # Errors
    /// `Unsupported` where [`Capabilities::suspend`] is not set; `TenantNotFound`.
    async fn suspend(&self, tenant: &TenantId) -> Result<()>;

    /// Takes [`DatabaseFactory::suspend`] back. Idempotent.
    ///
    /// # Errors
    /// As [`DatabaseFactory::suspend`].
    async fn activate(&self, tenant: &TenantId) -> Result<()>;

    /// Writes a consistent copy of the tenant's database to `sink`, while it is being used, and
    /// tells what it wrote. Checked by `a_backup_while_writing_is_of_one_moment` and
    /// `a_manifest_tells_what_was_written`.
    ///
    /// # Errors
    /// As [`DatabaseFactory::get_adapters`]; `Unsupported` where [`Capabilities::backup`] is not
    /// set; `QuotaExceeded`: no room for the copy. On error what `sink` has is worthless.
    async fn backup(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest>;

    /// Puts the copy in `source` in the place of the tenant's database.
    ///
    /// - The copy is complete, verified against `manifest` and durable before anything of the
    ///   tenant's changes; then the placement switches to a new generation, then the old database
    ///   is removed. Open handles are revoked and drained first, as by `deprovision`. Checked by
    ///   `restore_gives_back_the_rows_of_the_backup` and `restore_revokes_open_handles`.
    /// - The database carries a new stamp afterwards: this tenant's, of the new generation.
    /// - A tenant without a database gets one. Checked by `restore_makes_a_missing_database`.
    /// - Cancelling leaves either the old or the new database in place. Checked by
    ///   `a_cancelled_restore_leaves_a_whole_database`.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `Unsupported` | [`Capabilities::restore`] is not set, or the copy is of another kind of engine | no |
    /// | `ForeignDatabase` | it is a copy of another tenant or deployment, and `options` do not allow that; or what it would replace is not this tenant's, whatever the options | no |
    /// | `Corrupt` | the copy is not what `manifest` says | no |
    /// | `InUse` | as for `deprovision` | yes |
    async fn restore(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        source: &mut (dyn AsyncRead + Send + Unpin),
        options: RestoreOptions,
    ) -> Result<()>;
}

/// A database under a factory's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseEntry {
    /// Its name.
    pub name: DatabaseName,
    /// Whose it is, where the name tells; a name with a hash does not.
    pub tenant: Option<TenantId>,
    /// Which of the tenant's databases, as the name tells.
    pub generation: Generation,
}

impl DatabaseEntry {
    /// The entry of the database `name`.
    pub const fn new(name: DatabaseName, tenant: Option<TenantId>, generation: Generation) -> Self {
        Self { name, tenant, generation }
    }
}

/// What one look at a tenant's database tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// Its name.
    pub name: DatabaseName,
    /// Its stamp, checked.
    pub stamp: Stamp,
    /// The table of the applied migrations, if the context's schema names one.
    pub ledger: Option<String>,
    /// The applied migrations in ascending order; none where no ledger is known.
    pub applied: Vec<String>,
    /// What is recorded beside it, where the engine has a place for that; see
    /// [`DatabaseFactory::recorded_schemas`].
    pub recorded: Option<SchemaRecord>,
    /// How much it takes up, in bytes, where the engine tells.
    pub size_bytes: Option<u64>,
}

impl DatabaseInfo {
    /// The database `name` with its stamp, and nothing more.
    pub const fn new(name: DatabaseName, stamp: Stamp) -> Self {
        Self { name, stamp, ledger: None, applied: Vec::new(), recorded: None, size_bytes: None }
    }

    /// Adds the applied migrations, read from the table `ledger`.
    #[must_use]
    pub fn with_applied(mut self, ledger: impl Into<String>, applied: Vec<String>) -> Self {
        self.ledger = Some(ledger.into());
        self.applied = applied;
        self
    }

    /// Adds what is recorded beside it.
    #[must_use]
    pub fn with_recorded(mut self, recorded: SchemaRecord) -> Self {
        self.recorded = Some(recorded);
        self
    }

    /// Adds its size.
    #[must_use]
    pub const fn with_size_bytes(mut self, size_bytes: u64) -> Self {
        self.size_bytes = Some(size_bytes);
        self
    }
}

/// How far a schema is: what is recorded beside a database, so that it need not be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRecord {
    /// The greatest applied migration.
    pub version: Option<String>,
    /// The [fingerprint](crate::SchemaTemplate::fingerprint) of the schema that it has, exactly.
    /// `None`: it has something else than any program had when it was written.
    pub fingerprint: Option<String>,
}

/// A [`SchemaRecord`], and of which of the tenant's databases it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedSchema {
    /// Of which generation.
    pub generation: Generation,
    /// How far it is.
    pub schema: SchemaRecord,
}

/// Who else may have a database open while its schema is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaintenanceMode {
    /// Everybody: the change is one transaction, and the engine keeps it apart.
    Shared,
    /// Nobody: handles are revoked and drained, other processes are kept out. For changes that
    /// cannot be a transaction.
    Exclusive,
}

/// A tenant's database, opened for changing its schema. Close it when done.
pub struct Maintenance {
    stamp: Stamp,
    connection: Connection,
    session: Session,
    record: Option<Recorder>,
}

type Recorder = Box<dyn Fn(&SchemaRecord) -> Result<Statement> + Send + Sync>;

impl Maintenance {
    /// Reads the stamp of the database over `connection`, and refuses it if it is not `tenant`'s in
    /// `deployment`, or not of `generation`. `hold` is kept until it is closed.
    ///
    /// `connection` is a single one, never replaced by another: migrations change its settings.
    ///
    /// # Errors
    /// As [`Opening::open`](crate::Opening::open).
    pub async fn open(
        tenant: &TenantId,
        deployment: DeploymentId,
        generation: Generation,
        connection: impl Into<Connection>,
        hold: impl Any + Send + Sync,
    ) -> Result<Self> {
        let connection = connection.into();
        let session = Session::new([connection.clone().into()]);
        session.hold(hold);
        let read = StampRow::read(&connection.clone().into(), tenant, None).await;
        match read.and_then(|r| r.stamp.check(deployment, tenant, generation).map(|()| r.stamp)) {
            Ok(stamp) => Ok(Self { stamp, connection, session, record: None }),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// A database over `connection` with a stamp that was checked; `hold` is kept until it is
    /// closed.
    pub fn new(
        stamp: Stamp,
        connection: impl Into<Connection>,
        hold: impl Any + Send + Sync,
    ) -> Self {
        let connection = connection.into();
        let session = Session::new([connection.clone().into()]);
        session.hold(hold);
        Self { stamp, connection, session, record: None }
    }

    /// Says by which statement a schema is recorded beside the database, to be run in the
    /// transaction that changes it.
    #[must_use]
    pub fn with_record(
        mut self,
        record: impl Fn(&SchemaRecord) -> Result<Statement> + Send + Sync + 'static,
    ) -> Self {
        self.record = Some(Box::new(record));
        self
    }

    /// The statement that records `schema`, where there is a place for it.
    ///
    /// # Errors
    /// The provider's: it cannot be written.
    pub fn record(&self, schema: &SchemaRecord) -> Result<Option<Statement>> {
        self.record.as_ref().map(|record| record(schema)).transpose()
    }

    /// Whose database it is.
    pub const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Closes the connection, then lets go of what kept others out. Dropping does the same, without
    /// waiting for it.
    pub async fn close(self) {
        self.session.close().await;
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

/// What can be said of every factory in terms of the trait.
pub trait DatabaseFactoryExt: DatabaseFactory + Sized {
    /// Attaches a function that makes the application's own adapters; every handle this factory
    /// opens then gives them out with [`DataAdapters::adapters`].
    fn create_adapters<A: Send + Sync + 'static>(
        self,
        create: impl Fn(DataAdapters) -> A + Send + Sync + 'static,
    ) -> WithCreateAdapters {
        WithCreateAdapters::new(Arc::new(self), CreateAdapters::new(create))
    }
}

impl<F: DatabaseFactory> DatabaseFactoryExt for F {}
