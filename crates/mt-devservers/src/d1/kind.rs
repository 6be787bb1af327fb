//! What a request wants.

use axum::http::Method;

use crate::{call::Requests, d1::Rule};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To create a database.
    Create,
    /// To list or search databases.
    List,
    /// To find one by its uuid or its name.
    Get,
    /// To change its settings, by PUT or PATCH.
    Change,
    /// To delete it.
    Delete,
    /// `/query`.
    Query,
    /// `/raw`.
    Raw,
    /// `/export`.
    Export,
    /// `/import`.
    Import,
    /// `/time_travel/bookmark`.
    Bookmark,
    /// `/time_travel/restore`.
    Restore,
    /// A file of an export or an import, at a signed address.
    File,
    /// Nothing that is known.
    Unknown,
}

impl Kind {
    /// As it is counted.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Get => "get",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Query => "query",
            Self::Raw => "raw",
            Self::Export => "export",
            Self::Import => "import",
            Self::Bookmark => "bookmark",
            Self::Restore => "restore",
            Self::File => "file",
            Self::Unknown => "unknown",
        }
    }

    /// What a request wants, and the database in its path.
    pub(crate) fn of<'a>(method: &Method, path: &'a str) -> (Self, Option<&'a str>) {
        if path.starts_with("/r2/") {
            return (Self::File, None);
        }
        let Some((_, rest)) = path.split_once("/d1/database") else { return (Self::Unknown, None) };
        let (database, action) = match rest.trim_start_matches('/').split_once('/') {
            Some((database, action)) => (database, action),
            None => (rest.trim_start_matches('/'), ""),
        };
        let kind = match (method.as_str(), database, action) {
            ("POST", "", _) => Self::Create,
            ("GET", "", _) => Self::List,
            ("GET", _, "") => Self::Get,
            ("PUT" | "PATCH", _, "") => Self::Change,
            ("DELETE", _, "") => Self::Delete,
            ("POST", _, "query") => Self::Query,
            ("POST", _, "raw") => Self::Raw,
            ("POST", _, "export") => Self::Export,
            ("POST", _, "import") => Self::Import,
            ("GET", _, "time_travel/bookmark") => Self::Bookmark,
            ("POST", _, "time_travel/restore") => Self::Restore,
            (_, _, _) => Self::Unknown,
        };
        (kind, Some(database).filter(|database| !database.is_empty()))
    }
}

impl Rule {
    /// Only requests of this kind.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind.as_str());
        self
    }
}

impl Requests {
    /// Those of this kind, on D1.
    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.sum(|call| call.kind == Some(kind.as_str()))
    }
}
