use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mt_core::Result;

use crate::error::Error;

/// A file of its owner's alone that is removed when nobody needs it any more, also when the work is
/// cancelled.
#[derive(Debug)]
pub struct ScratchFile(PathBuf);

impl ScratchFile {
    /// Makes one in `directory`, under a name that begins with a dot and ends with `.tmp`.
    ///
    /// # Errors
    /// `Config`: the folder is not there or cannot be written. `QuotaExceeded`.
    pub fn in_directory(directory: &Path) -> Result<Self> {
        // Only its owner can read it, by the library's default; so does what SQLite puts beside it.
        let made = tempfile::Builder::new()
            .prefix(".")
            .suffix(".tmp")
            .tempfile_in(directory)
            .and_then(|file| file.into_temp_path().keep().map_err(|e| e.error));
        Ok(Self(made.map_err(Error::file("make a file in", directory))?))
    }

    /// Makes one where the system keeps temporary files.
    ///
    /// # Errors
    /// As [`ScratchFile::in_directory`].
    pub fn in_temporary_directory() -> Result<Self> {
        Self::in_directory(&std::env::temp_dir())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(error = %error, "a temporary file is left behind");
            }
        }
    }
}
