//! What the checks across crates and the benches share: an installation in a folder of its own.

pub mod releases;

use std::path::{Path, PathBuf};

use anyhow::Result;
use mt_control::{Catalog, DatabaseIsolation, MultiTenancy};
use mt_core::{DataAdapters, TenantId};
use mt_migration::{Migrator, Runner};
use mt_sqlite::{SqliteFactory, SqliteFactoryBuilder};
use tempfile::TempDir;

/// A folder with a catalog and tenants' files, removed at the end.
#[derive(Debug)]
pub struct Installation {
    directory: TempDir,
}

impl Installation {
    /// An empty one.
    ///
    /// # Errors
    /// No folder can be made.
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The folder of the tenants' files.
    pub fn tenants_path(&self) -> PathBuf {
        self.path().join("tenants")
    }

    /// Opens the catalog, as one more process would.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn catalog(&self) -> Result<Catalog> {
        Ok(Catalog::open(self.path().join("control.db")).await?)
    }

    /// A factory over the tenants' files.
    pub fn factory(&self) -> SqliteFactoryBuilder {
        SqliteFactory::builder().with_directory(self.tenants_path())
    }

    /// Opens everything with the reference schema, as one more process would.
    ///
    /// # Errors
    /// What opening says.
    pub async fn open(&self) -> Result<MultiTenancy> {
        self.open_with(Runner::of::<Migrator>()?, |isolation| isolation).await
    }

    /// Opens everything with `schema` and hooks of one's own.
    ///
    /// # Errors
    /// What opening says.
    pub async fn open_with(
        &self,
        schema: Runner,
        hooks: impl FnOnce(DatabaseIsolation) -> DatabaseIsolation,
    ) -> Result<MultiTenancy> {
        let catalog = self.catalog().await?;
        let factory = self.factory().with_context(catalog.context(&schema)).build()?;
        Ok(MultiTenancy::builder()
            .with_catalog(catalog)
            .with_schema(schema)
            .with_database_isolation(hooks(DatabaseIsolation::new(factory)))
            .build()
            .await?)
    }
}

/// The tenant `id`.
///
/// # Errors
/// It is no tenant id.
pub fn tenant(id: &str) -> Result<TenantId> {
    Ok(TenantId::new(id)?)
}

/// Runs what the guide shows, on a new tenant with a SQLite file.
///
/// # Errors
/// Whatever goes wrong.
pub fn on_a_tenant(run: impl AsyncFnOnce(DataAdapters) -> Result<()>) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let installation = Installation::new()?;
        let tenants = installation.open().await?;
        let tenant = tenant("acme")?;
        tenants.provision(&tenant).await?;
        run(tenants.get_adapters(&tenant).await?).await
    })
}

/// The code in the README and the guide compiles.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/backups.md")]
    mod backups {}
    #[doc = include_str!("../../docs/custom-provider.md")]
    mod custom_provider {}
    #[doc = include_str!("../../docs/getting-started.md")]
    mod getting_started {}
    #[doc = include_str!("../../docs/http.md")]
    mod http {}
    #[doc = include_str!("../../docs/lifecycle.md")]
    mod lifecycle {}
    #[doc = include_str!("../../docs/migrations.md")]
    mod migrations {}
    #[doc = include_str!("../../docs/providers/sqlite.md")]
    mod sqlite {}
    #[doc = include_str!("../../docs/providers/d1.md")]
    mod d1 {}
    #[doc = include_str!("../../docs/providers/turso.md")]
    mod turso {}
    #[doc = include_str!("../../docs/scale.md")]
    mod scale {}
    #[doc = include_str!("../../docs/transactions.md")]
    mod transactions {}
}
