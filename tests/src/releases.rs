//! Two releases of a program, the second with one more migration.

use multi_tenancy::migration::Runner;
use sea_orm::ConnectionTrait as _;
use sea_orm_migration::prelude::*;

/// What the first release makes.
#[derive(Debug)]
pub struct First;

/// What the second makes beside it.
#[derive(Debug)]
pub struct Second;

impl MigratorTrait for First {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(NOTES)]
    }
}

impl MigratorTrait for Second {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(NOTES), Box::new(RUNS)]
    }
}

/// The runner of a release.
///
/// # Errors
/// None.
pub fn runner<M: MigratorTrait>() -> anyhow::Result<Runner> {
    Ok(Runner::of::<M>()?)
}

const NOTES: Sql =
    Sql { name: "m1_notes", up: "CREATE TABLE notes (id integer PRIMARY KEY, text text NOT NULL)" };

/// Counts itself, so that one that ran twice shows.
const RUNS: Sql = Sql {
    name: "m2_runs",
    up: "CREATE TABLE IF NOT EXISTS runs (name text); INSERT INTO runs VALUES ('m2_runs')",
};

/// A migration made of statements separated by semicolons.
#[derive(Clone, Copy, Debug)]
struct Sql {
    name: &'static str,
    up: &'static str,
}

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.up).await.map(drop)
    }
}
