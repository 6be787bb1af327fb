//! A service of a test's own: the real engine, and the platform in front of it.

use std::{sync::Arc, time::Duration};

use mt_conformance::MemoryPlacements;
use mt_core::{DataAdapters, DeploymentId, Error, ErrorKind, FactoryContext, TenantId};
use mt_devservers::Turso;
use mt_turso::{TursoFactory, TursoFactoryBuilder};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

pub(crate) async fn server() -> Turso {
    Turso::start().await.unwrap_or_else(|error| panic!("no server for the test: {error:#}"))
}

/// A factory over `server`, as one more process of the installation would have it.
pub(crate) fn builder(server: &Turso, context: &FactoryContext) -> TursoFactoryBuilder {
    TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
        // Whoever is waited for in these tests is never going to let go.
        .with_drain_timeout(Duration::from_secs(2))
        .with_context(context.clone())
}

pub(crate) fn context() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
        .with_placements(Arc::new(MemoryPlacements::default()))
}

pub(crate) fn factory(server: &Turso, context: &FactoryContext) -> TursoFactory {
    builder(server, context).build().unwrap()
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// Runs one statement for its effect.
pub(crate) async fn execute<C: ConnectionTrait>(data: &C, sql: &str) -> Result<(), DbErr> {
    data.execute_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.map(drop)
}

/// How many rows `table` has.
pub(crate) async fn count(data: &DataAdapters, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    let row = data.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

/// The kind of our error inside SeaORM's.
pub(crate) fn kind_of(error: &DbErr) -> ErrorKind {
    let ours = Error::in_db_err(error).unwrap_or_else(|| panic!("not an error of ours: {error}"));
    ours.kind()
}

/// What a server says to a statement with `token`, past our own client.
pub(crate) async fn query(hostname: &str, token: &str, sql: &str) -> u16 {
    let limit = Duration::from_secs(30);
    let settings = mt_remote::HttpSettings { connect_timeout: limit, timeout: limit };
    let request = mt_remote::http_client(settings)
        .unwrap()
        .post(format!("http://{hostname}/v3/pipeline"))
        .bearer_auth(token)
        .json(&serde_json::json!({"requests": [{"type": "execute", "stmt": {"sql": sql}}]}));
    request.send().await.unwrap().status().as_u16()
}
