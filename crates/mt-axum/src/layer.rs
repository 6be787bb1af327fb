use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use axum_core::response::{IntoResponse, Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, StatusCode, header, request::Parts};
use mt_core::{DataAdapters, Error, ErrorKind, Result, TenantId, TenantSource};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, Span, field};

use crate::{
    Problem, Tenant, TenantResolver,
    resolve::{Header, Subdomain},
};

/// Gives every request the database of the tenant it names, before the handler runs; a request
/// that names none, or one that is not served, gets a [`Problem`] and no handler sees it.
///
/// Nothing names a tenant until it is said what does: at least one `with_…` is needed, and without
/// one every request is refused. All resolvers are asked, in the order they were added:
///
/// - Two that name different tenants are a 400, and so is a layer inside a layer that names
///   another tenant than the outer one.
/// - None that names one is a 400. There is no default tenant. Routes without a tenant (sign-up,
///   health) are not under the layer.
///
/// Naming a tenant proves nothing about who asks. Either authenticate outside this layer and take
/// the tenant from the verified claims ([`TenantLayer::with_resolver`]), or compare the caller with
/// `data.tenant()` inside it.
#[derive(Clone)]
pub struct TenantLayer(Arc<Rules>);

#[derive(Clone)]
struct Rules {
    source: Arc<dyn TenantSource>,
    resolvers: Vec<Arc<dyn TenantResolver>>,
    /// The headers that choose the tenant.
    vary: Vec<HeaderValue>,
}

impl TenantLayer {
    /// A layer that gets adapters from `source`. Add what names the tenant.
    pub fn new(source: Arc<dyn TenantSource>) -> Self {
        Self(Arc::new(Rules { source, resolvers: Vec::new(), vary: Vec::new() }))
    }

    /// Takes the tenant's id from the header `name`. The same header twice is a 400.
    ///
    /// Every response then names the header in `Vary`, so that no cache on the way answers one
    /// tenant with what it kept of another.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName) -> Self {
        let rules = Arc::make_mut(&mut self.0);
        rules.vary.push(name.clone().into());
        rules.resolvers.push(Arc::new(Header(name)));
        self
    }

    /// Takes the tenant's id from the host the request is for: `acme` from `acme.example.com`, of
    /// `domain` `example.com`.
    ///
    /// - The host is `:authority` or `Host`. Both, and different: 400. `X-Forwarded-Host` and
    ///   `Forwarded` are not read.
    /// - A port and a last dot are left out, and capitals folded. So ids with capitals cannot be
    ///   reached by host, nor ids of 64 characters, which are longer than a DNS label.
    /// - Exactly one label in front. The bare domain, `a.b.example.com` and other hosts name no
    ///   tenant.
    ///
    /// # Errors
    /// `Config`: `domain` is no domain.
    pub fn with_subdomain_of(self, domain: impl AsRef<str>) -> Result<Self> {
        Ok(self.with_resolver(Subdomain::of(domain.as_ref())?))
    }

    /// Takes the tenant's id from wherever `resolver` finds it.
    ///
    /// One that reads a header should make handlers name it in `Vary`.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl TenantResolver) -> Self {
        Arc::make_mut(&mut self.0).resolvers.push(Arc::new(resolver));
        self
    }
}

impl fmt::Debug for TenantLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantLayer")
            .field("source", &self.source)
            .field("resolvers", &self.resolvers.len())
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for TenantLayer {
    type Service = TenantService<S>;

    fn layer(&self, inner: S) -> TenantService<S> {
        TenantService { inner, rules: Arc::clone(&self.0) }
    }
}

/// The service that [`TenantLayer`] makes. Each request has a span `tenant_request` with the fields
/// `tenant` and `provider`.
#[derive(Clone, Debug)]
pub struct TenantService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B> Service<Request<B>> for TenantService<S>
where
    S: Service<Request<B>, Response: IntoResponse, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready takes the request; its clone may not be ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let rules = Arc::clone(&self.rules);
        let span =
            tracing::info_span!("tenant_request", tenant = field::Empty, provider = field::Empty);
        async move {
            let (mut parts, body) = request.into_parts();
            let mut response = match rules.admit(&parts).await {
                Ok(data) => {
                    parts.extensions.insert(Tenant(data));
                    inner.call(Request::from_parts(parts, body)).await?.into_response()
                }
                Err(problem) => problem.into_response(),
            };
            for name in &rules.vary {
                response.headers_mut().append(header::VARY, name.clone());
            }
            Ok(response)
        }
        .instrument(span)
        .boxed()
    }
}

impl Rules {
    /// The database of the tenant that the request names, opened if it is not open yet.
    async fn admit(&self, parts: &Parts) -> Result<DataAdapters, Problem> {
        let tenant = self.resolve(parts)?;
        let span = Span::current();
        span.record("tenant", field::display(&tenant));
        let data = self.source.get_adapters(&tenant).await.inspect_err(|error| {
            if let Some(provider) = error.provider() {
                span.record("provider", field::display(provider));
            }
        })?;
        span.record("provider", field::display(data.provider()));
        if *data.tenant() != tenant {
            return Err(Error::new(
                ErrorKind::ForeignDatabase,
                format!("the source answered with the database of `{}`", data.tenant()),
            )
            .with_tenant(&tenant)
            .into());
        }
        Ok(data)
    }

    fn resolve(&self, parts: &Parts) -> Result<TenantId, Problem> {
        if self.resolvers.is_empty() {
            const DETAIL: &str = "the TenantLayer has nothing to take the tenant from";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, DETAIL)
                .with_cause(Error::new(ErrorKind::Config, DETAIL)));
        }
        let mut named: Option<TenantId> = None;
        for resolver in &self.resolvers {
            let Some(tenant) = resolver.resolve(parts)? else { continue };
            if named.as_ref().is_some_and(|other| *other != tenant) {
                return Err(Problem::ambiguous());
            }
            named = Some(tenant);
        }
        let tenant = named.ok_or_else(Problem::missing)?;
        match parts.extensions.get::<Tenant>() {
            Some(outer) if *outer.tenant() != tenant => Err(Problem::ambiguous()),
            _ => Ok(tenant),
        }
    }
}
