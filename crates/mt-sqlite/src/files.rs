use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
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
        fs::create_dir_all(&self.directory)
            .map_err(Error::file("make the directory", &self.directory))
    }

    /// A path for a file that is being written. It is not listed, and not anybody's database.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.directory.join(format!(".{}.tmp", Uuid::new_v4()))
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

    /// Writes a database that appears under `path` whole and durable, or not at all, and never in
    /// the place of another.
    pub(crate) fn publish_bytes(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let temporary = self.temporary();
        let written = File::create_new(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(Error::file("write", &temporary));
        let published = written.and_then(|()| self.publish(&temporary, path));
        if published.is_err() {
            // The error that is reported matters more than this one.
            fs::remove_file(&temporary).ok();
        }
        published
    }

    /// Gives a finished, synced file its final name. A link, unlike a rename, fails where the name
    /// is taken.
    pub(crate) fn publish(&self, temporary: &Path, path: &Path) -> Result<()> {
        // What an older file of that name left behind would be played into the new one.
        for suffix in SIDE_FILES {
            remove_if_there(&side_file(path, suffix))?;
        }
        match fs::hard_link(temporary, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Taken("it appeared while this one was being made"));
            }
            linked => linked.map_err(Error::file("make", path))?,
        }
        remove_if_there(temporary)?;
        self.sync_directory()
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

    /// Makes the appearing and vanishing of names durable.
    pub(crate) fn sync_directory(&self) -> Result<()> {
        // A folder can be opened and synced on Unix only.
        if !cfg!(unix) {
            return Ok(());
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(Error::file("sync the directory", &self.directory))
    }
}

const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
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
