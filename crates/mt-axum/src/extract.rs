use std::{future, ops::Deref};

use axum_core::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use mt_core::{DataAdapters, Error, ErrorKind};

use crate::Problem;

/// The database of the tenant that the request names: an extractor for handlers under a
/// [`TenantLayer`](crate::TenantLayer).
///
/// A handler takes it apart, `Tenant(data): Tenant`, and uses `data` as a SeaORM connection;
/// `data.tenant()` says whose it is, and `data.read()` is the read-only handle. Outside axum the
/// layer's services find it in the request's extensions.
///
/// There is no `Option<Tenant>`: a route that serves no tenant is not under the layer. On a route
/// that is not, the answer is a 500 and never another database.
#[derive(Clone, Debug)]
pub struct Tenant(pub DataAdapters);

impl Tenant {
    /// The database itself.
    pub fn into_inner(self) -> DataAdapters {
        self.0
    }
}

impl Deref for Tenant {
    type Target = DataAdapters;

    fn deref(&self) -> &DataAdapters {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> impl Future<Output = Result<Self, Problem>> + Send {
        future::ready(parts.extensions.get::<Self>().cloned().ok_or_else(missing_layer))
    }
}

fn missing_layer() -> Problem {
    const DETAIL: &str = "this route is not under a TenantLayer";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, DETAIL)
        .with_cause(Error::new(ErrorKind::Config, DETAIL))
}
