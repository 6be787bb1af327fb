//! The team's own `xtask`: every command of the multi-tenancy workspace over the team's schema.

use std::process::ExitCode;

fn main() -> ExitCode {
    multi_tenancy::cli::main::<own_migrator::Migrator>()
}
