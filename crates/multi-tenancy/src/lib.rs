#![doc = include_str!("README.md")]

pub use mt_control::*;
pub use mt_core::*;

#[cfg(feature = "axum")]
pub use mt_axum as axum;
#[cfg(feature = "cli")]
pub use mt_cli as cli;
#[cfg(feature = "entity")]
pub use mt_entity as entity;
pub use mt_migration as migration;
// Naming a provider's crate is what links it, and so registers it.
#[cfg(feature = "d1")]
pub use mt_d1 as d1;
#[cfg(feature = "postgres")]
pub use mt_postgres as postgres;
#[cfg(feature = "sqlite")]
pub use mt_sqlite as sqlite;
#[cfg(feature = "turso")]
pub use mt_turso as turso;

/// The providers that are linked into this program, sorted by name.
///
/// # Errors
/// `Config`: two carry one name.
pub fn providers() -> Result<Vec<&'static str>> {
    Ok(Registry::from_linked()?.names())
}
