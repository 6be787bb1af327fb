//! The folder in which fetched programs are kept, for all processes of this user.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::user;

/// A program that no distribution has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// As it is called in messages.
    pub(crate) name: &'static str,
    /// The variable that names a program to use as it is.
    pub(crate) variable: &'static str,
    /// The file or folder in the cache, which has the version in its name.
    pub(crate) file: &'static str,
    /// Whether another user runs it where we are root, who cannot read root's home.
    pub(crate) not_by_root: bool,
}

impl Program {
    /// Finds the program, and fetches it when it was never fetched before. `fetch` gets a folder
    /// that is removed afterwards, and tells where in it the program is. Processes that fetch at
    /// the same time wait for each other.
    ///
    /// # Errors
    /// It cannot be fetched; the message says what to install or to set.
    pub(crate) fn find(
        self,
        fetch: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<PathBuf> {
        match self.named()? {
            Some(program) => Ok(program),
            None => self.fetched(fetch),
        }
    }

    /// The program that the variable names, if it names one.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn named(self) -> anyhow::Result<Option<PathBuf>> {
        let set = self.variable;
        let Some(path) = variable(set) else { return Ok(None) };
        let found = path.canonicalize();
        found
            .map(Some)
            .with_context(|| format!("{set} names {}, which is not there", path.display()))
    }

    /// As [`Program::find`], whatever the variable names.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn fetched(
        self,
        fetch: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<PathBuf> {
        let Self { name, variable: set, file, .. } = self;
        let cache = self.folder()?;
        let program = cache.join(file);
        if program.exists() {
            return Ok(program);
        }
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let lock = cache.join("lock");
        let lock =
            File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
        lock.lock().context("cannot lock the cache of mt-devservers")?;
        // Another process may have fetched it while we waited.
        if !program.exists() {
            fill(&cache, &program, fetch).with_context(|| {
                format!("cannot fetch {name}; {set} may name a program that is there already")
            })?;
        }
        Ok(program)
    }
}

fn fill(
    cache: &Path,
    program: &Path,
    fetch: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
) -> anyhow::Result<()> {
    // We hold the lock: what lies around is of processes that were killed.
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("fetch-") {
            fs::remove_dir_all(entry.path()).context("cannot clear the cache")?;
        }
    }
    // In the cache, so that the last step is a rename within one file system.
    let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache)?;
    let fetched = fetch(folder.path())?;
    make_executable(&fetched)?;
    fs::rename(&fetched, program).with_context(|| format!("cannot write {}", program.display()))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Program {
    fn folder(self) -> anyhow::Result<PathBuf> {
        let Self { name, not_by_root, .. } = self;
        let for_all = || (not_by_root && user::is_root()).then_some("/var/cache/mt-devservers");
        let folder = variable("MT_DEVSERVERS_CACHE")
            .or_else(|| for_all().map(PathBuf::from))
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("mt-devservers")))
            .or_else(|| variable("HOME").map(|folder| folder.join(".cache").join("mt-devservers")))
            .with_context(|| {
                format!(
                    "no folder to keep {name} in: set MT_DEVSERVERS_CACHE, XDG_CACHE_HOME or HOME"
                )
            })?;
        std::path::absolute(&folder).with_context(|| format!("the path {}", folder.display()))
    }
}

pub(crate) fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let shown = program.display();
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(program, permissions).with_context(|| format!("cannot prepare {shown}"))
}

/// Whether a file is the one that was pinned.
///
/// # Errors
/// It is not, or cannot be read.
pub(crate) fn check(file: &Path, expected: &str) -> anyhow::Result<()> {
    let found = sha256(file)?;
    let shown = file.display();
    ensure!(found == expected, "{shown} has the SHA-256 {found}, expected {expected}");
    Ok(())
}

pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut part).with_context(|| format!("cannot read {shown}"))?;
        if length == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&part[..length]);
    }
}
