use chrono::{DateTime, Utc};
use mt_core::{
    DatabaseName, Error, ErrorKind, Generation, Placement, Result, SecretRef, TenantId, TenantInfo,
    TenantState,
};
use serde::Serialize;

use super::entity::tenant;

/// What the catalog knows of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantRecord {
    /// The tenant.
    pub tenant: TenantId,
    /// The provider that keeps its database.
    pub provider: String,
    /// Where it is in its life.
    pub state: TenantState,
    /// Where its database is.
    pub placement: Placement,
    /// The newest migration known to be applied.
    pub schema_version: Option<String>,
    /// The [`Runner::fingerprint`](mt_migration::Runner::fingerprint) of the schema it is known to
    /// have.
    pub schema_fingerprint: Option<String>,
    /// What the last failed step said, causes included.
    pub last_error: Option<String>,
    /// Whether it is being made of a backup and that has not ended. If the process that did it is
    /// gone, remove the tenant and restore it again.
    pub restoring: bool,
    /// When it was first provisioned.
    pub created_at: DateTime<Utc>,
    /// When this row last changed.
    pub updated_at: DateTime<Utc>,
}

impl TenantRecord {
    /// State and generation.
    pub const fn info(&self) -> TenantInfo {
        TenantInfo::new(self.state, self.placement.generation)
    }
}

impl TenantRecord {
    pub(super) fn from_row(row: tenant::Model) -> Result<Self> {
        let damaged = |column| damaged(&row.id, column);
        Ok(Self {
            tenant: TenantId::new(&row.id).map_err(|e| damaged("id").with_source(e))?,
            state: row.state.parse().map_err(|e: Error| damaged("state").with_source(e))?,
            placement: placement(
                &row.id,
                row.generation,
                row.database_name,
                &row.attributes,
                row.secret_ref,
            )?,
            provider: row.provider,
            schema_version: row.schema_version,
            schema_fingerprint: row.schema_fingerprint,
            last_error: row.last_error,
            restoring: row.restoring,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn damaged(tenant: &str, column: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("column {column} of tenant `{tenant}` in the catalog is damaged"),
    )
}

pub(super) fn placement(
    tenant: &str,
    generation: i64,
    database: Option<String>,
    attributes: &str,
    secret: Option<String>,
) -> Result<Placement> {
    let generation = u32::try_from(generation).ok().and_then(Generation::new);
    let mut placement =
        Placement::derived(generation.ok_or_else(|| damaged(tenant, "generation"))?);
    placement.attributes = serde_json::from_str(attributes)
        .map_err(|e| damaged(tenant, "attributes").with_source(e))?;
    placement.database = database.map(DatabaseName::from_stored);
    placement.secret = secret.map(SecretRef);
    Ok(placement)
}

pub(super) fn attributes_to_text(placement: &Placement) -> String {
    // A map of texts is always JSON.
    serde_json::to_string(&placement.attributes).unwrap_or_else(|_| "{}".to_owned())
}
