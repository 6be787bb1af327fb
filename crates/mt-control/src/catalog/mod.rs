//! The database of databases: which tenants there are, where each is in its life, and where its
//! database is.

mod entity;
mod migration;
mod placements;
mod record;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use mt_core::{
    Connection, DeploymentId, Error, ErrorKind, FactoryContext, Generation, Result,
    SchemaTemplate as _, TenantId, TenantState,
};
use mt_migration::Runner;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, RuntimeErr, SqlErr, SqlxSqliteConnector,
    sea_query::{Expr, OnConflict},
    sqlx::{
        Connection as _,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use entity::{deployment, tenant};
use migration::CatalogMigrator;
use placements::CatalogPlacements;
pub use record::TenantRecord;

/// The catalog of one installation, in a SQLite file of its own.
///
/// Open it first, then make the factory with [`Catalog::context`], then the
/// [`MultiTenancy`](crate::MultiTenancy) with both. Several processes may have it open. Keep it
/// outside the folder of the tenants' files.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: DatabaseConnection,
    deployment: DeploymentId,
    path: PathBuf,
}

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Catalog {
    /// Opens the catalog at `path`; makes it, with a new deployment id, where there is none.
    ///
    /// # Errors
    /// `Config`: the folder or file cannot be made or written. `Corrupt`: the file is no catalog.
    /// `Unavailable`: another process held it for too long.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let fault = |kind, e: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(kind, format!("cannot open the catalog {}", path.display())).with_source(e)
        };
        make_private(&path).map_err(|e| fault(ErrorKind::Config, e.into()))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        // One connection: the migration needs a single one, and the catalog's statements are short.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            // One that SQLite ended by itself, as on a full disk, sqlx goes on counting.
            .after_release(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
        let prepared = async {
            let runner = Runner::of::<CatalogMigrator>()?;
            runner
                .apply(&Connection::SeaOrm(connection.clone()))
                .await
                .map_err(|e| fault(kind_of(&e), e.into()))?;
            deployment_of(&connection)
                .await
                .map_err(|e| fault(ErrorKind::Unavailable, e.into()))?
                .parse()
                .map_err(|e: Error| fault(ErrorKind::Corrupt, e.into()))
        };
        let prepared: Result<DeploymentId> = prepared.await;
        let deployment = match prepared {
            Ok(deployment) => deployment,
            Err(error) => {
                // The error that kept it from being used matters more than one of closing it.
                connection.close_by_ref().await.ok();
                return Err(error);
            }
        };
        Ok(Self(Arc::new(Inner { connection, deployment, path })))
    }

    /// The installation's id, stamped into every tenant's database.
    pub fn deployment(&self) -> DeploymentId {
        self.0.deployment
    }

    /// Where the catalog's file is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What a factory of this installation is made with: the deployment id, placements kept in this
    /// catalog, and `schema` for new databases.
    pub fn context(&self, schema: &Runner) -> FactoryContext {
        FactoryContext::new(self.deployment())
            .with_placements(Arc::new(CatalogPlacements(self.clone())))
            .with_template(Arc::new(schema.clone()))
    }

    /// What is known of `tenant`, deleted ones included.
    ///
    /// # Errors
    /// `Unavailable`: the catalog does not answer. `Corrupt`: its row is damaged.
    pub async fn find(&self, tenant: &TenantId) -> Result<Option<TenantRecord>> {
        let row = tenant::Entity::find_by_id(tenant.as_str())
            .one(self.connection())
            .await
            .map_err(|e| unanswered(e).with_tenant(tenant))?;
        row.map(TenantRecord::from_row).transpose()
    }

    /// What is known of `tenant`.
    ///
    /// # Errors
    /// `TenantNotFound`: there is none, or it is deleted; and as [`Catalog::find`].
    pub async fn get(&self, tenant: &TenantId) -> Result<TenantRecord> {
        match self.find(tenant).await? {
            Some(record) if record.state != TenantState::Deleted => Ok(record),
            Some(_) => Err(not_found(tenant, "the tenant is deleted")),
            None => Err(not_found(tenant, "there is no such tenant")),
        }
    }

    /// Every tenant that is not deleted, ordered by id.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub async fn list(&self) -> Result<Vec<TenantRecord>> {
        let rows = tenant::Entity::find()
            .filter(tenant::Column::State.ne(TenantState::Deleted.as_str()))
            .order_by_asc(tenant::Column::Id)
            .all(self.connection())
            .await
            .map_err(unanswered)?;
        rows.into_iter().map(TenantRecord::from_row).collect()
    }

    /// Closes the catalog's connection.
    ///
    /// # Errors
    /// `Internal`: it did not close cleanly.
    pub async fn close(&self) -> Result<()> {
        self.connection().close_by_ref().await.map_err(|e| {
            Error::new(ErrorKind::Internal, "the catalog did not close cleanly").with_source(e)
        })
    }

    /// Reserves a row for a new tenant, or for the next life of a deleted one. `restoring` says that
    /// it is to be made of a backup.
    ///
    /// # Errors
    /// `TenantExists`: the id, or one that differs from it only by case, is taken.
    pub(crate) async fn reserve(
        &self,
        tenant: &TenantId,
        provider: &str,
        restoring: bool,
    ) -> Result<TenantRecord> {
        let now = Utc::now();
        let row = tenant::ActiveModel {
            id: Set(tenant.as_str().to_owned()),
            folded: Set(tenant.to_folded()),
            provider: Set(provider.to_owned()),
            state: Set(TenantState::Provisioning.as_str().to_owned()),
            generation: Set(Generation::FIRST.get().into()),
            database_name: Set(None),
            attributes: Set("{}".to_owned()),
            secret_ref: Set(None),
            schema_version: Set(None),
            schema_fingerprint: Set(None),
            last_error: Set(None),
            restoring: Set(restoring),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let inserted = tenant::Entity::insert(row).exec_without_returning(self.connection()).await;
        match inserted {
            Ok(_) => self.get(tenant).await,
            Err(e) if matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
                self.reserve_again(tenant, provider, restoring).await
            }
            Err(e) => Err(unanswered(e).with_tenant(tenant)),
        }
    }

    /// A deleted tenant's next database gets the next generation, so that nothing left of the last
    /// one can answer for it.
    async fn reserve_again(
        &self,
        tenant: &TenantId,
        provider: &str,
        restoring: bool,
    ) -> Result<TenantRecord> {
        let exists =
            |message: String| Error::new(ErrorKind::TenantExists, message).with_tenant(tenant);
        let Some(record) = self.find(tenant).await? else {
            let other = tenant::Entity::find()
                .filter(tenant::Column::Folded.eq(tenant.to_folded()))
                .one(self.connection())
                .await
                .map_err(|e| unanswered(e).with_tenant(tenant))?;
            let other = other.map_or_else(String::new, |row| format!(" `{}`", row.id));
            return Err(exists(format!("there is a tenant{other} whose id differs only by case")));
        };
        let reserved = self
            .change(tenant, &[TenantState::Deleted], |update| {
                update
                    .col_expr(tenant::Column::State, text(TenantState::Provisioning.as_str()))
                    .col_expr(tenant::Column::Provider, text(provider))
                    .col_expr(
                        tenant::Column::Generation,
                        Expr::value(i64::from(record.placement.generation.next().get())),
                    )
                    .col_expr(tenant::Column::DatabaseName, Expr::value(None::<String>))
                    .col_expr(tenant::Column::Attributes, text("{}"))
                    .col_expr(tenant::Column::SecretRef, Expr::value(None::<String>))
                    .col_expr(tenant::Column::SchemaVersion, Expr::value(None::<String>))
                    .col_expr(tenant::Column::SchemaFingerprint, Expr::value(None::<String>))
                    .col_expr(tenant::Column::LastError, Expr::value(None::<String>))
                    .col_expr(tenant::Column::Restoring, Expr::value(restoring))
            })
            .await?;
        if reserved {
            self.get(tenant).await
        } else {
            Err(exists(format!("the tenant exists and is {}", record.state)))
        }
    }

    /// Moves a tenant from one of `from` to `to`, noting `error`; `false`: it is in none of `from`.
    pub(crate) async fn move_to(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        to: TenantState,
        error: Option<&str>,
    ) -> Result<bool> {
        self.change(tenant, from, |update| {
            update
                .col_expr(tenant::Column::State, text(to.as_str()))
                .col_expr(tenant::Column::LastError, Expr::value(error.map(str::to_owned)))
        })
        .await
    }

    /// Notes how far the schema of the tenant's database of `generation` is; nothing, if the tenant
    /// has another by now.
    pub(crate) async fn note_schema(
        &self,
        tenant: &TenantId,
        generation: Generation,
        version: Option<&str>,
        fingerprint: Option<&str>,
    ) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update
                .filter(tenant::Column::Generation.eq(i64::from(generation.get())))
                .col_expr(tenant::Column::SchemaVersion, Expr::value(version.map(str::to_owned)))
                .col_expr(
                    tenant::Column::SchemaFingerprint,
                    Expr::value(fingerprint.map(str::to_owned)),
                )
        })
        .await
        .map(drop)
    }

    /// Marks a served tenant as being restored, and takes it out of service.
    ///
    /// # Errors
    /// `Conflict`: it is being restored already. `TenantNotActive`: it is in none of `from`.
    pub(crate) async fn begin_restore(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
    ) -> Result<()> {
        let begun = self
            .change(tenant, from, |update| {
                update
                    .filter(tenant::Column::Restoring.eq(false))
                    .col_expr(tenant::Column::State, text(TenantState::Suspended.as_str()))
                    .col_expr(tenant::Column::Restoring, Expr::value(true))
            })
            .await?;
        if begun {
            return Ok(());
        }
        let record = self.get(tenant).await?;
        let (kind, message) = if record.restoring {
            (ErrorKind::Conflict, "the tenant is being restored; if whoever did it is gone, activate it and restore it again".to_owned())
        } else {
            (ErrorKind::TenantNotActive, format!("the tenant is {}", record.state))
        };
        Err(Error::new(kind, message).with_tenant(tenant))
    }

    /// Takes the mark away and moves the tenant to `to`, unless somebody else took the mark away.
    pub(crate) async fn end_restore(
        &self,
        tenant: &TenantId,
        to: TenantState,
        error: Option<&str>,
    ) -> Result<()> {
        self.change(tenant, &[TenantState::Suspended], |update| {
            update
                .filter(tenant::Column::Restoring.eq(true))
                .col_expr(tenant::Column::State, text(to.as_str()))
                .col_expr(tenant::Column::Restoring, Expr::value(false))
                .col_expr(tenant::Column::LastError, Expr::value(error.map(str::to_owned)))
        })
        .await
        .map(drop)
    }

    /// Takes a reservation back: nothing was made, and the catalog owns nothing of that name.
    pub(crate) async fn release(&self, record: &TenantRecord) -> Result<()> {
        if record.placement.generation != Generation::FIRST {
            let from = [TenantState::Provisioning];
            return self.move_to(&record.tenant, &from, TenantState::Deleted, None).await.map(drop);
        }
        tenant::Entity::delete_by_id(record.tenant.as_str())
            .filter(tenant::Column::State.eq(TenantState::Provisioning.as_str()))
            .exec(self.connection())
            .await
            .map(drop)
            .map_err(|e| unanswered(e).with_tenant(&record.tenant))
    }

    /// Takes the mark away: somebody decides otherwise, or the data has arrived.
    pub(crate) async fn clear_restore(&self, tenant: &TenantId) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update.col_expr(tenant::Column::Restoring, Expr::value(false))
        })
        .await
        .map(drop)
    }

    /// Notes what the last step said, without changing the state.
    pub(crate) async fn note_error(&self, tenant: &TenantId, error: Option<&str>) -> Result<()> {
        self.change(tenant, &TenantState::ALL, |update| {
            update.col_expr(tenant::Column::LastError, Expr::value(error.map(str::to_owned)))
        })
        .await
        .map(drop)
    }

    async fn change(
        &self,
        tenant: &TenantId,
        from: &[TenantState],
        set: impl FnOnce(Update) -> Update,
    ) -> Result<bool> {
        let update = tenant::Entity::update_many()
            .col_expr(tenant::Column::UpdatedAt, Expr::value(Utc::now()))
            .filter(tenant::Column::Id.eq(tenant.as_str()))
            .filter(tenant::Column::State.is_in(from.iter().map(|state| state.as_str())));
        let result = set(update)
            .exec(self.connection())
            .await
            .map_err(|e| unanswered(e).with_tenant(tenant))?;
        Ok(result.rows_affected == 1)
    }

    fn connection(&self) -> &DatabaseConnection {
        &self.0.connection
    }
}

