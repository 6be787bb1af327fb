use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    look::Others,
};

/// A tenant's lock file, held.
///
/// Whoever has the tenant's database open holds it shared; whoever puts another file in its place
/// or removes it holds it exclusively. It is the tenant's and not the file's: it stays the same
/// when a restore switches generations. The operating system lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct TenantLock(#[expect(dead_code, reason = "held for its drop")] File);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// How often a held lock is tried again. File locks cannot be waited for with a limit.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

impl TenantLock {
    /// Takes the lock file at `path`, waiting up to `wait`. `None`: there is no lock file, and
    /// `create` was not set.
    pub(crate) async fn take(
        path: &Path,
        mode: Mode,
        create: bool,
        wait: Duration,
    ) -> Result<Option<Self>> {
        let deadline = Instant::now() + wait;
        loop {
            match Self::try_take(path, mode, create) {
                Err(Error::Locked(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                taken => return taken,
            }
        }
    }

    /// As [`Self::take`], without waiting.
    pub(crate) fn try_take(path: &Path, mode: Mode, create: bool) -> Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(create);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = match options.open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
                Err(e) => return Err(Error::file("open the lock file", path)(e)),
            };
            let tried = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match tried {
                Ok(()) if is_still_at(&file, path) => return Ok(Some(Self(file))),
                // Deprovisioning removed the lock file meanwhile, and a lock on a removed file
                // keeps nobody out.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Locked(path.to_owned())),
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", path)(e)),
            }
        }
    }

    /// Takes the lock file at `path` exclusively if nobody has it, else shared; makes it where there
    /// is none.
    pub(crate) fn try_take_any(path: &Path) -> Result<(Self, Others)> {
        let locked = || Error::Locked(path.to_owned());
        match Self::try_take(path, Mode::Exclusive, true) {
            Err(Error::Locked(_)) => {
                let lock = Self::try_take(path, Mode::Shared, true)?;
                Ok((lock.ok_or_else(locked)?, Others::Possible))
            }
            lock => Ok((lock?.ok_or_else(locked)?, Others::Excluded)),
        }
    }

    /// Removes the lock file, while it is held exclusively.
    pub(crate) fn remove(self, path: &Path) -> Result<()> {
        // Where an open file cannot be removed it stays, empty.
        if cfg!(unix) {
            std::fs::remove_file(path).map_err(Error::file("remove", path))?;
        }
        drop(self);
        Ok(())
    }
}

#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => identity(held) == identity(there),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_at(_file: &File, _path: &Path) -> bool {
    true
}
