//! A tenant's folder: how it appears, who may be in it, and how it vanishes.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mt_core::{DatabaseName, Error, ErrorKind, Result};

use crate::error::io_error;

/// The one file in a tenant's folder that is not SQLite's own.
const DATABASE: &str = "database.sqlite";
/// How often a lock that somebody else has is tried again. File locks cannot be waited for with a
/// limit.
const RETRY: Duration = Duration::from_millis(10);

/// Where a tenant's database is, or would be.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) root: PathBuf,
    pub(crate) name: DatabaseName,
}

/// Whether others may be in the folder too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// The right to be in a folder; the operating system takes it back when the process dies.
pub(crate) type Lock = Arc<File>;

impl Folder {
    fn path(&self) -> PathBuf {
        self.root.join(self.name.as_str())
    }

    pub(crate) fn database(&self) -> PathBuf {
        database_in(&self.path())
    }

    /// Where the folder is while it is being removed. No name begins with a dot.
    fn removed(&self) -> PathBuf {
        self.root.join(format!(".removed-{}", self.name))
    }

    /// Enters the folder, waiting up to `wait` for those who keep others out.
    ///
    /// # Errors
    /// `TenantNotFound`; `InUse`.
    pub(crate) async fn enter(&self, mode: Mode, wait: Duration) -> Result<Lock> {
        let deadline = Instant::now() + wait;
        loop {
            let folder = self.clone();
            match blocking(move || Ok(folder.try_enter(mode))).await? {
                Ok(Some(lock)) => return Ok(Arc::new(lock)),
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Ok(None) => {
                    return Err(Error::new(
                        ErrorKind::InUse,
                        "the tenant's folder is used by somebody else; nothing was done",
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let text = format!("there is no database {}", self.database().display());
                    return Err(Error::new(ErrorKind::TenantNotFound, text));
                }
                Err(e) => return Err(io_error("lock", &self.path(), e)),
            }
        }
    }

    /// `None`: somebody else is in it.
    fn try_enter(&self, mode: Mode) -> io::Result<Option<File>> {
        // A folder vanishes under the root's exclusive lock only. So what is locked here is what
        // the path still names.
        let root = File::open(&self.root)?;
        root.lock_shared()?;
        fs::metadata(self.database())?;
        let folder = File::open(self.path())?;
        let tried = match mode {
            Mode::Shared => folder.try_lock_shared(),
            Mode::Exclusive => folder.try_lock(),
        };
        match tried {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Gives a finished folder the tenant's name, durably; `false`: the name is taken.
    pub(crate) fn publish(&self, finished: &Path) -> Result<bool> {
        let published = sync(finished).and_then(|()| {
            // A folder never replaces another that has something in it: of several who are at this
            // at once, one succeeds.
            fs::rename(finished, self.path())?;
            sync(&self.root)
        });
        match published {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(e) => Err(io_error("make", &self.path(), e)),
        }
    }

    /// Removes the folder; `lock` is the exclusive right to it. Without one it removes what a
    /// removal that died half way left behind.
    pub(crate) fn remove(&self, lock: Option<&Lock>) -> Result<()> {
        let removed = || {
            let root = match File::open(&self.root) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                root => root?,
            };
            root.lock()?;
            remove_if_there(&self.removed())?;
            if lock.is_some() {
                // Whole or not at all: what has the tenant's name has all its files.
                fs::rename(self.path(), self.removed())?;
                sync(&self.root)?;
                remove_if_there(&self.removed())?;
            }
            Ok(())
        };
        removed().map_err(|e| io_error("remove", &self.path(), e))
    }
}

/// The database in a tenant's folder.
pub(crate) fn database_in(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

/// Makes the appearing and vanishing of names in `folder` durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The names of the folders in `root` that hold a database.
pub(crate) fn names_in(root: &Path) -> Result<Vec<String>> {
    let names = || {
        let entries = match fs::read_dir(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && database_in(&entry.path()).exists()
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    };
    names().map_err(|e| io_error("list", root, e))
}

/// Runs blocking work on a thread for it. It runs to its end, also if nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        Error::new(ErrorKind::Internal, "a worker thread ended early").with_source(e)
    })?
}
