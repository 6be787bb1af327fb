use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mt_core::{DatabaseEntry, DatabaseName, Generation, NameRules, Placement, TenantId};
use uuid::Uuid;

use crate::error::{Error, Result};

/// File names that also work where capitals are folded or some names mean devices. 120 bytes leave
/// room for what SQLite and this crate append.
pub(crate) const RULES: NameRules = NameRules::new(120).without(&[
    "aux", "con", "nul", "prn", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
]);

const EXTENSION: &str = ".sqlite";
/// What the names of files that are being written end with.
const TEMPORARY: &str = ".tmp";
/// What the name of a folder in which an image is made starts with.
pub(crate) const IMAGE: &str = ".image-";
/// Nobody writes a file for a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of the tenants' files: which is whose, and how they appear and vanish.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
}

impl Files {
    pub(crate) fn name(&self, tenant: &TenantId, placement: &Placement) -> DatabaseName {
        let derived = || RULES.encode(&self.prefix, tenant, placement.generation);
        placement.database.clone().unwrap_or_else(derived)
    }

    pub(crate) fn path(&self, name: &DatabaseName) -> PathBuf {
        self.directory.join(format!("{name}{EXTENSION}"))
    }

    /// One lock file per tenant, whatever the generation.
    pub(crate) fn lock_path(&self, tenant: &TenantId) -> PathBuf {
        let name = RULES.encode(&self.prefix, tenant, Generation::FIRST);
        self.directory.join(format!("{name}.lock"))
    }

    pub(crate) fn create_directory(&self) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        // Tenants' data is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.directory).map_err(Error::file("make the directory", &self.directory))
    }

    /// A path for a file that is being written. It is not listed, and not anybody's database.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.directory.join(format!(".{}{TEMPORARY}", Uuid::new_v4()))
    }

    /// Removes what processes that died have left of files being written.
    pub(crate) fn sweep(&self) {
        let is_ours = |name: &str| {
            // A copy that was being checked may have SQLite's own files beside it.
            name.starts_with('.') && (name.contains(TEMPORARY) || name.starts_with(IMAGE))
        };
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_old = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
            if is_old && entry.file_name().to_str().is_some_and(is_ours) {
                let path = entry.path();
                let removed = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                tracing::info!(path = %path.display(), removed = removed.is_ok(), "an abandoned temporary file");
            }
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<DatabaseEntry>> {
        let failed = Error::file("list", &self.directory);
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?,
        };
        let decode = |entry: fs::DirEntry| {
            let file_name = entry.file_name();
            let name = file_name.to_str()?.strip_suffix(EXTENSION)?;
            let (tenant, generation) = RULES.decode(&self.prefix, name)?;
            Some(DatabaseEntry::new(DatabaseName::from_stored(name), tenant, generation))
        };
        Ok(entries.into_iter().filter_map(decode).collect())
    }

    /// Lets `write` write a database that appears under `path` whole and durable, or not at all, and
    /// never in the place of another; `false`: there is one.
    pub(crate) fn publish_new(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<bool> {
        let temporary = self.temporary();
        let written = create_private(&temporary)
            .map_err(Error::file("write", &temporary))
            .and_then(|mut file| write(&mut file).map(|()| file))
            .and_then(|file| file.sync_all().map_err(Error::file("write", &temporary)));
        let published = written.and_then(|()| self.publish(&temporary, path));
        if !matches!(published, Ok(true)) {
            // The answer matters more than this one.
            fs::remove_file(&temporary).ok();
        }
        published
    }

    /// Gives a finished, synced file its final name; `false`: the name is taken. A link, unlike a
    /// rename, never takes the place of another file.
    pub(crate) fn publish(&self, temporary: &Path, path: &Path) -> Result<bool> {
        match fs::hard_link(temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked.map_err(Error::file("make", path))?,
        }
        remove_if_there(temporary)?;
        self.sync_directory()?;
        Ok(true)
    }

    /// Removes a database and what SQLite keeps beside it, the database last: without it the rest
    /// means nothing, with it the next try finds what is left to do.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        for suffix in SIDE_FILES {
            remove_if_there(&side_file(path, suffix))?;
        }
        remove_if_there(path)?;
        self.sync_directory()
    }

    /// Puts a file aside that is no database, under its name and `.corrupt`.
    pub(crate) fn put_aside(&self, path: &Path) -> Result<()> {
        let mut aside = side_file(path, ".corrupt");
        for number in 2.. {
            if !aside.exists() {
                break;
            }
            aside = side_file(path, &format!(".corrupt{number}"));
        }
        // What SQLite keeps beside it goes with it: it may hold what the file has lost.
        for suffix in SIDE_FILES {
            let side = side_file(path, suffix);
            if side.exists() {
                fs::rename(&side, side_file(&aside, suffix))
                    .map_err(Error::file("put aside", side))?;
            }
        }
        fs::rename(path, &aside).map_err(Error::file("put aside", path))?;
        self.sync_directory()
    }

    /// Makes the appearing and vanishing of names durable.
    pub(crate) fn sync_directory(&self) -> Result<()> {
        sync_directory(&self.directory)
    }
}

fn sync_directory(directory: &Path) -> Result<()> {
    // A folder can be opened and synced on Unix only.
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::file("sync the directory", directory))
}

const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(crate) fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a new file that only its owner can read; what SQLite puts beside it gets the same rights.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether anything stands where a new database would: a file of its name, or what an older one left
/// behind, which SQLite would play into it.
pub(crate) fn has_remains(path: &Path) -> bool {
    path.exists() || SIDE_FILES.iter().any(|suffix| side_file(path, suffix).exists())
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::file("remove", path)),
    }
}

/// The bytes a database takes up: its file, and what has not been folded into it yet.
pub(crate) fn size_bytes(path: &Path) -> Result<u64> {
    let file = fs::metadata(path).map_err(Error::file("look at", path))?.len();
    let wal = fs::metadata(side_file(path, "-wal")).map_or(0, |meta| meta.len());
    Ok(file + wal)
}
