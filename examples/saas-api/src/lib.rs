#![doc = include_str!("../README.md")]

mod failure;
mod routes;
mod sign_up;

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use axum::{Router, http::HeaderName};
use multi_tenancy::{
    AccessControl, Catalog, MultiTenancy, TenantId,
    axum::TenantLayer,
    migration::{Migrator, Runner},
    sqlite::SqliteFactory,
};

use sign_up::SignUps;

/// The header that names a request's tenant.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant-id");
/// The domain in front of which a label names the tenant, unless another is given. Browsers resolve
/// all of `*.localhost` to this machine.
pub const DEFAULT_DOMAIN: &str = "localhost";
/// The service's own tenant.
const MAIN_TENANT: &str = "main";

/// What the routes work with.
#[derive(Clone, Debug)]
struct App {
    tenants: MultiTenancy,
    sign_ups: SignUps,
}

/// The service over the data in `data_dir`, made if it is not there, with tenants under
/// [`DEFAULT_DOMAIN`].
///
/// # Errors
/// As [`app_under`].
pub async fn app(data_dir: impl AsRef<Path>) -> anyhow::Result<(Router, MultiTenancy)> {
    app_under(data_dir, DEFAULT_DOMAIN).await
}

/// The service over the data in `data_dir`, made if it is not there, with tenants under `domain`.
///
/// The folders are those of the command line: the catalog is `control.db`, the tenants' files are
/// in `tenants`.
///
/// # Errors
/// The data cannot be opened or made, or `domain` is no domain.
pub async fn app_under(
    data_dir: impl AsRef<Path>,
    domain: &str,
) -> anyhow::Result<(Router, MultiTenancy)> {
    let data_dir = data_dir.as_ref();
    let schema = Runner::of::<Migrator>()?;
    let catalog = Catalog::open(data_dir.join("control.db")).await?;
    let factory = SqliteFactory::builder()
        .with_directory(data_dir.join("tenants"))
        .with_context(catalog.context(&schema))
        .build()?;
    let sign_ups = SignUps::default();
    let latest = schema.latest().context("the schema has no migrations")?.to_owned();
    let tenants = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(sign_up::isolation(factory, &sign_ups))
        .with_schema(schema)
        .with_access_control(AccessControl { main_tenant_id: TenantId::new(MAIN_TENANT)? })
        // The entities name every column there is: an older database is not served by halves.
        .with_min_schema_version(latest)
        .build()
        .await?;
    let layer = TenantLayer::new(Arc::new(tenants.clone()))
        .with_header(TENANT_HEADER)
        .with_subdomain_of(domain)?;
    let router = routes::router(App { tenants: tenants.clone(), sign_ups }, layer);
    Ok((router, tenants))
}
