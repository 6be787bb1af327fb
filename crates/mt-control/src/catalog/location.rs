use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use mt_core::{Error, ErrorKind, Result};
use url::Url;

use super::Catalog;

/// Where the catalog of an installation is: in a SQLite file, or in a database on a PostgreSQL
/// server.
///
/// Read from a text: `postgres://user:password@host:port/database` is a server's, and what has no
/// scheme is the path of a file. Neither user nor password are shown by `Display` and `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct CatalogLocation(Place);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    /// The whole URL is a secret; what may be shown of it stands beside it.
    Server {
        url: String,
        shown: String,
        has_password: bool,
    },
}

impl CatalogLocation {
    /// The file at `path`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// The database that a URL `postgres://user:password@host:port/database` names. Parameters are
    /// libpq's: `sslmode`, `sslrootcert` and their like.
    ///
    /// # Errors
    /// `Config`: it is none, or names no database. It is not repeated.
    pub fn server(url: &str) -> Result<Self> {
        // Its parser's words may repeat a part of it.
        let read = Url::parse(url).map_err(|_secret| not_a_url())?;
        if !["postgres", "postgresql"].contains(&read.scheme()) {
            return Err(not_a_url());
        }
        let parameter = |name: &str| {
            let mut pairs = read.query_pairs();
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let database =
            parameter("dbname").unwrap_or_else(|| read.path().trim_start_matches('/').to_owned());
        if database.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the catalog's URL names no database"));
        }
        let host = parameter("host").or_else(|| read.host_str().map(str::to_owned));
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| "localhost".to_owned());
        let port = parameter("port").or_else(|| read.port().map(|port| port.to_string()));
        let port = port.unwrap_or_else(|| "5432".to_owned());
        Ok(Self(Place::Server {
            url: url.to_owned(),
            shown: format!("postgres://{host}:{port}/{database}"),
            has_password: read.password().is_some() || parameter("password").is_some(),
        }))
    }

    /// The path, where it is a file.
    pub fn as_file(&self) -> Option<&Path> {
        match &self.0 {
            Place::File(path) => Some(path),
            Place::Server { .. } => None,
        }
    }

    /// Whether there is a password in it: arguments of a process are shown to everybody on the
    /// machine, and are no place for one.
    pub const fn has_password(&self) -> bool {
        matches!(&self.0, Place::Server { has_password: true, .. })
    }

    /// Opens the catalog; makes it where there is none.
    ///
    /// # Errors
    /// As [`Catalog::open`] and [`Catalog::connect`].
    pub async fn open(&self) -> Result<Catalog> {
        Catalog::at(self.clone()).await
    }

    /// Whether a catalog was ever made there. Makes nothing.
    ///
    /// # Errors
    /// Of a server, as [`Catalog::connect`].
    pub async fn is_made(&self) -> Result<bool> {
        match &self.0 {
            Place::File(path) => Ok(path.exists()),
            Place::Server { url, .. } => super::postgres::is_made(self, url).await,
        }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.0
    }
}

fn not_a_url() -> Error {
    Error::new(
        ErrorKind::Config,
        "the catalog's URL is not of the form `postgres://user:password@host:port/database`",
    )
}

impl FromStr for CatalogLocation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the catalog's location is empty"));
        }
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Self::server(text);
        }
        // A file of that name is hardly meant, and the text may have a password in it.
        if text.contains("://") {
            return Err(Error::new(
                ErrorKind::Config,
                "the catalog is at a path or at a URL `postgres://…`, and not at another URL",
            ));
        }
        Ok(Self::file(text))
    }
}

impl fmt::Display for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Server { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatalogLocation({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_path_or_a_server() {
        let location: CatalogLocation = "data/control.db".parse().unwrap();
        assert_eq!(location, CatalogLocation::file("data/control.db"));
        assert_eq!(location.as_file(), Some(Path::new("data/control.db")));
        for (url, shown) in [
            ("postgres://u:hunter2@db.example/app", "postgres://db.example:5432/app"),
            ("postgresql://u:hunter2@db.example:5433/app", "postgres://db.example:5433/app"),
            ("postgres://u:hunter2@[::1]:5433/app?sslmode=disable", "postgres://[::1]:5433/app"),
            ("postgres://u:hunter2@%2Frun%2Fpg/app", "postgres://%2Frun%2Fpg:5432/app"),
            ("postgres:///app?user=u&password=hunter2", "postgres://localhost:5432/app"),
            ("postgres://u:hunter2@a/b?host=c&port=7&dbname=d", "postgres://c:7/d"),
        ] {
            let location: CatalogLocation = url.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert!(location.has_password() && location.as_file().is_none());
            assert!(!format!("{location:?}").contains("hunter2"), "{location:?}");
        }
        assert!(!CatalogLocation::server("postgres://u@h/app").unwrap().has_password());
    }

    #[test]
    fn what_is_neither_is_refused_and_not_repeated() {
        for text in [
            "",
            "postgres:",
            "postgres://u:hunter2@host",
            "postgres://u:hunter2@host:port/app",
            "mysql://u:hunter2@host/app",
        ] {
            let error = text.parse::<CatalogLocation>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_chain().contains("hunter2"), "{}", error.to_chain());
        }
    }
}
