//! Copies of a tenant's database, and putting one back.

use std::path::Path;

use chrono::Utc;
use mt_core::{
    BackupManifest, DatabaseFactory as _, ErrorKind, FactoryContext, Placement, RestoreOptions,
    Result, Stamp, TenantId,
};
use mt_sqlite_copy::{Contents, ENCODING, ScratchFile, manifest, receive, send, verify_and_stamp};
use rusqlite::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    NAME, SqliteConfig, SqliteFactory,
    error::{Error, Result as OwnResult},
    factory::blocking,
    files::Files,
    look::{Others, look, open},
    tenant_lock::{Mode, TenantLock},
};

pub(crate) async fn take(
    factory: &SqliteFactory,
    tenant: &TenantId,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<BackupManifest> {
    let located = factory.locate(tenant, Mode::Shared).await?;
    let created_at = Utc::now();
    let work = {
        let (files, config) = (factory.files.clone(), factory.config.clone());
        let ledger = factory.context.ledger().map(str::to_owned);
        let (deployment, tenant) = (factory.context.deployment, tenant.clone());
        move || {
            // With its lock, which is held until the copy is made, also if nobody waits for it.
            let located = located;
            let from = &located.path;
            let (stamp, _) = look(from, &config, None, Others::Possible)?.stamped(&tenant)?;
            stamp.check(deployment, &tenant, located.placement.generation)?;
            let copy = ScratchFile::in_directory(&files.directory)?;
            let source = open(from, &config)?;
            let contents = copy_database(&source, copy.path(), ledger.as_deref())?;
            Ok((stamp, copy, contents))
        }
    };
    let (stamp, copy, contents) = blocking(work).await?;
    let sent = send(copy.path(), sink).await?;
    manifest(stamp, created_at, contents, sent)
}

/// Copies in one step: the source's readers and writers go on, and the copy is of one moment.
fn copy_database(source: &Connection, to: &Path, ledger: Option<&str>) -> Result<Contents> {
    let copying = || Error::sqlite("copy the tenant's database");
    let mut copy = Connection::open(to).map_err(copying())?;
    let quick = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;";
    copy.execute_batch(quick).map_err(copying())?;
    rusqlite::backup::Backup::new(source, &mut copy)
        .and_then(|backup| backup.run_to_completion(i32::MAX, std::time::Duration::ZERO, None))
        .map_err(copying())?;
    // A copy has no log beside it, so it can be read where nothing can be written.
    copy.execute_batch("PRAGMA journal_mode = DELETE").map_err(copying())?;
    let contents = Contents::read(&copy, ledger)?;
    copy.close().map_err(|(_, e)| copying()(e))?;
    Ok(contents)
}

pub(crate) async fn put_back(
    factory: &SqliteFactory,
    tenant: &TenantId,
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    options: RestoreOptions,
) -> Result<()> {
    if !factory.capabilities().restore {
        let what = "restore without a placement store that can change; give the factory one";
        return Err(mt_core::Error::unsupported(NAME, what));
    }
    manifest.check(NAME, ENCODING, factory.context.deployment, tenant, options)?;
    let before = factory.placement(tenant).await?;
    let replaces = factory.path_at(tenant, &before).exists();
    let mut after = before.clone();
    if replaces {
        after.generation = before.generation.next();
        after.database = None;
    }
    let files = factory.files.clone();
    let make = move || {
        files.create_directory()?;
        ScratchFile::in_directory(&files.directory)
    };
    let copy = blocking(make).await?;
    receive(manifest, source, &copy).await?;
    let stamp = Stamp::new(factory.context.deployment, tenant, after.generation);
    let work = {
        let manifest = manifest.clone();
        move || verify_and_stamp(&copy, &manifest, &stamp).map(|()| copy)
    };
    let copy = blocking(work).await?;

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
    copy: ScratchFile,
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
        let (copy, from, to) = (self.copy.path().to_owned(), from.to_owned(), to.to_owned());
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
