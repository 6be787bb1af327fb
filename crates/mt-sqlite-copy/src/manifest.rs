use chrono::{DateTime, Utc};
use mt_core::{BackupManifest, Error, ErrorKind, Result, Stamp};

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
