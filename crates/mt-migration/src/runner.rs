use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;
use mt_core::{
    Connection, DatabaseFactory, DatabaseInfo, Error, ErrorKind, Maintenance, MaintenanceMode,
    Result, SchemaRecord, SchemaTemplate, TenantId,
};
use sea_orm::DbBackend;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::{Failure, kept},
    ledger::Ledger,
    remote::Remote,
    session::{Direction, Group, Outcome, Session, refuse_newer},
    status::{MigrationReport, SchemaStatus},
};

/// Applies the migrations of any SeaORM `Migrator` to one tenant's database.
///
/// Cheap to clone. The factory it is used with must have been given this runner as its
/// [`SchemaTemplate`]: only then does [`DatabaseFactory::describe`] read this ledger.
///
/// How migrations run:
///
/// - In the order of the migrator's vector, all that is pending in one transaction, with their rows
///   in the ledger. A failure leaves the database as it was.
/// - A migration whose `use_transaction()` is `Some(false)` runs outside of a transaction, after what
///   comes before it is committed; on SQLite with the database closed to everybody else. If it
///   fails, what it did stays and it is not recorded; it should be written so that it can be
///   repeated.
/// - Two migrators at once are fine: each reads the ledger again once it holds the engine's lock,
///   and does only what is left.
/// - On SQLite foreign keys are off meanwhile, in both kinds of migration, because rebuilding a
///   table would otherwise delete the rows that refer to it. Instead, a run that leaves more rows
///   without their parent than it found is refused, and taken back if it was a transaction.
/// - A migration in the ledger that this program does not know was applied by a newer one. It is
///   left alone; what is pending is applied beside it, even if its name sorts before.
///
/// On a database that is reached by a [`Driver`](mt_core::Driver):
///
/// - All that is pending leaves as one atomic [batch](mt_core::Driver::batch), one request, behind a
///   guard that compares the whole ledger and the stamp with what was looked at. Whoever was faster
///   is planned around.
/// - A migration that asks for what depends on something it wrote (a read, a returned row, a count)
///   goes on in a transaction, begun under the write lock and behind the same guard, with its row in
///   the ledger. What comes before it leaves as a batch first. A server gives a transaction some
///   seconds; one that ends by itself fails with `Unavailable`, and nothing of it lasts.
/// - Where a driver has no transactions, such a migration runs statement by statement. It, and one
///   that opts out of transactions, is named in [`MigrationReport::not_atomic`]: a failure half way
///   leaves half, and a second migrator is not kept from running its statements, too.
/// - Foreign keys cannot be switched off. Dropping a table that another one refers to is refused
///   with `Unsupported`; to find out costs one request, where a table is dropped at all. So are
///   transactions of a migration's own, and `PRAGMA foreign_keys`.
/// - Cancelling ends the migrations. A batch or a commit that is on its way may still take effect,
///   as a whole.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    migrations: Vec<Box<dyn MigrationTrait>>,
    names: Vec<String>,
    ledger: Ledger,
    fingerprint: String,
}

impl Runner {
    /// The runner of migrator `M`.
    ///
    /// # Errors
    /// `Config`: two migrations have the same name.
    pub fn of<M: MigratorTrait>() -> Result<Self> {
        Self::new(M::migration_table_name().to_string(), M::migrations())
    }

