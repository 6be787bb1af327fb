//! Answers that are errors.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::sqld::admin::Refusal;

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

/// `{"error": …}`; the service adds a `code` for some that do not occur here.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn no_database(name: &str) -> Self {
        Self::not_found(format!("could not find database with name [{name}]: record not found"))
    }

    pub(crate) fn no_group() -> Self {
        Self::not_found("group not found")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid or expired auth token")
    }
}

/// What sqld does not do for us is our fault, unless it said that the request was wrong.
impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        let is_clients = error.downcast_ref::<Refusal>().is_some_and(|refusal| {
            refusal.status == StatusCode::UNPROCESSABLE_ENTITY
                || refusal.status == StatusCode::BAD_REQUEST
        });
        let status =
            if is_clients { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self::new(status, format!("{error:#}"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.message});
        (self.status, Json(body)).into_response()
    }
}
