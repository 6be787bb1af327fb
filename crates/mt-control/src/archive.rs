//! Backups as files: a tar archive of the manifest and the copy, readable with `tar`.

use std::{
    io::{Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use mt_core::{
    BackupManifest, DatabaseFactory as _, Error, ErrorKind, RestoreOptions, Result, TenantId,
    TenantState,
};

use crate::{MultiTenancy, TenantRecord, multi_tenancy::Inner, provider::OwnProvider};

const MANIFEST: &str = "manifest.json";
const COPY: &str = "database";
/// A tar archive is made of blocks of this many bytes.
const BLOCK_BYTES: usize = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// A manifest is a few hundred bytes and a line per table; more than this is no manifest.
const MANIFEST_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Which tenant a restore makes of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreAs {
    /// The tenant it was taken of, in the installation it was taken in.
    Same,
    /// A new tenant. The copy gets a stamp of its own; it may come from another installation.
    New(TenantId),
    /// The same, with a provider of this program's that need not be the one that new tenants get. So
    /// a tenant moves: backup, deprovision, and restore under its own id.
    NewOn(TenantId, String),
}

impl MultiTenancy {
    /// Writes a consistent copy of the tenant's database, with its manifest, to a new file at
    /// `path`. The tenant stays in service.
    ///
    /// The file appears whole and durable, or not at all. It holds the tenant's data in the clear:
    /// keep it accordingly.
    ///
    /// # Errors
    /// `TenantNotFound`; `Config`: `path` exists or cannot be written, or a provider keeps
    /// the tenant's database that is not one of this program's; and as [`DatabaseFactory::backup`](mt_core::DatabaseFactory::backup).
    pub async fn backup(
        &self,
        tenant: &TenantId,
        path: impl AsRef<Path>,
    ) -> Result<BackupManifest> {
        let inner = &*self.inner;
        let provider = inner.provider_of(&inner.catalog.get(tenant).await?)?;
        let path = path.as_ref();
        let failed = |e: std::io::Error| io_error("write the backup", path)(e).with_tenant(tenant);
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file =
            tempfile::Builder::new().prefix(".backup-").tempfile_in(folder).map_err(failed)?;
        // The copy's length stands before the copy, and is known after it.
        file.seek(SeekFrom::Start(BLOCK)).map_err(failed)?;
        let mut sink = tokio::fs::File::from_std(file.as_file().try_clone().map_err(failed)?);
        let manifest = provider.backup(tenant, &mut sink).await?;
        tokio::io::AsyncWriteExt::flush(&mut sink).await.map_err(failed)?;
        drop(sink);
        let (path, written) = (path.to_owned(), manifest.clone());
        blocking(move || {
            finish_archive(file.as_file_mut(), &written)
                .map_err(io_error("write the backup", &path))?;
            let kept = file.persist_noclobber(&path).map_err(|e| e.error);
            kept.and_then(|_| sync_folder_of(&path)).map_err(io_error("write the backup", &path))
        })
        .await?;
        Ok(manifest)
    }

    /// Makes a tenant's database of the backup file at `path`.
    ///
    /// With [`RestoreAs::Same`] the tenant is taken out of service meanwhile, and is in the state it
    /// was in afterwards. Its old database is removed once the copy is in its place.
    /// With [`RestoreAs::New`] a tenant is provisioned from the copy: migrated, `on_provision` run,
    /// not seeded. If it fails before the copy has arrived, the new tenant is left `failed` and
    /// `restoring`: [`deprovision`](Self::deprovision) it, then restore again.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `Corrupt` | the file is no backup, or not what its manifest says |
    /// | `ForeignDatabase` | it is of another tenant or installation; restore it as a new tenant |
    /// | `TenantNotFound` | the tenant is not there; restore it as a new tenant |
    /// | `TenantExists` | the new tenant is there already |
    /// | `Config` | a provider keeps the database of the tenant that would be replaced, or is to keep the new one, that is not one of this program's |
    /// | `InUse` | the tenant's database is used by somebody who did not let go in time |
    ///
    /// And as [`DatabaseFactory::restore`](mt_core::DatabaseFactory::restore). The tenant's data is
    /// as it was on every error.
    pub async fn restore(
        &self,
        tenant: &TenantId,
        path: impl AsRef<Path>,
        restore_as: RestoreAs,
    ) -> Result<TenantRecord> {
        let inner = &*self.inner;
        let path = path.as_ref().to_owned();
        let manifest = {
            let path = path.clone();
            blocking(move || read_manifest(&path)).await.map_err(|e| e.with_tenant(tenant))?
        };
        if manifest.tenant != *tenant {
            return Err(Error::new(
                ErrorKind::ForeignDatabase,
                format!("{} is a backup of tenant `{}`", path.display(), manifest.tenant),
            )
            .with_tenant(tenant));
        }
        match restore_as {
            RestoreAs::Same => inner.restore_same(tenant, &manifest, &path).await?,
            RestoreAs::New(new) => return inner.restore_new(&new, None, &manifest, &path).await,
            RestoreAs::NewOn(new, provider) => {
                return inner.restore_new(&new, Some(&provider), &manifest, &path).await;
            }
        }
        inner.catalog.get(tenant).await
    }
}

impl Inner {
    async fn restore_same(
        &self,
        tenant: &TenantId,
        manifest: &BackupManifest,
        path: &Path,
    ) -> Result<()> {
        let _turn = self.operate(tenant).await;
        let before = self.catalog.get(tenant).await?;
        let provider = self.provider_of(&before)?;
        let generation = before.placement.generation;
        // Not active, so that this process and the others let go of it.
        let from = [TenantState::Active, TenantState::Suspended];
        self.catalog.begin_restore(tenant, &from).await?;
        let restored = async {
            self.revoke(tenant).await?;
            let mut copy = open_copy(path).await?;
            // Forgotten first: if this process dies half way, the next migration looks.
            self.catalog.note_schema(tenant, generation, None, None).await?;
            let options = RestoreOptions::default();
            provider.restore(tenant, manifest, &mut copy, options).await
        };
        let restored = restored.await;
        // What the catalog says of a schema it only believes; the next migration looks where it says
        // nothing. So a failure here is no failure of the restore.
        let noted = match &restored {
            Ok(()) => self.note_current_schema(&provider, tenant).await,
            Err(_) => {
                let version = before.schema_version.as_deref();
                let fingerprint = before.schema_fingerprint.as_deref();
                self.catalog.note_schema(tenant, generation, version, fingerprint).await
            }
        };
        if let Err(error) = noted {
            tracing::warn!(tenant = %tenant, error = %error.to_chain(), "the schema of a restored tenant is not noted");
        }
        // The copy is a new database, and open to everybody in its engine.
        let is_suspended = before.state == TenantState::Suspended;
        let closed = if restored.is_ok() && is_suspended && provider.capabilities().suspend {
            provider.suspend(tenant).await
        } else {
            Ok(())
        };
        let restored = restored.and(closed);
        let chain = restored.as_ref().err().map(Error::to_chain);
        let ended = self.catalog.end_restore(tenant, before.state, chain.as_deref()).await;
        self.forget(tenant);
        restored.and(ended)
    }

    async fn note_current_schema(&self, provider: &OwnProvider, tenant: &TenantId) -> Result<()> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let status = schema.status(provider, tenant).await?;
        // A copy may be older than the schema: what is pending in it is found by looking.
        let fingerprint = status.is_current().then(|| schema.fingerprint());
        let generation = self.catalog.get(tenant).await?.placement.generation;
        let version = status.schema_version.as_deref();
        self.catalog.note_schema(tenant, generation, version, fingerprint).await
    }

    async fn restore_new(
        &self,
        tenant: &TenantId,
        chosen: Option<&str>,
        manifest: &BackupManifest,
        path: &Path,
    ) -> Result<TenantRecord> {
        let _turn = self.operate(tenant).await;
        let chosen = chosen.unwrap_or_else(|| self.providers.default().name());
        let provider = self.provider(chosen).map_err(|e| e.with_tenant(tenant))?;
        let reserved = self.catalog.reserve(tenant, chosen, true).await?;
        if let Err(error) = require_no_database(&provider, tenant).await {
            self.catalog.release(&reserved).await?;
            return Err(error);
        }
        let restored = async {
            let mut copy = open_copy(path).await?;
            let options = RestoreOptions::default().with_restamp(true);
            provider.restore(tenant, manifest, &mut copy, options).await?;
            // From here on it is a tenant like any other, which `provision` can finish.
            self.catalog.clear_restore(tenant).await?;
            self.finish(&provider, tenant, false).await
        };
        let restored = restored.await;
        self.settle(tenant, &[TenantState::Provisioning], TenantState::Active, restored).await?;
        self.catalog.get(tenant).await
    }
}

/// Refuses a new tenant whose database is there already, such as one that the catalog has lost.
async fn require_no_database(provider: &OwnProvider, tenant: &TenantId) -> Result<()> {
    match provider.describe(tenant).await {
        Err(e) if e.kind() == ErrorKind::TenantNotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::Unsupported => Err(e),
        described => Err(Error::new(
            ErrorKind::NameTaken,
            "there is a database of the new tenant's name already; nothing was replaced",
        )
        .with_tenant(tenant)
        .with_source(described.err().map_or_else(
            || "it is stamped for this tenant".into(),
            |e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>,
        ))),
    }
}
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(ErrorKind::Internal, "a worker thread ended early").with_source(e)
    })?
}

