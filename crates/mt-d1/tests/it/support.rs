//! An account of a test's own: the real engine, and the service's API in front of it.

use std::{sync::Arc, time::Duration};

use mt_conformance::MemoryPlacements;
use mt_core::{DataAdapters, DeploymentId, Error, ErrorKind, FactoryContext, Placement, TenantId};
use mt_d1::{D1Factory, D1FactoryBuilder};
use mt_devservers::{D1, d1::Kind};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use serde_json::{Value, json};

/// More than any test sends: the servers of tests have no limit.
const REQUESTS: u32 = 1_000_000;

pub(crate) async fn server() -> D1 {
    D1::start().await.unwrap_or_else(|error| panic!("no server for the test: {error:#}"))
}

/// A factory over `server`, as one more process of the installation would have it.
pub(crate) fn builder(server: &D1, context: &FactoryContext) -> D1FactoryBuilder {
    D1Factory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_account_id(server.account_id())
        .with_requests_per_window(REQUESTS)
        // Whoever is waited for in these tests is never going to let go.
        .with_drain_timeout(Duration::from_secs(2))
        .with_context(context.clone())
}

/// With a store that can change.
pub(crate) fn context() -> FactoryContext {
    without_store().with_placements(Arc::new(MemoryPlacements::default()))
}

pub(crate) fn without_store() -> FactoryContext {
    FactoryContext::new(DeploymentId::random())
}

pub(crate) fn factory(server: &D1, context: &FactoryContext) -> D1Factory {
    builder(server, context).build().unwrap()
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

pub(crate) async fn placement(context: &FactoryContext, tenant: &TenantId) -> Placement {
    context.placements.get(tenant).await.unwrap().unwrap()
}

/// The id of the database of this name.
pub(crate) async fn uuid(factory: &D1Factory, name: &str) -> String {
    factory.client().database_by_name(name).await.unwrap().unwrap().uuid
}

pub(crate) fn select(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

/// Runs one statement for its effect.
pub(crate) async fn execute<C: ConnectionTrait>(data: &C, sql: &str) -> Result<(), DbErr> {
    data.execute_raw(select(sql)).await.map(drop)
}

/// How many rows `table` has.
pub(crate) async fn count(data: &DataAdapters, table: &str) -> i64 {
    let row = data.query_one_raw(select(&format!("SELECT COUNT(*) FROM {table}"))).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

/// The kind of our error inside SeaORM's.
pub(crate) fn kind_of(error: &DbErr) -> ErrorKind {
    let ours = Error::in_db_err(error).unwrap_or_else(|| panic!("not an error of ours: {error}"));
    ours.kind()
}

/// How many requests of each of these kinds `work` makes; of all others it makes none.
pub(crate) async fn requests<const N: usize, T>(
    server: &D1,
    kinds: [Kind; N],
    work: impl Future<Output = T>,
) -> ([u64; N], T) {
    let (before, all) =
        (kinds.map(|kind| server.requests().of_kind(kind)), server.requests().total());
    let done = work.await;
    let mut index = 0;
    let counts = kinds.map(|kind| {
        index += 1;
        server.requests().of_kind(kind) - before[index - 1]
    });
    assert_eq!(
        counts.iter().sum::<u64>(),
        server.requests().total() - all,
        "{counts:?} and others"
    );
    (counts, done)
}

/// Runs a statement on a database past our own handles.
pub(crate) async fn query(server: &D1, uuid: &str, sql: &str) -> Value {
    ask(server, "POST", &format!("/{uuid}/raw"), json!({ "sql": sql })).await
}

/// Asks the service's API under the account's databases, past our own client.
pub(crate) async fn ask(server: &D1, method: &str, path: &str, body: Value) -> Value {
    let limit = Duration::from_secs(30);
    let settings = mt_remote::HttpSettings { connect_timeout: limit, timeout: limit };
    let client = mt_remote::http_client(settings).unwrap();
    let url = format!("{}/accounts/{}/d1/database{path}", server.api_url(), server.account_id());
    let request = client.request(method.parse().unwrap(), url).bearer_auth(server.api_token());
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
    answer
}
