//! From the source of a copy to `pg_restore`.

use mt_core::BackupManifest;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    backup::CHUNK_BYTES,
    error::{Error, Result},
};

/// What an archive of `pg_dump` begins with.
const MAGIC: &[u8] = b"PGDMP";

/// Hands the copy on as it comes, and compares it with `manifest`. No more is taken from `source`
/// than the manifest says there is, and one byte.
///
/// The last part is held back until all of it is known to be what the manifest says: without it
/// `pg_restore` commits nothing. Where it does not take any more the rest is read nevertheless,
/// because a damaged copy is told from one that the server refuses.
///
/// # Errors
/// `Corrupt`: another length or checksum than the manifest's, or no archive. `Unavailable`: the
/// source breaks off.
pub(super) async fn feed(
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    mut archive: Option<impl AsyncWrite + Unpin>,
) -> Result<()> {
    let mut source = source.take(manifest.size_bytes.saturating_add(1));
    let mut hash = Sha256::new();
    let mut length = 0;
    let mut held = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut is_archive = true;
    loop {
        chunk.clear();
        let some = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        (&mut source).take(some).read_to_end(&mut chunk).await.map_err(Error::Source)?;
        if chunk.is_empty() {
            break;
        }
        if length == 0 && !chunk.starts_with(MAGIC) {
            is_archive = false;
            archive = None;
        }
        hash.update(&chunk);
        length += chunk.len() as u64;
        pass(&mut archive, &held).await;
        std::mem::swap(&mut held, &mut chunk);
    }
    verify(manifest, length, &format!("{:x}", hash.finalize()))?;
    if !is_archive {
        return Err(Error::Damaged("it is no archive of `pg_dump`".to_owned()));
    }
    pass(&mut archive, &held).await;
    Ok(())
}

/// Hands some of it on, unless the program has ended: its end says why.
async fn pass(archive: &mut Option<impl AsyncWrite + Unpin>, bytes: &[u8]) {
    if let Some(open) = archive
        && open.write_all(bytes).await.is_err()
    {
        *archive = None;
    }
}

fn verify(manifest: &BackupManifest, length: u64, sha256: &str) -> Result<()> {
    if length != manifest.size_bytes {
        let found =
            if length > manifest.size_bytes { "more".to_owned() } else { length.to_string() };
        let damage = format!("it has {found} bytes, expected {}", manifest.size_bytes);
        return Err(Error::Damaged(damage));
    }
    if sha256 != manifest.sha256 {
        let damage = format!("its SHA-256 is {sha256}, expected {}", manifest.sha256);
        return Err(Error::Damaged(damage));
    }
    Ok(())
}