fn io_error(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let message = format!("cannot {action} {}", path.display());
    move |e| {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => ErrorKind::QuotaExceeded,
            _ => ErrorKind::Config,
        };
        Error::new(kind, message).with_source(e)
    }
}

/// Makes the appearing of a file durable, where folders can be synced.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if cfg!(unix) {
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    } else {
        Ok(())
    }
}

/// Puts the header before the copy and the manifest behind it.
fn finish_archive(file: &mut std::fs::File, manifest: &BackupManifest) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header(COPY, manifest.size_bytes, manifest)?.as_bytes())?;
    file.seek(SeekFrom::Start(BLOCK + manifest.size_bytes))?;
    let text = serde_json::to_vec_pretty(manifest)?;
    file.write_all(&padding(manifest.size_bytes))?;
    file.write_all(header(MANIFEST, text.len() as u64, manifest)?.as_bytes())?;
    file.write_all(&text)?;
    file.write_all(&padding(text.len() as u64))?;
    // Two empty blocks end an archive.
    file.write_all(&[0; 2 * BLOCK_BYTES])?;
    file.sync_all()
}

fn header(name: &str, size: u64, manifest: &BackupManifest) -> std::io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(manifest.created_at.timestamp()).unwrap_or_default());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

fn padding(length: u64) -> Vec<u8> {
    vec![0; usize::try_from(length.next_multiple_of(BLOCK) - length).unwrap_or_default()]
}

