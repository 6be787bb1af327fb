use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use multi_tenancy::{
    axum::{Tenant, TenantLayer},
    entity::{NewLog, NewUser, Page, TenantAdapters as _, log, user},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{App, failure::Failure, sign_up::sign_up};

/// The routes under the layer have the tenant's database; the others have none.
pub(crate) fn router(app: App, tenants: TenantLayer) -> Router {
    let of_a_tenant = Router::new()
        .route("/users", get(list_users).post(add_user))
        .route("/users/{id}", get(user_by_id).delete(remove_user))
        .route("/logs", get(list_logs).post(add_log))
        .route("/settings/{key}", get(setting).put(set_setting))
        .route_layer(tenants);
    Router::new()
        .route("/healthz", get(health))
        .route("/tenants", post(sign_up))
        .merge(of_a_tenant)
        .fallback(async || Failure::not_found("resource"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "the resource has no such method")
        })
        .with_state(app)
}

/// Refuses a text that is blank.
pub(crate) fn required(field: &str, text: String) -> Result<String, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, format!("`{field}` is empty")));
    }
    Ok(text)
}

type Body<T> = Result<Json<T>, JsonRejection>;
type Parameters<T> = Result<Query<T>, QueryRejection>;
type InPath<T> = Result<Path<T>, PathRejection>;

/// Whether the service's own database answers.
async fn health(State(app): State<App>) -> Result<&'static str, Failure> {
    let main = app.tenants.main_tenant_id().ok_or_else(|| Failure::not_found("main tenant"))?;
    app.tenants.get_adapters(main).await?.ping().await?;
    Ok("ok")
}

async fn list_users(
    Tenant(data): Tenant,
    page: Parameters<Page<Uuid>>,
) -> Result<Json<Vec<user::Model>>, Failure> {
    let Query(page) = page?;
    Ok(Json(data.read().users().list(page).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserToAdd {
    email: String,
    name: String,
}

async fn add_user(
    Tenant(data): Tenant,
    body: Body<UserToAdd>,
) -> Result<(StatusCode, Json<user::Model>), Failure> {
    let Json(user) = body?;
    let user =
        NewUser { email: required("email", user.email)?, name: required("name", user.name)? };
    Ok((StatusCode::CREATED, Json(data.users().create(user).await?)))
}

async fn user_by_id(Tenant(data): Tenant, id: InPath<Uuid>) -> Result<Json<user::Model>, Failure> {
    let Path(id) = id?;
    let found = data.read().users().find(id).await?;
    found.map(Json).ok_or_else(|| Failure::not_found("user"))
}

async fn remove_user(Tenant(data): Tenant, id: InPath<Uuid>) -> Result<StatusCode, Failure> {
    let Path(id) = id?;
    if data.users().delete(id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::not_found("user"))
    }
}

async fn list_logs(
    Tenant(data): Tenant,
    page: Parameters<Page<i64>>,
) -> Result<Json<Vec<log::Model>>, Failure> {
    let Query(page) = page?;
    Ok(Json(data.read().logs().list(page).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogToAdd {
    user_id: Option<Uuid>,
    kind: String,
    message: String,
}

async fn add_log(
    Tenant(data): Tenant,
    body: Body<LogToAdd>,
) -> Result<(StatusCode, Json<log::Model>), Failure> {
    let Json(log) = body?;
    let log =
        NewLog { user_id: log.user_id, kind: required("kind", log.kind)?, message: log.message };
    Ok((StatusCode::CREATED, Json(data.logs().create(log).await?)))
}

#[derive(Debug, Serialize)]
struct Setting {
    key: String,
    value: String,
}

async fn setting(Tenant(data): Tenant, key: InPath<String>) -> Result<Json<Setting>, Failure> {
    let Path(key) = key?;
    let found = data.read().settings().find(&key).await?;
    found.map(|value| Json(Setting { key, value })).ok_or_else(|| Failure::not_found("setting"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    value: String,
}

async fn set_setting(
    Tenant(data): Tenant,
    key: InPath<String>,
    body: Body<Value>,
) -> Result<Json<Setting>, Failure> {
    let Path(key) = key?;
    let Json(Value { value }) = body?;
    data.settings().set(&key, &value).await?;
    Ok(Json(Setting { key, value }))
}
