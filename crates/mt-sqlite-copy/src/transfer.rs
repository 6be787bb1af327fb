use std::path::Path;

use mt_core::{BackupManifest, Result, Stamp};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
};

use crate::{ScratchFile, Sent, error::Error, verify_and_stamp};

/// How much is read or written at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Sends the file at `path` to `sink`; answers its length and checksum.
///
/// # Errors
/// `QuotaExceeded`: no room in the sink. `Unavailable`: the sink does not take it.
pub async fn send(path: &Path, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<Sent> {
    let reading = || Error::file("read", path);
    let mut file = File::open(path).await.map_err(reading())?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size_bytes = 0;
    loop {
        let read = file.read(&mut chunk).await.map_err(reading())?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        size_bytes += read as u64;
        sink.write_all(&chunk[..read]).await.map_err(Error::Sink)?;
    }
    sink.flush().await.map_err(Error::Sink)?;
    Ok(Sent { size_bytes, sha256: hex(&hash.finalize()) })
}

/// Receives a copy into `file` and syncs it. No more is taken from `source` than the manifest says
/// there is, and one byte.
///
/// # Errors
/// `Corrupt`: another length or checksum than the manifest's. `Unavailable`: the source breaks off.
/// `QuotaExceeded`: no room for it.
pub async fn receive(
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    file: &ScratchFile,
) -> Result<()> {
    let path = file.path();
    let writing = || Error::file("write", path);
    let mut file = File::options().write(true).truncate(true).open(path).await.map_err(writing())?;
    let mut source = source.take(manifest.size_bytes.saturating_add(1));
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        let read = source.read(&mut chunk).await.map_err(Error::Source)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        length += read as u64;
        file.write_all(&chunk[..read]).await.map_err(writing())?;
    }
    file.sync_all().await.map_err(writing())?;
    if length != manifest.size_bytes {
        let found =
            if length > manifest.size_bytes { "more".to_owned() } else { length.to_string() };
        let damage = format!("it has {found} bytes, expected {}", manifest.size_bytes);
        return Err(Error::Damaged(damage).into());
    }
    let sha256 = hex(&hash.finalize());
    if sha256 != manifest.sha256 {
        let damage = format!("its SHA-256 is {sha256}, expected {}", manifest.sha256);
        return Err(Error::Damaged(damage).into());
    }
    Ok(())
}

/// Receives a copy as [`receive`] does, verified and with `stamp` in the place of the one it has.
///
/// # Errors
/// As there and as of [`verify_and_stamp`].
pub async fn receive_stamped(
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    stamp: &Stamp,
) -> Result<ScratchFile> {
    let copy = on_thread(ScratchFile::in_temporary_directory).await?;
    receive(manifest, source, &copy).await?;
    let (manifest, stamp) = (manifest.clone(), stamp.clone());
    on_thread(move || {
        verify_and_stamp(&copy, &manifest, &stamp)?;
        Ok(copy)
    })
    .await
}

/// Runs blocking work on a thread for it.
///
/// # Errors
/// The work's; `Internal`: it panicked.
pub async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::from)?
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}
