//! The settings file.

use std::path::{Path, PathBuf};

use figment::{
    Metadata, Profile,
    providers::{Format as _, Toml},
    value::{Dict, Map},
};
use mt_core::Result;

use super::config;

/// A settings file that was read.
pub(super) struct File {
    path: PathBuf,
    settings: Dict,
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Config`: it cannot be read, or is no TOML. The line that is wrong is named and not shown: it
    /// may be the one with the secret.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            config(format!("the settings file {} cannot be read", path.display())).with_source(e)
        })?;
        let settings = Toml::from_str(&text).map_err(|error| {
            // Its `Display` shows the line, so it is not kept as the source either.
            let why = error.message().lines().collect::<Vec<_>>().join(", ");
            let place = error.span().map_or_else(String::new, |span| {
                let (line, column) = line_and_column(&text, span.start);
                format!(", line {line}, column {column}")
            });
            config(format!("the settings file {}{place}: {why}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), settings })
    }
}

/// Where the byte at `index` is, both counted from 1, columns in characters.
fn line_and_column(text: &str, index: usize) -> (usize, usize) {
    let before = text.get(..index).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

impl figment::Provider for File {
    fn metadata(&self) -> Metadata {
        Metadata::from("settings file", self.path.as_path())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}
