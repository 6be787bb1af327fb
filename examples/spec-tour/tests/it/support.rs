//! An application that makes and opens its tenants' databases its own way, and what tests need
//! beside it.

use std::{error::Error as StdError, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use multi_tenancy::{
    Catalog, Connection, DataAdapters, DeploymentId, Error, ErrorKind, Generation, Result,
    SchemaTemplate as _, Stamp, TenantId,
    entity::{NewUser, Page, TenantAdapters},
    migration::{Migrator, Runner},
};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr,
};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

pub(crate) type Done = Result<(), Box<dyn StdError>>;

/// The application's databases: a SQLite file per tenant in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Databases {
    folder: Arc<TempDir>,
    pub(crate) deployment: DeploymentId,
}

impl Databases {
    pub(crate) fn of(deployment: DeploymentId) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|e| internal("make a folder", e))?;
        Ok(Self { folder: Arc::new(folder), deployment })
    }

    pub(crate) fn path(&self, tenant: &TenantId) -> PathBuf {
        self.folder.path().join(format!("{tenant}.db"))
    }

    /// Connects to the tenant's database, as the application always did.
    pub(crate) async fn connect(&self, tenant: &TenantId) -> Result<DatabaseConnection> {
        let unreachable = |e| {
            Error::new(ErrorKind::Unavailable, "cannot connect").with_tenant(tenant).with_source(e)
        };
        Database::connect(url(&self.path(tenant), "rw")).await.map_err(unreachable)
    }

    /// Connects, and checks that what answers is the tenant's.
    pub(crate) async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        DataAdapters::open(tenant, self.deployment, self.connect(tenant).await?).await
    }

    /// Connects to the tenant's read-only copy.
    pub(crate) async fn connect_to_replica(&self, tenant: &TenantId) -> Result<DatabaseConnection> {
        let path = self.path(tenant).with_extension("replica");
        Database::connect(url(&path, "ro")).await.map_err(|e| internal("open the replica", e))
    }

    /// Makes an empty database, stamped for the tenant.
    pub(crate) async fn create(&self, tenant: &TenantId) -> Result<()> {
        let stamp = Stamp::new(self.deployment, tenant, Generation::FIRST);
        let make = async {
            let connection = Database::connect(url(&self.path(tenant), "rwc")).await?;
            for statement in stamp.to_statements(DbBackend::Sqlite, None) {
                connection.execute_raw(statement).await?;
            }
            connection.close().await
        };
        make.await.map_err(|e: DbErr| internal("create the database", e))
    }

    /// Runs the application's migrations.
    pub(crate) async fn migrate(&self, tenant: &TenantId) -> Result<()> {
        let connection = Connection::from(self.connect(tenant).await?);
        let migrated = Runner::of::<Migrator>()?.apply(&connection).await;
        connection.close().await.map_err(|e| internal("close the database", e))?;
        migrated
    }

    /// What a replication service would do all the time.
    pub(crate) fn replicate(&self, tenant: &TenantId) -> Result<()> {
        let path = self.path(tenant);
        let copied = std::fs::copy(&path, path.with_extension("replica"));
        copied.map(drop).map_err(|e| internal("copy the database", e))
    }

    /// Makes a database with the reference schema and a user.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        self.create(tenant).await?;
        self.migrate(tenant).await?;
        let data = self.open(tenant).await?;
        add_user(&data, "ada").await?;
        data.close(std::time::Duration::from_secs(30)).await
    }
}

fn url(path: &std::path::Path, mode: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(format!("sqlite:{}?mode={mode}", path.display()));
    options.max_connections(1);
    options
}

pub(crate) fn internal(action: &str, cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, format!("cannot {action}")).with_source(cause)
}

pub(crate) fn tenant(id: &str) -> Result<TenantId> {
    TenantId::new(id)
}

/// A catalog in a folder of its own.
pub(crate) async fn catalog() -> Result<(TempDir, Catalog)> {
    let folder = tempfile::tempdir().map_err(|e| internal("make a folder", e))?;
    let catalog = Catalog::open(folder.path().join("control.db")).await?;
    Ok((folder, catalog))
}

pub(crate) async fn add_user(data: &DataAdapters, name: &str) -> Result<()> {
    let user = NewUser { email: format!("{name}@example.com"), name: name.to_owned() };
    data.users().create(user).await.map(drop).map_err(|e| internal("add a user", e))
}

/// The names of all users, oldest first.
pub(crate) async fn users(data: &impl TenantAdapters) -> Result<Vec<String>, DbErr> {
    let users = data.users().list(Page::default()).await?;
    Ok(users.into_iter().map(|user| user.name).collect())
}

/// What the service answers to a tenant's `GET`.
pub(crate) async fn get(
    app: &Router,
    tenant: Option<&str>,
    path: &str,
) -> Result<(StatusCode, Value), Box<dyn StdError>> {
    let mut request = Request::get(path);
    if let Some(tenant) = tenant {
        request = request.header("x-tenant-id", tenant);
    }
    let response = app.clone().oneshot(request.body(Body::empty())?).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 16).await?;
    Ok((status, serde_json::from_slice(&body)?))
}
