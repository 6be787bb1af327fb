#![doc = include_str!("../README.md")]

mod failure;
mod routes;
mod sign_up;

use std::sync::Arc;

use anyhow::Context as _;
use axum::{Router, http::HeaderName};
use multi_tenancy::{
    AccessControl, MultiTenancy, TenantId,
    axum::TenantLayer,
    cli::Settings,
    migration::{Migrator, Runner},
};

use sign_up::SignUps;

/// The header that names a request's tenant.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant-id");
/// The domain in front of which a label names the tenant, unless another is given. Browsers resolve
/// all of `*.localhost` to this machine.
pub const DEFAULT_DOMAIN: &str = "localhost";
/// The service's own tenant, unless the settings name another.
const MAIN_TENANT: &str = "main";

/// What the routes work with.
#[derive(Clone, Debug)]
struct App {
    tenants: MultiTenancy,
    sign_ups: SignUps,
}

/// The service over the installation that `settings` describe, made if it is not there, with
/// tenants under `domain`.
///
/// They are the settings of the command line, so both have the same tenants.
///
/// # Errors
/// The data cannot be opened or made, or `domain` is no domain.
pub async fn app(settings: &Settings, domain: &str) -> anyhow::Result<(Router, MultiTenancy)> {
    let schema = Runner::of::<Migrator>()?;
    let catalog = settings.catalog().open().await?;
    let isolation = settings.isolation(&catalog.context(&schema))?;
    let main_tenant_id = match settings.main_tenant() {
        Some(main) => main.clone(),
        None => TenantId::new(MAIN_TENANT)?,
    };
    let sign_ups = SignUps::default();
    let latest = schema.latest().context("the schema has no migrations")?.to_owned();
    let tenants = MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(sign_up::isolation(isolation, &sign_ups))
        .with_schema(schema)
        .with_access_control(AccessControl { main_tenant_id })
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