/// Where the copy's bytes are in an archive, and its manifest.
struct Contents {
    manifest: BackupManifest,
    copy: (u64, u64),
}

fn read_archive(path: &Path) -> Result<Contents> {
    let damaged = |what: &str| {
        let text = format!("{} is no backup of a tenant: {what}", path.display());
        Error::new(ErrorKind::Corrupt, text)
    };
    let file = std::fs::File::open(path).map_err(io_error("read the backup", path))?;
    let mut archive = tar::Archive::new(file);
    let torn = |e: std::io::Error| damaged("it is torn").with_source(e);
    let (mut manifest, mut copy) = (None, None);
    for entry in archive.entries_with_seek().map_err(torn)? {
        let entry = entry.map_err(torn)?;
        let name = entry.path().map_err(torn)?.into_owned();
        if name == Path::new(COPY) {
            copy = Some((entry.raw_file_position(), entry.size()));
        } else if name == Path::new(MANIFEST) {
            let mut text = String::new();
            entry.take(MANIFEST_MAX_BYTES).read_to_string(&mut text).map_err(torn)?;
            let read = serde_json::from_str(&text);
            manifest = Some(read.map_err(|e| damaged("its manifest is damaged").with_source(e))?);
        }
    }
    let manifest: BackupManifest = manifest.ok_or_else(|| damaged("it has no manifest"))?;
    let copy = copy.ok_or_else(|| damaged("it has no copy"))?;
    Ok(Contents { manifest, copy })
}

fn read_manifest(path: &Path) -> Result<BackupManifest> {
    Ok(read_archive(path)?.manifest)
}

async fn open_copy(path: &Path) -> Result<impl tokio::io::AsyncRead + Send + Unpin + use<>> {
    let path: PathBuf = path.to_owned();
    let (file, length) = blocking(move || {
        let (start, length) = read_archive(&path)?.copy;
        let reading = io_error("read the backup", &path);
        let open = || {
            let mut file = std::fs::File::open(&path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(file)
        };
        Ok((open().map_err(reading)?, length))
    })
    .await?;
    Ok(tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length))
}
