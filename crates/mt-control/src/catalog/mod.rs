//! The database of databases: which tenants there are, where each is in its life, and where its
//! database is.

mod changes;
mod entity;
mod location;
mod migration;
mod placements;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(not(feature = "postgres"))]
#[path = "postgres_off.rs"]
mod postgres;
mod record;
mod sqlite;
#[cfg(test)]
mod tests;

use std::{error::Error as StdError, path::Path, sync::Arc};

use chrono::Utc;
use mt_core::{
    Connection, DeploymentId, Error, ErrorKind, FactoryContext, Result, SchemaTemplate as _,
    TenantId, TenantState,
};
use mt_migration::Runner;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _,
    QueryFilter as _, RuntimeErr, sea_query::OnConflict, sqlx,
};

use entity::{deployment, tenant};
pub use location::CatalogLocation;
use location::Place;
use migration::CatalogMigrator;
use placements::CatalogPlacements;
pub use record::TenantRecord;

/// The catalog of one installation, in a SQLite file of its own or in a database of its own on a
/// PostgreSQL server.
///
/// Open it first, then make the factory with [`Catalog::context`], then the
/// [`MultiTenancy`](crate::MultiTenancy) with both. Several processes may have it open, on several
/// machines where it is on a server. Keep a file outside the folder of the tenants' files.
#[derive(Clone, Debug)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: DatabaseConnection,
    deployment: DeploymentId,
    location: CatalogLocation,
}

impl Catalog {
    /// Opens the catalog at `path`; makes it, with a new deployment id, where there is none.
    ///
    /// # Errors
    /// `Config`: the folder or file cannot be made or written, or the file is a tenant's database or
    /// another program's. `Corrupt`: the file is no database. `Unavailable`: another process held it
    /// for too long.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::at(CatalogLocation::file(path.as_ref())).await
    }

    /// Opens the catalog in the PostgreSQL database that `url` names, of the form
    /// `postgres://user:password@host:port/database`; makes it there, with a new deployment id, where
    /// there is none. Needs the Cargo feature `postgres`.
    ///
    /// Its tables are in the schema `mt_catalog`, and the database is for nothing else. The role has
    /// to be allowed to make a schema there the first time. A server that is not this machine is
    /// reached with `verify-full` unless `sslmode` says otherwise.
    ///
    /// - Of several processes that open it for the first time at once, the first makes it, and the
    ///   others wait for that.
    /// - It has 4 connections at most, opened as they are needed. One that broke is replaced, so a
    ///   restart of the server costs the statements that just ran.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `Config` | it is no such URL, the server refuses the role or has no such database, the database is a tenant's or has something else in it, or the feature is off |
    /// | `Unavailable` | the server does not answer within 5 seconds |
    ///
    /// None repeats the URL: they name host, port and database.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::at(CatalogLocation::server(url)?).await
    }

    /// Opens the catalog there; makes it where there is none.
    pub(crate) async fn at(location: CatalogLocation) -> Result<Self> {
        let runner = Runner::of::<CatalogMigrator>()?;
        let (connection, is_current) = match location.place() {
            Place::File(path) => {
                let failed = |e| not_opened(&location, ErrorKind::Config, e);
                (sqlite::connect(path).map_err(failed)?, false)
            }
            Place::Server { url, .. } => postgres::connect(&location, url, &runner).await?,
        };
        match prepare(&location, &connection, (!is_current).then_some(&runner)).await {
            Ok(deployment) => Ok(Self(Arc::new(Inner { connection, deployment, location }))),
            Err(error) => {
                // The error that kept it from being used matters more than one of closing it.
                connection.close_by_ref().await.ok();
                Err(error)
            }
        }
    }

    /// The installation's id, stamped into every tenant's database.
    pub fn deployment(&self) -> DeploymentId {
        self.0.deployment
    }

    /// Where the catalog is.
    pub fn location(&self) -> &CatalogLocation {
        &self.0.location
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
            .map_err(|e| self.unanswered(e).with_tenant(tenant))?;
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
            .all(self.connection())
            .await
            .map_err(|e| self.unanswered(e))?;
        let mut records: Vec<TenantRecord> =
            rows.into_iter().map(TenantRecord::from_row).collect::<Result<_>>()?;
        // Not by the database, which may order by a language's rules.
        records.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Ok(records)
    }

    /// Closes the catalog's connections.
    ///
    /// # Errors
    /// `Internal`: it did not close cleanly.
    pub async fn close(&self) -> Result<()> {
        self.connection().close_by_ref().await.map_err(|e| {
            Error::new(ErrorKind::Internal, "the catalog did not close cleanly").with_source(e)
        })
    }

    fn connection(&self) -> &DatabaseConnection {
        &self.0.connection
    }

    fn unanswered(&self, error: DbErr) -> Error {
        let message = format!("the catalog {} does not answer", self.location());
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    }
}

/// Applies the migrations of `pending`, if there are any, and answers whose catalog it is.
async fn prepare(
    location: &CatalogLocation,
    connection: &DatabaseConnection,
    pending: Option<&Runner>,
) -> Result<DeploymentId> {
    let refused = |e: DbErr| not_opened(location, kind_of(location, &e), e);
    if location.as_file().is_some() {
        let owner = sqlite::owner(connection).await.map_err(refused)?;
        if let Some(owner) = owner {
            return Err(not_a_catalog(location, &owner));
        }
    }
    if let Some(runner) = pending {
        runner
            .apply(&Connection::SeaOrm(connection.clone()))
            .await
            .map_err(|e| not_opened(location, kind_of(location, &e), e))?;
    }
    let deployment = deployment_of(connection).await.map_err(refused)?;
    deployment.parse().map_err(|e: Error| not_opened(location, ErrorKind::Corrupt, e))
}

fn not_opened(
    location: &CatalogLocation,
    kind: ErrorKind,
    cause: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    Error::new(kind, format!("cannot open the catalog {location}")).with_source(cause)
}

fn not_a_catalog(location: &CatalogLocation, why: &str) -> Error {
    let message =
        format!("{location} is not for a catalog: {why}; give the catalog a database of its own");
    Error::new(ErrorKind::Config, message)
}

/// The kind of the first error in the chain that the engine's driver made.
fn kind_of(location: &CatalogLocation, error: &(dyn StdError + 'static)) -> ErrorKind {
    let of_engine = |error: &sqlx::Error| match location.place() {
        Place::File(_) => sqlite::kind_of(error),
        Place::Server { .. } => postgres::kind_of(error),
    };
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(
            DbErr::Conn(RuntimeErr::SqlxError(e))
            | DbErr::Exec(RuntimeErr::SqlxError(e))
            | DbErr::Query(RuntimeErr::SqlxError(e)),
        ) = error.downcast_ref::<DbErr>()
        {
            return of_engine(e);
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return of_engine(error);
        }
        cause = error.source();
    }
    error.downcast_ref().map_or(ErrorKind::Unavailable, Error::kind)
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
