//! The reference tenant schema.
//!
//! Each migration runs unchanged on every engine: plain statements that read nothing back, no table
//! rebuilds, no types or functions that only one engine has, and a `down` that takes it back.

#![expect(
    elided_lifetimes_in_paths,
    reason = "`MigrationTrait` leaves the manager's lifetime out, and async-trait must match it"
)]

mod m20260901_000001_create_users;
mod m20260901_000002_create_settings;
mod m20260901_000003_create_logs;
mod m20260901_000004_create_roles;
mod m20260901_000005_create_sessions;
mod m20260901_000006_normalize_emails;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// The reference tenant schema: users, credentials, sessions, roles, settings and logs.
///
/// `mt-entity` has the entities of these tables. It is an ordinary SeaORM migrator, so
/// `sea-orm-cli` and SeaORM's own functions work on what it made.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260901_000001_create_users::Migration),
            Box::new(m20260901_000002_create_settings::Migration),
            Box::new(m20260901_000003_create_logs::Migration),
            Box::new(m20260901_000004_create_roles::Migration),
            Box::new(m20260901_000005_create_sessions::Migration),
            Box::new(m20260901_000006_normalize_emails::Migration),
        ]
    }
}
