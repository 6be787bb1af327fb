//! In the place of catalogs on PostgreSQL, in a program without the feature.

use mt_core::{Error, ErrorKind, Result};
use mt_migration::Runner;
use sea_orm::{DatabaseConnection, sqlx};

use super::CatalogLocation;

fn off(location: &CatalogLocation) -> Error {
    let advice = "turn on the feature `postgres` of the crate `multi-tenancy`, or of `mt-control`";
    Error::new(
        ErrorKind::Config,
        format!(
            "the catalog {location} is on PostgreSQL, which this program cannot reach; {advice}"
        ),
    )
}

#[expect(clippy::unused_async, reason = "as with the feature")]
pub(super) async fn connect(
    location: &CatalogLocation,
    _url: &str,
    _runner: &Runner,
) -> Result<(DatabaseConnection, bool)> {
    Err(off(location))
}

#[expect(clippy::unused_async, reason = "as with the feature")]
pub(super) async fn is_made(location: &CatalogLocation, _url: &str) -> Result<bool> {
    Err(off(location))
}

pub(super) const fn kind_of(_error: &sqlx::Error) -> ErrorKind {
    ErrorKind::Unavailable
}
