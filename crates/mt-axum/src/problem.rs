use std::borrow::Cow;

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use mt_core::{Error, ErrorKind};
use sea_orm::DbErr;
use serde::Serialize;

/// For how many seconds a client is asked to stay away. A process believes a tenant's state for up
/// to 5 seconds, so an earlier try cannot see a change.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The `type` of a problem that its status alone describes (RFC 9457, 4.2.1).
const BLANK: &str = "about:blank";

/// An error as the client sees it: `application/problem+json` of RFC 9457.
///
/// Every text in it is written for the client. The error behind it goes to the log with all its
/// causes, at the moment the problem becomes a response, and nowhere else.
///
/// | from [`ErrorKind`] | status | `type`, after `urn:problem-type:multi-tenancy:` |
/// |---|---|---|
/// | the request names no tenant | 400 | `tenant-missing` |
/// | the request names its tenant twice or differently | 400 | `tenant-ambiguous` |
/// | `InvalidTenant` | 400 | `tenant-invalid` |
/// | `TenantNotFound` | 404 | `tenant-not-found` |
/// | `TenantExists` | 409 | `tenant-exists` |
/// | `TenantNotActive` | 503, with `Retry-After` | `tenant-not-active` |
/// | `Unavailable`, `InUse` | 503, with `Retry-After` | `unavailable` |
/// | `SchemaOutdated` | 503 | `schema-outdated` |
/// | every other | 500 | (`about:blank`) |
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    retry: bool,
    cause: Option<Error>,
}

impl Problem {
    /// A problem of the application's own, described by its status. `detail` is sent to the
    /// client.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            kind: BLANK,
            title: status.canonical_reason().unwrap_or("Error"),
            detail: detail.into(),
            retry: false,
            cause: None,
        }
    }

    /// What a statement of a handler failed with: `.map_err(Problem::from_db_err)?`.
    ///
    /// A refusal by the handle (revoked, no free connection) is what it is for [`Error`]; a database
    /// that is gone under its handle is a 503, as it is being moved or removed; a record that was
    /// asked for and is not there is a 404; all else is a 500.
    pub fn from_db_err(error: DbErr) -> Self {
        match &error {
            DbErr::RecordNotFound(_) => Self::new(StatusCode::NOT_FOUND, "there is no such record"),
            DbErr::ConnectionAcquire(_) => {
                Error::new(ErrorKind::Unavailable, "no connection to the tenant's database")
                    .with_source(error)
                    .into()
            }
            // The tenant was found when the handle was given out, so a 404 would be no news of the
            // tenant. This process learns what became of it before the client is back.
            _ if is_gone(&error) => {
                Error::new(ErrorKind::Unavailable, "the tenant's database is gone from its place")
                    .with_source(error)
                    .into()
            }
            _ => Error::from_db_err(error, ErrorKind::Statement, "a handler's statement failed")
                .into(),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The `type`: a URI that stays the same, for programs.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Adds what the log is told when this becomes a response, and the client is not.
    #[must_use]
    pub fn with_cause(mut self, cause: Error) -> Self {
        self.cause = Some(cause);
        self
    }

    pub(crate) fn missing() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the request names no tenant")
            .with_kind("urn:problem-type:multi-tenancy:tenant-missing", "Tenant missing")
    }

    pub(crate) fn ambiguous() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the request names more than one tenant, or one twice")
            .with_kind("urn:problem-type:multi-tenancy:tenant-ambiguous", "Tenant ambiguous")
    }

    fn with_kind(self, kind: &'static str, title: &'static str) -> Self {
        Self { kind, title, ..self }
    }

    fn with_retry(self) -> Self {
        Self { retry: true, ..self }
    }

    fn log(&self) {
        let Some(cause) = &self.cause else { return };
        let (kind, error) = (cause.kind(), cause.to_chain());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(?kind, error, "the tenant's database cannot be served now");
        } else if self.status.is_server_error() {
            tracing::error!(?kind, error, "a request failed");
        } else {
            tracing::debug!(?kind, error, "a request was refused");
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use StatusCode as Status;
        let problem = match error.kind() {
            ErrorKind::InvalidTenant => Self::new(
                Status::BAD_REQUEST,
                "a tenant id has 1 to 64 characters of A-Z a-z 0-9 _ -, the first a letter or a digit",
            )
            .with_kind("urn:problem-type:multi-tenancy:tenant-invalid", "Tenant id invalid"),
            ErrorKind::TenantNotFound => Self::new(Status::NOT_FOUND, "there is no such tenant")
                .with_kind("urn:problem-type:multi-tenancy:tenant-not-found", "Tenant not found"),
            ErrorKind::TenantExists => Self::new(
                Status::CONFLICT,
                "there is a tenant of that id, or of one that differs only by case",
            )
            .with_kind("urn:problem-type:multi-tenancy:tenant-exists", "Tenant exists"),
            ErrorKind::TenantNotActive => {
                Self::new(Status::SERVICE_UNAVAILABLE, "the tenant is not served now")
                    .with_kind("urn:problem-type:multi-tenancy:tenant-not-active", "Tenant not active")
                    .with_retry()
            }
            ErrorKind::Unavailable | ErrorKind::InUse => {
                Self::new(Status::SERVICE_UNAVAILABLE, "the tenant's database cannot be reached now")
                    .with_kind("urn:problem-type:multi-tenancy:unavailable", "Database unavailable")
                    .with_retry()
            }
            ErrorKind::SchemaOutdated => {
                Self::new(Status::SERVICE_UNAVAILABLE, "the tenant's database is yet to be migrated")
                    .with_kind("urn:problem-type:multi-tenancy:schema-outdated", "Schema outdated")
            }
            // Faults of the service; a kind that is added later is one until it says otherwise.
            _ => Self::new(Status::INTERNAL_SERVER_ERROR, "the request could not be completed"),
        };
        problem.with_cause(error)
    }
}

/// Whether the database was gone when a statement reached it.
fn is_gone(error: &DbErr) -> bool {
    Error::in_db_err(error).is_some_and(|ours| ours.kind() == ErrorKind::TenantNotFound)
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let document = Document {
            kind: self.kind,
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let body = serde_json::to_vec(&document).expect("three texts and a number are JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A cache may keep a 404 without being told to (RFC 9110, 15.1), and the tenant may be
        // there a second later.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.retry {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
