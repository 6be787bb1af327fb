//! A server that many tests use at once.

use anyhow::ensure;

use crate::postgres::Postgres;

/// The variable that names a server to use.
const VARIABLE: &str = "MT_TEST_POSTGRES_URL";

/// A server for tests that do nothing to the server itself: the one that `MT_TEST_POSTGRES_URL`
/// names, else one of their own. Starting one takes half a second.
///
/// Tests on it keep to databases and roles of a prefix of their own, and remove them.
#[derive(Debug)]
pub struct SharedPostgres {
    url: String,
    #[expect(dead_code, reason = "held for its drop")]
    own: Option<Postgres>,
}

impl SharedPostgres {
    /// Finds the server, or starts it.
    ///
    /// # Errors
    /// The variable is not a URL of a PostgreSQL, or as [`Postgres::start`].
    pub async fn find() -> anyhow::Result<Self> {
        if let Some(url) = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty()) {
            let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
            ensure!(is_url, "{VARIABLE} is no URL such as postgres://user:password@host/database");
            return Ok(Self { url, own: None });
        }
        let own = Postgres::start().await?;
        Ok(Self { url: own.url(), own: Some(own) })
    }

    /// How a superuser reaches it, password included.
    pub fn url(&self) -> &str {
        &self.url
    }
}
