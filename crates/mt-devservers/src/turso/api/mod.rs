//! The platform API, written from `facts/turso.md` §1.

mod configuration;
mod databases;
mod error;
mod groups;
mod tokens;
mod usage;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::header,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

pub(crate) use error::{ApiError, Result};

use crate::turso::platform::Platform;

type Shared = State<Arc<Platform>>;

pub(crate) fn router(platform: Arc<Platform>) -> Router {
    let authorized = middleware::from_fn_with_state(Arc::clone(&platform), authorize);
    let organization = Router::new()
        .route("/databases", get(databases::list).post(databases::create))
        .route("/databases/{name}", get(databases::get).delete(databases::delete))
        .route("/databases/{name}/auth/tokens", post(tokens::of_database))
        .route("/databases/{name}/auth/rotate", post(tokens::rotate_database))
        .route(
            "/databases/{name}/configuration",
            get(configuration::of_database).patch(configuration::change_database),
        )
        .route("/databases/{name}/instances", get(usage::instances))
        .route("/databases/{name}/usage", get(usage::usage))
        .route("/databases/{name}/stats", get(usage::stats))
        .route("/groups", get(groups::list).post(groups::create))
        .route("/groups/{name}", get(groups::get).delete(groups::delete))
        .route("/groups/{name}/auth/tokens", post(tokens::of_group))
        .route("/groups/{name}/auth/rotate", post(tokens::rotate_group))
        .route(
            "/groups/{name}/configuration",
            get(configuration::of_group).patch(configuration::change_group),
        )
        .route("/groups/{name}/unarchive", post(groups::unarchive));
    Router::new()
        .nest("/v1/organizations/{organization}", organization)
        .fallback(async || ApiError::not_found("not found"))
        .layer(authorized)
        .with_state(platform)
}

/// Takes the platform token, and nothing else: no token of a database.
async fn authorize(State(platform): Shared, request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token != Some(&platform.token) {
        return ApiError::unauthorized().into_response();
    }
    let path = request.uri().path();
    let slug = path.strip_prefix("/v1/organizations/").and_then(|rest| rest.split('/').next());
    if slug.is_some_and(|slug| slug != platform.slug) {
        return ApiError::not_found("organization not found").into_response();
    }
    next.run(request).await
}

/// The second part of the path, behind the organization.
type Name = Path<(String, String)>;