    /// The runner of `migrations`, recorded in the table `ledger`.
    ///
    /// For a migrator that is a value, SeaORM's `MigratorTraitSelf`.
    ///
    /// # Errors
    /// `Config`: two migrations have the same name.
    pub fn new(
        ledger: impl Into<String>,
        migrations: Vec<Box<dyn MigrationTrait>>,
    ) -> Result<Self> {
        let names: Vec<String> =
            migrations.iter().map(|migration| migration.name().to_owned()).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("two migrations are named `{twice}`; only one of them would ever run"),
            ));
        }
        let ledger = ledger.into();
        let fingerprint = fingerprint(&ledger, &names);
        Ok(Self(Arc::new(Inner { migrations, names, ledger: Ledger::new(ledger), fingerprint })))
    }

    /// The migrations' names, in the order in which they are applied.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// The table in which applied migrations are recorded.
    pub fn ledger(&self) -> &str {
        self.0.ledger.table()
    }

    /// The greatest name: the schema version of a database that has everything.
    pub fn latest(&self) -> Option<&str> {
        self.0.names.iter().max().map(String::as_str)
    }

    /// Tells two schemas apart: SHA-256 over the ledger's and the migrations' names, in lower-case
    /// hexadecimal. What a migration does is not in it; a released migration must not be edited.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// How far a database is in which `applied` are applied.
    pub fn compare(&self, applied: &[String]) -> SchemaStatus {
        SchemaStatus::new(&self.0.names, applied)
    }

    /// What is recorded of a database in which `applied` are applied.
    pub(crate) fn record_of(&self, applied: &[String]) -> SchemaRecord {
        let status = self.compare(applied);
        let is_this = status.pending.is_empty() && status.unknown.is_empty();
        SchemaRecord {
            version: status.schema_version,
            fingerprint: is_this.then(|| self.0.fingerprint.clone()),
        }
    }

    /// How far the tenant's database is, in one look.
    ///
    /// # Errors
    /// As [`DatabaseFactory::describe`]; `Config`: the factory was given no schema, or one with
    /// another ledger.
    pub async fn status(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
    ) -> Result<SchemaStatus> {
        self.read_status(factory, tenant, &factory.describe(tenant).await?)
    }

    /// As [`Runner::status`] for each of `tenants`, in their order, as cheaply as the engine can.
    pub async fn status_many(
        &self,
        factory: &dyn DatabaseFactory,
        tenants: &[TenantId],
    ) -> Vec<Result<SchemaStatus>> {
        let infos = factory.describe_many(tenants).await;
        let read = |(tenant, info): (&TenantId, Result<DatabaseInfo>)| {
            info.and_then(|info| self.read_status(factory, tenant, &info))
        };
        tenants.iter().zip(infos).map(read).collect()
    }

    fn read_status(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        info: &DatabaseInfo,
    ) -> Result<SchemaStatus> {
        if info.ledger.as_deref() == Some(self.ledger()) {
            return Ok(SchemaStatus::of(&self.0.names, info));
        }
        let read = info.ledger.as_ref().map_or("no ledger".to_owned(), |l| format!("ledger `{l}`"));
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "the factory reads {read}, expected ledger `{}`; give its context this schema",
                self.ledger()
            ),
        )
        .with_tenant(tenant)
        .with_provider(factory.name()))
    }

    /// Applies what is pending. Nothing pending: one look, and nothing is opened.
    ///
    /// # Errors
    /// | kind | when | transient | source |
    /// |---|---|---|---|
    /// | `MigrationFailed` | a migration failed; the message names it and says what is kept | no | the database's |
    /// | `Unavailable` | the transaction could not be begun; on a driver: or it ended by itself | yes | the database's |
    /// | `OutcomeUnknown` | the answer to the commit was lost; repeating `up` is safe | no | the database's |
    /// | `Unsupported` | on a driver: what it cannot do, see [`Runner`]; nothing was done | no | |
    /// | `Conflict` | on a driver: other migrators were faster again and again | yes | |
    ///
    /// And as [`DatabaseFactory::describe`] and [`DatabaseFactory::maintain`].
    pub async fn up(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
    ) -> Result<MigrationReport> {
        let status = self.status(factory, tenant).await?;
        self.up_from(factory, tenant, &status).await
    }

    /// [`Runner::up`] for whoever has looked already: `status` is not read again. It may be
    /// outdated; the ledger is read anew, or compared with it, before anything is done.
    ///
    /// # Errors
    /// As [`Runner::up`].
    pub async fn up_from(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        status: &SchemaStatus,
    ) -> Result<MigrationReport> {
        let pending = self.select(&status.pending);
        if pending.is_empty() {
            self.mend_record(factory, tenant, status).await?;
        }
        self.run(factory, tenant, Direction::Up, pending, status).await
    }

    /// [`Runner::up`] where it is known, from
    /// [`recorded_schemas`](DatabaseFactory::recorded_schemas), that the database is behind: the
    /// ledger is read over the connection that migrates, and by no look of its own.
    ///
    /// # Errors
    /// As [`Runner::up`].
    pub async fn up_behind(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
    ) -> Result<MigrationReport> {
        let all = self.select(&self.0.names);
        let report = self.run(factory, tenant, Direction::Up, all, &self.compare(&[])).await?;
        // Then it is not as recorded.
        if report.ran.is_empty() { self.up(factory, tenant).await } else { Ok(report) }
    }

    /// Records beside the database what its ledger says, where the record says something else.
    async fn mend_record(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        status: &SchemaStatus,
    ) -> Result<()> {
        let Some(recorded) = status.seen.as_ref().and_then(|info| info.recorded.as_ref()) else {
            return Ok(());
        };
        if *recorded == self.record_of(&status.ledger()) {
            return Ok(());
        }
        tracing::info!(tenant = %tenant, "what is recorded of the schema is mended");
        let maintenance = factory.maintain(tenant, MaintenanceMode::Shared).await?;
        let mended = match maintenance.connection() {
            Connection::SeaOrm(db) => {
                let record = |applied: &[String]| maintenance.record(&self.record_of(applied));
                let (ledger, names) = (&self.0.ledger, &self.0.names);
                let session = Session::new(db, ledger, names, Direction::Up, &record);
                match session {
                    Ok(session) => session.mend_record().await.map_err(Error::from),
                    Err(error) => Err(error),
                }
            }
            // No driver has a place for it.
            Connection::Driver(_) => Ok(()),
        };
        maintenance.close().await;
        mended.map_err(|e| e.with_tenant(tenant).with_provider(factory.name()))
    }

    /// Rolls the last `steps` applied migrations back, newest first; fewer if there are fewer.
    ///
    /// Two at once that saw the same database roll the same migrations back, once.
    ///
    /// # Errors
    /// As [`Runner::up`]; and `Unsupported`, with nothing done, if a newer program applied
    /// migrations after one of them.
    pub async fn down(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        steps: u32,
    ) -> Result<MigrationReport> {
        let status = self.status(factory, tenant).await?;
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let names: Vec<String> = status.applied.iter().rev().take(steps).cloned().collect();
        refuse_newer(&status, &names).map_err(|fault| {
            Error::from(Failure { fault, stays: false, earlier: Vec::new() })
                .with_tenant(tenant)
                .with_provider(factory.name())
        })?;
        let mut chosen = self.select(&names);
        chosen.reverse();
        self.run(factory, tenant, Direction::Down, chosen, &status).await
    }

    /// The migrations named, in the order in which they are applied.
    fn select(&self, names: &[String]) -> Vec<&dyn MigrationTrait> {
        let all = self.0.migrations.iter().map(|migration| &**migration as &dyn MigrationTrait);
        all.filter(|migration| names.iter().any(|name| name == migration.name())).collect()
    }

    /// The migration named.
    pub(crate) fn find(&self, name: &str) -> Option<&dyn MigrationTrait> {
        let found = self.0.migrations.iter().find(|migration| migration.name() == name);
        found.map(|migration| &**migration as &dyn MigrationTrait)
    }

    pub(crate) fn ledger_table(&self) -> &Ledger {
        &self.0.ledger
    }

    async fn run(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        direction: Direction,
        migrations: Vec<&dyn MigrationTrait>,
        status: &SchemaStatus,
    ) -> Result<MigrationReport> {
        let mut seen = status.clone();
        let (mut ran, mut not_atomic) = (Vec::new(), Vec::new());
        for group in Group::cut(migrations) {
            let group = group.left_of(&seen.ledger(), direction);
            if group.migrations.is_empty() {
                continue;
            }
            let maintenance = match self.open(factory, tenant, &group, &seen).await {
                Err(error) if !ran.is_empty() => {
                    let message = format!("the migrations stopped{}", kept(&ran));
                    return Err(Error::new(error.kind(), message)
                        .with_tenant(tenant)
                        .with_provider(factory.name())
                        .with_source(error));
                }
                maintenance => maintenance?,
            };
            let place = Place {
                connection: maintenance.connection(),
                maintenance: Some(&maintenance),
                ledger: seen.ledger(),
            };
            let outcome = self.run_on(place, direction, &group, &ran).await;
            maintenance.close().await;
            let outcome =
                outcome.map_err(|e| e.with_tenant(tenant).with_provider(factory.name()))?;
            for name in &outcome.ran {
                tracing::info!(
                    tenant = %tenant, provider = factory.name(), migration = name,
                    direction = ?direction, atomic = !outcome.not_atomic.contains(name), "migrated"
                );
            }
            ran.extend(outcome.ran);
            not_atomic.extend(outcome.not_atomic);
            let info =
                seen.seen.map(|info| info.with_applied(self.ledger(), outcome.ledger.clone()));
            seen = SchemaStatus { seen: info, ..self.compare(&outcome.ledger) };
        }
        let schema_version = seen.schema_version;
        Ok(MigrationReport { tenant: tenant.clone(), ran, not_atomic, schema_version })
    }

    /// Opens the database for `group`: with nobody else in it where the group is not a transaction
    /// and the engine can keep others out.
    async fn open(
        &self,
        factory: &dyn DatabaseFactory,
        tenant: &TenantId,
        group: &Group<'_>,
        seen: &SchemaStatus,
    ) -> Result<Maintenance> {
        let can_exclude = factory.capabilities().exclusive_maintenance;
        let maintenance = match &seen.seen {
            _ if group.alone && can_exclude => {
                return factory.maintain(tenant, MaintenanceMode::Exclusive).await;
            }
            Some(info) => factory.maintain_described(tenant, info).await?,
            None => factory.maintain(tenant, MaintenanceMode::Shared).await?,
        };
        // SQLite would let others into what is half done. A server keeps them apart itself, and such
        // a migration is there to go on beside them.
        let connection = maintenance.connection();
        let is_file = connection.backend() == DbBackend::Sqlite;
        if group.alone && is_file && matches!(connection, Connection::SeaOrm(_)) {
            maintenance.close().await;
            return Err(Error::unsupported(
                factory.name(),
                "keep others out, which a migration outside of transactions needs",
            )
            .with_tenant(tenant));
        }
        Ok(maintenance)
    }

    async fn run_on(
        &self,
        place: Place<'_>,
        direction: Direction,
        group: &Group<'_>,
        earlier: &[String],
    ) -> Result<Outcome> {
        let outcome = match place.connection {
            Connection::SeaOrm(db) => {
                let record = |applied: &[String]| match place.maintenance {
                    Some(maintenance) => maintenance.record(&self.record_of(applied)),
                    None => Ok(None),
                };
                let (ledger, names) = (&self.0.ledger, &self.0.names);
                Session::new(db, ledger, names, direction, &record)?.run(group).await
            }
            Connection::Driver(driver) => {
                let stamp = place.maintenance.map(Maintenance::stamp);
                let remote = Remote::new(&**driver, self, direction, stamp)?;
                remote.run(group, place.ledger).await
            }
        };
        outcome.map_err(|failure| {
            let earlier = [earlier, failure.earlier.as_slice()].concat();
            Failure { earlier, ..failure }.into()
        })
    }
}

