//! One group of migrations on one connection.

use std::time::{Duration, Instant};

use mt_core::{Error, ErrorKind};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};
use sea_orm_migration::{MigrationTrait, SchemaManager};

use crate::{
    failure::{Failure, Fault},
    foreign_keys::{self, Orphans},
    ledger::Ledger,
    status::SchemaStatus,
};

/// The key of the advisory lock that keeps migrators of one PostgreSQL database apart: the bytes of
/// `mtmigr`. Such locks belong to a database, so tenants do not wait for each other.
const ADVISORY_LOCK: i64 = 0x6d74_6d69_6772;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    /// What is being done to a migration, for a message.
    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Up => "applying",
            Self::Down => "rolling back",
        }
    }
}

/// Migrations that are done as one: in one transaction, or a single one outside of any.
#[derive(Clone)]
pub(crate) struct Group<'a> {
    pub(crate) alone: bool,
    pub(crate) migrations: Vec<&'a dyn MigrationTrait>,
}

impl<'a> Group<'a> {
    /// Cuts migrations into groups, keeping their order: as few as those allow that opted out of
    /// transactions.
    pub(crate) fn cut(migrations: impl IntoIterator<Item = &'a dyn MigrationTrait>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for migration in migrations {
            let alone = migration.use_transaction() == Some(false);
            match groups.last_mut() {
                Some(group) if !alone && !group.alone => group.migrations.push(migration),
                _ => groups.push(Self { alone, migrations: vec![migration] }),
            }
        }
        groups
    }

    /// What of the group is left to do where the ledger has the names in `applied`.
    pub(crate) fn left_of(&self, applied: &[String], direction: Direction) -> Self {
        let mut left = self.clone();
        left.migrations.retain(|migration| {
            let is_applied = applied.iter().any(|name| name == migration.name());
            is_applied == (direction == Direction::Down)
        });
        left
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.migrations.iter().map(|migration| migration.name().to_owned()).collect()
    }
}

/// What a group came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ran: Vec<String>,
    /// Those of `ran` that were not one atomic unit with their record.
    pub(crate) not_atomic: Vec<String>,
    /// The names in the ledger.
    pub(crate) ledger: Vec<String>,
}

/// How long one waits for another migrator of the same database before asking again. Not in a
/// transaction: what cannot be one, such as `CREATE INDEX CONCURRENTLY`, waits for every transaction
/// there is, and each would wait for the other.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one waits for another migrator at most. It may be a tenant's own SQL that took the lock.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