/// Makes the folder and an empty file where there is none, for their owner only: the catalog names
/// all tenants.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    let mut file = std::fs::File::options();
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder.recursive(true).create(parent)?;
    }
    // SQLite takes an empty file for a new database.
    match file.write(true).create_new(true).open(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the log.
const SHM_FULL: i32 = 4874;

/// What kept the catalog from being opened, by the engine's own code
/// (<https://www.sqlite.org/rescode.html>).
fn kind_of(error: &Error) -> ErrorKind {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(
            DbErr::Conn(RuntimeErr::SqlxError(e))
            | DbErr::Exec(RuntimeErr::SqlxError(e))
            | DbErr::Query(RuntimeErr::SqlxError(e)),
        ) = error.downcast_ref::<DbErr>()
        {
            let code = e.as_database_error().and_then(|e| e.code()?.parse::<i32>().ok());
            // The lowest byte is the primary code.
            if code == Some(SHM_FULL) {
                return ErrorKind::QuotaExceeded;
            }
            return match code.map(|code| code & 0xff) {
                Some(11 | 26) => ErrorKind::Corrupt,
                Some(13) => ErrorKind::QuotaExceeded,
                Some(3 | 8 | 14) => ErrorKind::Config,
                _ => ErrorKind::Unavailable,
            };
        }
        cause = error.source();
    }
    error.kind()
}

type Update = sea_orm::UpdateMany<tenant::Entity>;

fn text(value: &str) -> Expr {
    Expr::value(value.to_owned())
}

/// The catalog's deployment id, made if this is the first time it is opened; of two processes that
/// make one at once, the first wins for both.
async fn deployment_of(connection: &DatabaseConnection) -> Result<String, DbErr> {
    let find = || deployment::Entity::find_by_id(deployment::ONLY).one(connection);
    if let Some(row) = find().await? {
        return Ok(row.id);
    }
    let row = deployment::ActiveModel {
        number: Set(deployment::ONLY),
        id: Set(DeploymentId::random().to_string()),
        created_at: Set(Utc::now()),
    };
    let first = OnConflict::column(deployment::Column::Number).do_nothing().to_owned();
    deployment::Entity::insert(row).on_conflict(first).exec_without_returning(connection).await?;
    find().await?.map(|row| row.id).ok_or(DbErr::RecordNotInserted)
}

fn not_found(tenant: &TenantId, message: &str) -> Error {
    Error::new(ErrorKind::TenantNotFound, message).with_tenant(tenant)
}

fn unanswered(error: DbErr) -> Error {
    Error::new(ErrorKind::Unavailable, "the catalog does not answer").with_source(error)
}
