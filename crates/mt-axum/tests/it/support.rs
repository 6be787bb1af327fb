use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, Request, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use mt_axum::{Problem, Tenant, TenantLayer};
use mt_core::{
    DataAdapters, DeploymentId, Error, ErrorKind, Generation, Result, Stamp, TenantId, TenantInfo,
    TenantSource, TenantState,
};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement,
};
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-tenant-id");

/// Tenants that are open, and tenants that fail.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    open: HashMap<TenantId, DataAdapters>,
    failing: HashMap<TenantId, Error>,
}

impl Fleet {
    pub(crate) async fn of(ids: &[&str]) -> Self {
        let mut fleet = Self::default();
        for id in ids {
            fleet.open.insert(tenant(id), open(id).await);
        }
        fleet
    }

    /// Answers for `id` with `data`, whoever's it is.
    pub(crate) fn with(mut self, id: &str, data: DataAdapters) -> Self {
        self.open.insert(tenant(id), data);
        self
    }

    pub(crate) fn with_failing(mut self, id: &str, error: Error) -> Self {
        self.failing.insert(tenant(id), error);
        self
    }

    pub(crate) fn layer(self) -> TenantLayer {
        TenantLayer::new(Arc::new(self))
    }
}

#[async_trait]
impl TenantSource for Fleet {
    async fn tenant(&self, tenant: &TenantId) -> Result<TenantInfo> {
        self.get_adapters(tenant)
            .await
            .map(|data| TenantInfo::new(TenantState::Active, data.stamp().generation))
    }

    async fn get_adapters(&self, tenant: &TenantId) -> Result<DataAdapters> {
        if let Some(error) = self.failing.get(tenant) {
            return Err(error.clone());
        }
        self.open.get(tenant).cloned().ok_or_else(|| {
            Error::new(ErrorKind::TenantNotFound, "no such tenant").with_tenant(tenant)
        })
    }
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// A stamped database of `id` with one row that says whose it is.
pub(crate) async fn open(id: &str) -> DataAdapters {
    let deployment = DeploymentId::random();
    let tenant = tenant(id);
    let stamp = Stamp::new(deployment, &tenant, Generation::FIRST);
    let connection = memory().await;
    for statement in stamp.to_statements(DbBackend::Sqlite, None) {
        connection.execute_raw(statement).await.unwrap();
    }
    for sql in ["CREATE TABLE owner (name TEXT)", &format!("INSERT INTO owner VALUES ('{id}')")] {
        connection.execute_unprepared(sql).await.unwrap();
    }
    DataAdapters::open(&tenant, deployment, connection).await.unwrap()
}

async fn memory() -> DatabaseConnection {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1);
    Database::connect(options).await.unwrap()
}

/// Who the database says it belongs to.
pub(crate) async fn owner(data: &DataAdapters) -> Result<String, Problem> {
    let sql = "SELECT name FROM owner";
    let row = data
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
        .await
        .map_err(Problem::from_db_err)?
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no owner"))?;
    row.try_get("", "name").map_err(Problem::from_db_err)
}

async fn whoami(Tenant(data): Tenant) -> Result<String, Problem> {
    owner(&data).await
}

/// A router of which every path answers with the owner of the database it was given.
pub(crate) fn app(layer: TenantLayer) -> Router {
    Router::new().route("/", get(whoami)).route("/{*path}", get(whoami)).layer(layer)
}

pub(crate) fn request(id: &str) -> Request<Body> {
    Request::get("/").header(HEADER, id).body(Body::empty()).unwrap()
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn from(response: impl IntoResponse) -> Self {
        let (parts, body) = response.into_response().into_parts();
        let body = to_bytes(body, 1 << 16).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// The last part of the problem's `type`, once the whole has been checked for its form.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.headers[header::CACHE_CONTROL], "no-store");
        let document: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(document["status"], self.status.as_u16());
        assert!(!document["title"].as_str().unwrap().is_empty());
        assert!(!document["detail"].as_str().unwrap().is_empty());
        assert_eq!(document.as_object().unwrap().len(), 4, "{document}");
        document["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
    }
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Reply {
    Reply::from(app.clone().oneshot(request).await.unwrap()).await
}
