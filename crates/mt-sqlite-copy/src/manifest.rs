use chrono::{DateTime, Utc};
use mt_core::{
    BackupManifest, DeploymentId, Error, ErrorKind, RestoreOptions, Result, Stamp, TenantId,
};

use crate::Contents;

/// A copy is a SQLite database file, complete in itself.
pub const ENCODING: &str = "sqlite-file";

/// What went to the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How long it was, in bytes.
    pub size_bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// The manifest of a copy that was begun at `created_at`, of the database whose stamp was `stamp`
/// before.
///
/// # Errors
/// `Conflict`: the copy has another stamp, because the database changed hands meanwhile.
pub fn manifest(
    stamp: Stamp,
    created_at: DateTime<Utc>,
    contents: Contents,
    sent: Sent,
) -> Result<BackupManifest> {
    if contents.stamp.as_ref() != Some(&stamp) {
        let message = "the database became another one while the copy was being made";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(BackupManifest {
        format: BackupManifest::FORMAT,
        encoding: ENCODING.to_owned(),
        deployment: stamp.deployment,
        tenant: stamp.tenant,
        generation: stamp.generation,
        schema_version: contents.schema_version,
        created_at,
        size_bytes: sent.size_bytes,
        sha256: sent.sha256,
        rows: contents.rows,
    })
}

/// Refuses what can be refused without reading the copy, on behalf of `provider`.
///
/// # Errors
/// `Unsupported`: it is no SQLite file, or its description is of a version this library does not
/// know. `ForeignDatabase`: it is another's copy, and `options` do not allow a new stamp.
pub fn check_request(
    provider: &'static str,
    deployment: DeploymentId,
    tenant: &TenantId,
    manifest: &BackupManifest,
    options: RestoreOptions,
) -> Result<()> {
    if manifest.encoding != ENCODING || manifest.format != BackupManifest::FORMAT {
        let what = format!(
            "restore a copy of encoding `{}`, format {}; expected `{ENCODING}`, format {}",
            manifest.encoding,
            manifest.format,
            BackupManifest::FORMAT
        );
        return Err(Error::unsupported(provider, what));
    }
    let is_own = manifest.tenant == *tenant && manifest.deployment == deployment;
    if !is_own && !options.restamp {
        return Err(Error::new(
            ErrorKind::ForeignDatabase,
            format!(
                "the copy is of tenant `{}` in deployment {}; to make it this tenant's, allow a new stamp",
                manifest.tenant, manifest.deployment
            ),
        ));
    }
    Ok(())
}
