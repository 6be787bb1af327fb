//! Migrations made of plain statements, and of code.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use mt_migration::Runner;
use sea_orm::{ConnectionTrait as _, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

#[derive(Clone, Debug)]
pub(crate) struct Sql {
    name: &'static str,
    up: &'static str,
    down: &'static str,
    alone: bool,
}

/// A migration that runs `up`, statements separated by semicolons.
pub(crate) const fn sql(name: &'static str, up: &'static str) -> Sql {
    Sql { name, up, down: "", alone: false }
}

impl Sql {
    pub(crate) const fn with_down(mut self, down: &'static str) -> Self {
        self.down = down;
        self
    }

    /// Outside of transactions.
    pub(crate) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.up).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.down).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        self.alone.then_some(false)
    }
}

type Work = dyn for<'a> Fn(&'a SchemaManager<'a>) -> BoxFuture<'a, Result<(), DbErr>> + Send + Sync;

/// A migration made of code.
pub(crate) struct Code {
    name: &'static str,
    up: Box<Work>,
}

/// A migration that runs `up`.
pub(crate) fn code(
    name: &'static str,
    up: impl for<'a> Fn(&'a SchemaManager<'a>) -> BoxFuture<'a, Result<(), DbErr>>
    + Send
    + Sync
    + 'static,
) -> Code {
    Code { name, up: Box::new(up) }
}

impl MigrationName for Code {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Code {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        (self.up)(manager).await
    }
}

/// The runner of migrations of several kinds.
pub(crate) fn runner_of(migrations: Vec<Box<dyn MigrationTrait>>) -> Runner {
    Runner::new("seaql_migrations", migrations).unwrap()
}

pub(crate) fn runner(migrations: impl IntoIterator<Item = Sql>) -> Runner {
    let boxed = |migration| Box::new(migration) as Box<dyn MigrationTrait>;
    Runner::new("seaql_migrations", migrations.into_iter().map(boxed).collect()).unwrap()
}
