//! The team's schema, one file per step. A released step is never edited.

#![expect(
    elided_lifetimes_in_paths,
    reason = "`MigrationTrait` leaves the manager's lifetime out, and async-trait must match it"
)]

mod m20260301_000001_create_projects;
mod m20260301_000002_create_tasks;
mod m20260612_000001_archive_projects;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// The schema of every tenant's database.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260301_000001_create_projects::Migration),
            Box::new(m20260301_000002_create_tasks::Migration),
            Box::new(m20260612_000001_archive_projects::Migration),
        ]
    }
}