async fn pause(began: Instant) -> Result<(), Fault> {
    if began.elapsed() >= PATIENCE {
        return Err(Fault::Crowded);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// The statement, if there is one, that records beside the database what is applied.
pub(crate) type Record<'a> =
    dyn Fn(&[String]) -> Result<Option<Statement>, Error> + Send + Sync + 'a;

/// Does groups on a connection that nobody else uses.
pub(crate) struct Session<'a> {
    db: &'a DatabaseConnection,
    ledger: &'a Ledger,
    known: &'a [String],
    direction: Direction,
    record: &'a Record<'a>,
}

impl<'a> Session<'a> {
    /// # Errors
    /// `Unsupported`: a backend that is neither SQLite nor PostgreSQL.
    pub(crate) fn new(
        db: &'a DatabaseConnection,
        ledger: &'a Ledger,
        known: &'a [String],
        direction: Direction,
        record: &'a Record<'a>,
    ) -> Result<Self, Error> {
        match db.get_database_backend() {
            DbBackend::Sqlite | DbBackend::Postgres => {
                Ok(Self { db, ledger, known, direction, record })
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("migrations run on SQLite and PostgreSQL, not on {}", other.as_str()),
            )),
        }
    }

    /// Does what of `group` the ledger says is left to do.
    pub(crate) async fn run(&self, group: &Group<'_>) -> Result<Outcome, Failure> {
        let untouched = |fault| Failure { fault, stays: false, earlier: Vec::new() };
        if self.db.get_database_backend() != DbBackend::Sqlite {
            return self.run_group(group).await;
        }
        let were_on =
            foreign_keys::are_on(self.db).await.map_err(|e| untouched(Fault::Begin(e)))?;
        foreign_keys::switch(self.db, false).await.map_err(|e| untouched(Fault::Begin(e)))?;
        let outcome = self.run_group(group).await;
        if were_on && let Err(error) = foreign_keys::switch(self.db, true).await {
            tracing::warn!(error = %error, "foreign keys could not be switched on again");
        }
        outcome
    }

    async fn run_group(&self, group: &Group<'_>) -> Result<Outcome, Failure> {
        if group.alone {
            return self.run_alone(group).await;
        }
        self.run_together(group).await.map_err(|fault| Failure {
            fault,
            stays: false,
            earlier: Vec::new(),
        })
    }

    /// A transaction that no other migrator of the database is in.
    async fn begin(&self) -> Result<DatabaseTransaction, Fault> {
        let began = Instant::now();
        loop {
            let transaction =
                self.db.begin_with_options(immediate()).await.map_err(Fault::Begin)?;
            if self.try_lock(&transaction, "pg_try_advisory_xact_lock").await? {
                return Ok(transaction);
            }
            transaction.rollback().await.map_err(Fault::Begin)?;
            pause(began).await?;
        }
    }

    /// Whether no other migrator has the database. SQLite needs no such lock: a migrating transaction
    /// begins with the write lock.
    async fn try_lock<C: ConnectionTrait>(&self, db: &C, function: &str) -> Result<bool, Fault> {
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(true);
        }
        let sql = format!("SELECT {function}({ADVISORY_LOCK})");
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
        let is_ours = row.and_then(|row| row.map_or(Ok(false), |row| row.try_get_by_index(0)));
        is_ours.map_err(Fault::Begin)
    }

    async fn run_together(&self, group: &Group<'_>) -> Result<Outcome, Fault> {
        let transaction = self.begin().await?;
        match self.run_inside(&transaction, group).await {
            Ok(outcome) => {
                // SQLite commits in this process and knows how it ended. A server's answer can get
                // lost.
                let known = self.db.get_database_backend() == DbBackend::Sqlite;
                transaction.commit().await.map_err(|source| Fault::Commit {
                    names: group.names(),
                    source,
                    known,
                })?;
                Ok(outcome)
            }
            Err(fault) => {
                if let Err(error) = transaction.rollback().await {
                    tracing::warn!(error = %error, "a failed migration's transaction did not roll back cleanly");
                }
                Err(fault)
            }
        }
    }

    async fn run_inside(
        &self,
        transaction: &DatabaseTransaction,
        group: &Group<'_>,
    ) -> Result<Outcome, Fault> {
        let (mut applied, left) = self.left_of(transaction, group).await?;
        if left.migrations.is_empty() {
            return Ok(Outcome { ran: Vec::new(), not_atomic: Vec::new(), ledger: applied });
        }
        let before = self.orphans_before(transaction).await;
        let manager = SchemaManager::new(transaction);
        for migration in &left.migrations {
            self.run_one(&manager, *migration).await?;
            self.note(transaction, migration.name(), &mut applied).await?;
        }
        self.record(transaction, &applied).await?;
        let ran = left.names();
        self.check_orphans(transaction, &before, &ran).await?;
        Ok(Outcome { ran, not_atomic: Vec::new(), ledger: applied })
    }

    async fn run_alone(&self, group: &Group<'_>) -> Result<Outcome, Failure> {
        let untouched = |fault| Failure { fault, stays: false, earlier: Vec::new() };
        let began = Instant::now();
        while !self.try_lock(self.db, "pg_try_advisory_lock").await.map_err(untouched)? {
            pause(began).await.map_err(untouched)?;
        }
        if self.db.get_database_backend() == DbBackend::Postgres {
            // Such a migration holds nobody up while it waits for others, and may have to wait long.
            let patient = self.db.execute_unprepared("SET lock_timeout = 0").await;
            patient.map_err(|e| untouched(Fault::Begin(e)))?;
        }
        let outcome = self.run_locked(group).await;
        if self.db.get_database_backend() == DbBackend::Postgres {
            let unlock = format!("SELECT pg_advisory_unlock({ADVISORY_LOCK})");
            if let Err(error) = self.db.execute_unprepared(&unlock).await {
                // The server lets go of it with the session.
                tracing::debug!(error = %error, "a migrator's lock was not let go of");
            }
        }
        outcome
    }

    async fn run_locked(&self, group: &Group<'_>) -> Result<Outcome, Failure> {
        let failure = |stays| move |fault| Failure { fault, stays, earlier: Vec::new() };
        let (mut applied, left) = self.left_of(self.db, group).await.map_err(failure(false))?;
        if left.migrations.is_empty() {
            return Ok(Outcome { ran: Vec::new(), not_atomic: Vec::new(), ledger: applied });
        }
        let before = self.orphans_before(self.db).await;
        let manager = SchemaManager::new(self.db);
        let ran = left.names();
        for migration in &left.migrations {
            let failure = failure(true);
            self.run_one(&manager, *migration).await.map_err(failure)?;
            self.check_orphans(self.db, &before, &ran).await.map_err(failure)?;
            self.note(self.db, migration.name(), &mut applied).await.map_err(failure)?;
            self.record(self.db, &applied).await.map_err(failure)?;
        }
        Ok(Outcome { not_atomic: ran.clone(), ran, ledger: applied })
    }

    /// Reads the ledger anew, now that nobody else changes it, and answers it with what of `group` it
    /// leaves to do.
    async fn left_of<'g, C: ConnectionTrait>(
        &self,
        db: &C,
        group: &Group<'g>,
    ) -> Result<(Vec<String>, Group<'g>), Fault> {
        if db.get_database_backend() == DbBackend::Sqlite
            && foreign_keys::are_on(db).await.map_err(Fault::Begin)?
        {
            return Err(Fault::Pooled);
        }
        let applied = self.ledger.open(db).await.map_err(|e| self.ledger_fault(e))?;
        let left = group.left_of(&applied, self.direction);
        if self.direction == Direction::Down {
            refuse_newer(&SchemaStatus::new(self.known, &applied), &left.names())?;
        }
        Ok((applied, left))
    }

    async fn run_one(
        &self,
        manager: &SchemaManager<'_>,
        migration: &dyn MigrationTrait,
    ) -> Result<(), Fault> {
        let done = match self.direction {
            Direction::Up => migration.up(manager).await,
            Direction::Down => migration.down(manager).await,
        };
        done.map_err(|source| Fault::Migration {
            verb: self.direction.verb(),
            name: migration.name().to_owned(),
            source,
        })
    }

    async fn note<C: ConnectionTrait>(
        &self,
        db: &C,
        name: &str,
        applied: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let noted = match self.direction {
            Direction::Up => {
                applied.push(name.to_owned());
                self.ledger.record(db, name).await
            }
            Direction::Down => {
                applied.retain(|other| other != name);
                self.ledger.erase(db, name).await
            }
        };
        noted.map_err(|e| self.ledger_fault(e))
    }

    async fn record<C: ConnectionTrait>(&self, db: &C, applied: &[String]) -> Result<(), Fault> {
        match (self.record)(applied).map_err(|error| Fault::Record(error.into_db_err()))? {
            Some(statement) => db.execute_raw(statement).await.map(drop).map_err(Fault::Record),
            None => Ok(()),
        }
    }

    /// Records what is applied, where nothing was left to do and the record says otherwise.
    pub(crate) async fn mend_record(&self) -> Result<(), Failure> {
        let untouched = |fault| Failure { fault, stays: false, earlier: Vec::new() };
        let mend = async {
            let transaction = self.begin().await?;
            let applied = self.ledger.open(&transaction).await.map_err(|e| self.ledger_fault(e))?;
            self.record(&transaction, &applied).await?;
            transaction.commit().await.map_err(Fault::Record)
        };
        mend.await.map_err(untouched)
    }

    /// Where foreign keys do not fit their tables, SQLite cannot count. Such a schema may be just
    /// what a migration is about to mend; afterwards it must be countable and without a fault.
    async fn orphans_before<C: ConnectionTrait>(&self, db: &C) -> Orphans {
        self.orphans(db).await.unwrap_or_default()
    }

    async fn check_orphans<C: ConnectionTrait>(
        &self,
        db: &C,
        before: &Orphans,
        ran: &[String],
    ) -> Result<(), Fault> {
        let names = || ran.to_vec();
        let after =
            self.orphans(db).await.map_err(|source| Fault::Check { names: names(), source })?;
        let tables = foreign_keys::grown(before, &after);
        if tables.is_empty() { Ok(()) } else { Err(Fault::Orphans { names: names(), tables }) }
    }

    /// PostgreSQL watches foreign keys itself, migrations or not.
    async fn orphans<C: ConnectionTrait>(&self, db: &C) -> Result<Orphans, DbErr> {
        match db.get_database_backend() {
            DbBackend::Sqlite => foreign_keys::orphans(db).await,
            _ => Ok(Orphans::new()),
        }
    }

    fn ledger_fault(&self, source: DbErr) -> Fault {
        Fault::Ledger { ledger: self.ledger.table().to_owned(), source }
    }
}

/// How a migrating transaction begins. The write lock is taken at once: one that begins by reading
/// the ledger could lose it to another migrator between reading and writing.
pub(crate) fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

/// Refuses to roll `names` back from under what a newer program applied after them.
pub(crate) fn refuse_newer(status: &SchemaStatus, names: &[String]) -> Result<(), Fault> {
    let oldest = names.iter().min();
    let newer: Vec<String> = status
        .unknown
        .iter()
        .filter(|name| oldest.is_some_and(|oldest| *name > oldest))
        .cloned()
        .collect();
    if newer.is_empty() { Ok(()) } else { Err(Fault::Newer { names: names.to_vec(), newer }) }
}