/// Where a group runs.
struct Place<'a> {
    connection: &'a Connection,
    /// The tenant's database that it is of, where it is one's.
    maintenance: Option<&'a Maintenance>,
    /// The names in its ledger, as far as is known.
    ledger: Vec<String>,
}

#[async_trait]
impl SchemaTemplate for Runner {
    fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    fn ledger(&self) -> &str {
        self.0.ledger.table()
    }

    fn record(&self) -> SchemaRecord {
        self.record_of(&self.0.names)
    }

    /// Runs all migrations as [`Runner::up`] does, but on `connection`, which must be a single one
    /// that nobody else uses, or a driver. Foreign keys are as they were afterwards.
    async fn apply(&self, connection: &Connection) -> Result<()> {
        let (mut ran, mut ledger) = (Vec::new(), Vec::new());
        for group in Group::cut(self.select(&self.0.names)) {
            let place = Place { connection, maintenance: None, ledger };
            let outcome = self.run_on(place, Direction::Up, &group, &ran).await?;
            ran.extend(outcome.ran);
            ledger = outcome.ledger;
        }
        Ok(())
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("ledger", &self.ledger())
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

fn fingerprint(ledger: &str, names: &[String]) -> String {
    let mut hash = Sha256::new();
    for text in std::iter::once(ledger).chain(names.iter().map(String::as_str)) {
        // The length keeps `ab`, `c` and `a`, `bc` apart.
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::{DbErr, MigrationName, SchemaManager};

    use super::*;
    use crate::Migrator;

    struct Named(&'static str);

    impl MigrationName for Named {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[async_trait]
    #[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
    impl MigrationTrait for Named {
        async fn up(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
            Ok(())
        }
    }

    fn runner(ledger: &str, names: &[&'static str]) -> Result<Runner> {
        let boxed = |name: &&'static str| Box::new(Named(name)) as Box<dyn MigrationTrait>;
        Runner::new(ledger, names.iter().map(boxed).collect())
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert_eq!(runner("l", &["a", "b", "a"]).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn it_keeps_the_migrators_order() {
        let runner = runner("l", &["b", "a"]).unwrap();
        assert_eq!(runner.names(), ["b", "a"]);
        assert_eq!(runner.latest(), Some("b"));
        assert_eq!(runner.compare(&[]).pending, ["b", "a"]);
    }

    #[test]
    fn it_tells_applied_pending_and_unknown_apart() {
        let status = runner("l", &["a", "b", "c"]).unwrap().compare(&texts(&["z", "a", "c", "x"]));
        assert_eq!(status.applied, ["a", "c"]);
        assert_eq!(status.pending, ["b"]);
        assert_eq!(status.unknown, ["x", "z"]);
        assert_eq!(status.schema_version.as_deref(), Some("z"));
        assert!(!status.is_current());
    }

    #[test]
    fn a_database_of_a_newer_program_is_current() {
        assert!(runner("l", &["a"]).unwrap().compare(&texts(&["a", "b"])).is_current());
    }

    #[test]
    fn fingerprints_tell_ledger_names_and_order_apart() {
        let prints = [
            runner("l", &["a", "b"]),
            runner("l", &["b", "a"]),
            runner("l", &["ab"]),
            runner("l", &["a"]),
            runner("la", &["b"]),
        ]
        .map(|runner| runner.unwrap().fingerprint().to_owned());
        let distinct: HashSet<&String> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert!(prints.iter().all(|print| print.len() == 64), "{prints:?}");
        let again = runner("l", &["a", "b"]).unwrap();
        assert_eq!(again.fingerprint(), prints[0]);
    }

    #[test]
    fn the_reference_migrator_is_named_after_its_files() {
        let runner = Runner::of::<Migrator>().unwrap();
        assert_eq!(runner.ledger(), "seaql_migrations");
        assert!(runner.names().is_sorted());
        assert_eq!(runner.names()[0], "m20260901_000001_create_users");
        assert_eq!(runner.latest(), Some("m20260901_000006_normalize_emails"));
    }
}
