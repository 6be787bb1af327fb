//! Copies of a tenant's database, and putting one back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chrono::Utc;
use mt_core::{
    BackupManifest, DatabaseFactory as _, ErrorKind, FactoryContext, Placement, RestoreOptions,
    Result, Stamp, TenantId,
};
use rusqlite::Connection;
use sea_orm::DbBackend;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    NAME, SqliteConfig, SqliteFactory,
    error::{Error, Result as OwnResult},
    factory::blocking,
    files::{Files, create_private, remove_if_there},
    look::{Others, look, open},
    tenant_lock::{Mode, TenantLock},
};

/// A copy is a SQLite database file, complete in itself.
const ENCODING: &str = "sqlite-file";

/// How much is read or written at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file that is removed when nobody needs it any more, also when the work is cancelled.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.0) {
            tracing::warn!(error = %error, "a temporary file is left behind");
        }
    }
}

pub(crate) async fn take(
    factory: &SqliteFactory,
    tenant: &TenantId,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<BackupManifest> {
    let located = factory.locate(tenant, Mode::Shared).await?;
    let copy = Temporary(factory.files.temporary());
    let created_at = Utc::now();
    let work = {
        let (to, config) = (copy.0.clone(), factory.config.clone());
        let ledger = factory.context.ledger().map(str::to_owned);
        let (deployment, tenant) = (factory.context.deployment, tenant.clone());
        move || {
            // With its lock, which is held until the copy is made, also if nobody waits for it.
            let located = located;
            let from = &located.path;
            let (stamp, _) = look(from, &config, None, Others::Possible)?.stamped(&tenant)?;
            stamp.check(deployment, &tenant, located.placement.generation)?;
            let source = open(from, &config)?;
            Ok((stamp, copy_database(&source, &to, ledger.as_deref())?))
        }
    };
    let (stamp, contents) = blocking(work).await?;
    let (size_bytes, sha256) = send(&copy.0, sink).await?;
    Ok(BackupManifest {
        format: BackupManifest::FORMAT,
        encoding: ENCODING.to_owned(),
        deployment: stamp.deployment,
        tenant: stamp.tenant,
        generation: stamp.generation,
        schema_version: contents.schema_version,
        created_at,
        size_bytes,
        sha256,
        rows: contents.rows,
    })
}

struct Contents {
    rows: BTreeMap<String, u64>,
    schema_version: Option<String>,
}

/// Copies in one step: the source's readers and writers go on, and the copy is of one moment.
fn copy_database(source: &Connection, to: &Path, ledger: Option<&str>) -> OwnResult<Contents> {
    let copying = || Error::sqlite("copy the tenant's database");
    create_private(to).map_err(Error::file("write", to))?;
    let mut copy = Connection::open(to).map_err(copying())?;
    let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;";
    copy.execute_batch(quick).map_err(copying())?;
    rusqlite::backup::Backup::new(source, &mut copy)
        .and_then(|backup| backup.run_to_completion(i32::MAX, std::time::Duration::ZERO, None))
        .map_err(copying())?;
    // A copy has no log beside it, so it can be read where nothing can be written.
    copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(copying())?;
    let contents = Contents {
        rows: count_rows(&copy)?,
        schema_version: match ledger {
            Some(ledger) => newest(&copy, ledger)?,
            None => None,
        },
    };
    copy.close().map_err(|(_, e)| copying()(e))?;
    Ok(contents)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rows per ordinary table. Virtual tables keep theirs in ordinary ones, which are counted.
fn count_rows(connection: &Connection) -> OwnResult<BTreeMap<String, u64>> {
    let count = || {
        let mut tables = connection.prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'",
        )?;
        let names: Vec<String> =
            tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut rows = BTreeMap::new();
        for name in names {
            let query = format!("SELECT count(*) FROM {}", quoted(&name));
            let count: i64 = connection.query_row(&query, [], |row| row.get(0))?;
            rows.insert(name, count.unsigned_abs());
        }
        Ok(rows)
    };
    count().map_err(Error::sqlite("count the rows of the copy"))
}

fn newest(connection: &Connection, ledger: &str) -> OwnResult<Option<String>> {
    let query = format!("SELECT max(version) FROM {}", quoted(ledger));
    connection
        .query_row(&query, [], |row| row.get(0))
        .map_err(Error::sqlite("read the migrations of the copy"))
}

/// Sends a file to `sink`; answers its length and checksum.
async fn send(path: &Path, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> OwnResult<(u64, String)> {
    let reading = || Error::file("read", path);
    let mut file = tokio::fs::File::open(path).await.map_err(reading())?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        let read = file.read(&mut chunk).await.map_err(reading())?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        length += read as u64;
        sink.write_all(&chunk[..read]).await.map_err(Error::Sink)?;
    }
    sink.flush().await.map_err(Error::Sink)?;
    Ok((length, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

pub(crate) async fn put_back(
    factory: &SqliteFactory,
    tenant: &TenantId,
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    options: RestoreOptions,
) -> Result<()> {
    check_request(factory, tenant, manifest, options)?;
    let before = factory.placement(tenant).await?;
    let replaces = factory.path_at(tenant, &before).exists();
    let mut after = before.clone();
    if replaces {
        after.generation = before.generation.next();
        after.database = None;
    }
    let files = factory.files.clone();
    blocking(move || Ok(files.create_directory()?)).await?;
    let copy = Temporary(factory.files.temporary());
    receive(manifest, source, &copy.0).await?;
    let stamp = Stamp::new(factory.context.deployment, tenant, after.generation);
    let work = {
        let (path, manifest, config) = (copy.0.clone(), manifest.clone(), factory.config.clone());
        move || {
            let (found, _) =
                look(&path, &config, None, Others::Excluded)?.stamped(&manifest.tenant)?;
            found.check(manifest.deployment, &manifest.tenant, manifest.generation)?;
            Ok(verify_and_stamp(&path, &manifest, &stamp)?)
        }
    };
    blocking(work).await?;

    let (_revoked, lock) = factory.take_over(tenant).await?;
    let replacement = Replacement {
        files: factory.files.clone(),
        config: factory.config.clone(),
        context: factory.context.clone(),
        tenant: tenant.clone(),
        before,
        after,
        replaces,
        copy,
        lock,
    };
    // A task of its own: whoever asked may give up, but the lock is held until it is done.
    tokio::spawn(replacement.run()).await.map_err(Error::from)?
}

/// A verified copy on its way into the place of a tenant's database.
struct Replacement {
    files: Files,
    config: SqliteConfig,
    context: FactoryContext,
    tenant: TenantId,
    before: Placement,
    after: Placement,
    /// There is a database to be replaced, and not only a tenant without one.
    replaces: bool,
    copy: Temporary,
    #[expect(dead_code, reason = "held for its drop")]
    lock: TenantLock,
}

impl Replacement {
    async fn run(self) -> Result<()> {
        let path_of =
            |placement: &Placement| self.files.path(&self.files.name(&self.tenant, placement));
        let (from, to) = (path_of(&self.before), path_of(&self.after));
        // While the copy was received somebody may have restored, removed or provisioned the tenant.
        let now = self.context.placements.get(&self.tenant).await?;
        if now.as_ref() != Some(&self.before) || from.exists() != self.replaces {
            return Err(mt_core::Error::new(
                ErrorKind::Conflict,
                "the tenant's database changed while the copy was being received; nothing was replaced",
            ));
        }
        let replaced = self.publish(&from, &to).await?;
        if !self.replaces {
            return Ok(());
        }
        match self.switch().await {
            Ok(()) => {}
            Err(Switch::Refused(error)) => {
                self.tidy(move |files| files.remove(&to)).await;
                return Err(error);
            }
            // Both stay: the placement names one of them, and the next restore or removal finds
            // the other.
            Err(Switch::Unknown(error)) => return Err(error),
        }
        // The tenant has its restored database; what is left of the old one changes nothing.
        self.tidy(move |files| match replaced {
            Replaced::Own => files.remove(&from),
            Replaced::Corrupt => files.put_aside(&from),
        })
        .await;
        Ok(())
    }

    /// Puts the copy under its final name, if what is to be replaced is this tenant's, whatever the
    /// options allow of the copy; or is no database any more, which is what backups are for.
    async fn publish(&self, from: &Path, to: &Path) -> Result<Replaced> {
        let (files, config) = (self.files.clone(), self.config.clone());
        let (deployment, tenant) = (self.context.deployment, self.tenant.clone());
        let (copy, from, to) = (self.copy.0.clone(), from.to_owned(), to.to_owned());
        blocking(move || {
            let is_own = |path: &Path| {
                let (stamp, _) = look(path, &config, None, Others::Excluded)?.stamped(&tenant)?;
                stamp.check(deployment, &tenant, stamp.generation)
            };
            let replaced = match from.exists().then(|| is_own(&from)).transpose() {
                Ok(_) => Replaced::Own,
                Err(e) if e.kind() == ErrorKind::Corrupt => Replaced::Corrupt,
                Err(e) => return Err(e),
            };
            // What a restore that died may have left under the new name.
            if to != from && to.exists() {
                is_own(&to)?;
            }
            // Also what an older file of that name left beside it, which would be played into this
            // one.
            files.remove(&to)?;
            if !files.publish(&copy, &to)? {
                return Err(Error::Taken("it appeared while the copy was put in its place").into());
            }
            Ok(replaced)
        })
        .await
    }

    async fn switch(&self) -> std::result::Result<(), Switch> {
        let placements = &self.context.placements;
        let Err(error) = placements.compare_and_set(&self.tenant, &self.before, &self.after).await
        else {
            return Ok(());
        };
        let refusals = [ErrorKind::Conflict, ErrorKind::TenantNotFound, ErrorKind::Unsupported];
        if refusals.contains(&error.kind()) {
            return Err(Switch::Refused(error));
        }
        // The store may have switched and lost its answer.
        match placements.get(&self.tenant).await {
            Ok(Some(now)) if now == self.after => Ok(()),
            Ok(Some(now)) if now == self.before => Err(Switch::Refused(error)),
            _ => Err(Switch::Unknown(error)),
        }
    }

    async fn tidy(&self, work: impl FnOnce(Files) -> OwnResult<()> + Send + 'static) {
        let files = self.files.clone();
        if let Err(error) = blocking(move || Ok(work(files)?)).await {
            tracing::warn!(tenant = %self.tenant, error = %error.to_chain(), "a file that is no longer the tenant's database is left behind");
        }
    }
}

/// What a copy takes the place of.
#[derive(Clone, Copy)]
enum Replaced {
    /// The tenant's own database.
    Own,
    /// A file under its name that is no database any more. It is kept.
    Corrupt,
}

/// Why a placement was not switched.
enum Switch {
    /// It is as it was.
    Refused(mt_core::Error),
    /// It may have been.
    Unknown(mt_core::Error),
}

/// What can be refused without reading the copy.
fn check_request(
    factory: &SqliteFactory,
    tenant: &TenantId,
    manifest: &BackupManifest,
    options: RestoreOptions,
) -> Result<()> {
    if !factory.capabilities().restore {
        let what = "restore without a placement store that can change; give the factory one";
        return Err(mt_core::Error::unsupported(NAME, what));
    }
    if manifest.encoding != ENCODING || manifest.format != BackupManifest::FORMAT {
        let what = format!(
            "restore a copy of encoding `{}`, format {}; expected `{ENCODING}`, format {}",
            manifest.encoding,
            manifest.format,
            BackupManifest::FORMAT
        );
        return Err(mt_core::Error::unsupported(NAME, what));
    }
    let is_own = manifest.tenant == *tenant && manifest.deployment == factory.context.deployment;
    if !is_own && !options.restamp {
        return Err(mt_core::Error::new(
            ErrorKind::ForeignDatabase,
            format!(
                "the copy is of tenant `{}` in deployment {}; to make it this tenant's, allow a new stamp",
                manifest.tenant, manifest.deployment
            ),
        ));
    }
    Ok(())
}

/// Receives the copy into a synced file, no longer than the manifest says.
async fn receive(
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    path: &Path,
) -> OwnResult<()> {
    let writing = || Error::file("write", path);
    let mut file = tokio::fs::File::from_std(create_private(path).map_err(writing())?);
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
    let sha256 = hex(&hash.finalize());
    if length != manifest.size_bytes {
        return Err(Error::Damaged(format!(
            "it has {} bytes, expected {}",
            if length > manifest.size_bytes { "more".to_owned() } else { length.to_string() },
            manifest.size_bytes
        )));
    }
    if sha256 != manifest.sha256 {
        return Err(Error::Damaged(format!(
            "its SHA-256 is {sha256}, expected {}",
            manifest.sha256
        )));
    }
    Ok(())
}

/// Opens the received copy, looks whether it is sound, and puts the tenant's new stamp into it.
fn verify_and_stamp(path: &Path, manifest: &BackupManifest, stamp: &Stamp) -> OwnResult<()> {
    let failed = || Error::sqlite("open the copy");
    let mut connection = Connection::open(path).map_err(failed())?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed())?;
    if verdict != "ok" {
        return Err(Error::Damaged(verdict));
    }
    let rows = count_rows(&connection)?;
    if rows != manifest.rows {
        return Err(Error::Damaged(format!(
            "its tables have {rows:?} rows, expected {:?}",
            manifest.rows
        )));
    }
    let stamping = || Error::sqlite("stamp the copy");
    let transaction = connection.transaction().map_err(stamping())?;
    for statement in stamp.to_replacing_statements(DbBackend::Sqlite) {
        transaction.execute(&statement.sql, []).map_err(stamping())?;
    }
    transaction.commit().map_err(stamping())?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(stamping())?;
    connection.close().map_err(|(_, e)| stamping()(e))
}
