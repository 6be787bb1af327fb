//! `cargo xtask`: the tasks of this workspace.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod checks;
mod demo;
mod guards;
mod services;
mod shell;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use multi_tenancy::{
    cli::{self, Application, Out},
    migration::Migrator,
};

/// Administers the databases of tenants with the reference schema, and checks this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = cli::NOTES)]
struct Xtask {
    #[command(flatten)]
    options: cli::Options,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    #[command(flatten)]
    Tenants(cli::Command),
    /// Show everything once: tenants, migrations and a service over HTTP, in a folder of its own
    ///
    /// With `--provider d1`, `postgres` or `turso`, on a server of its own.
    Demo,
    /// Check the workspace: format, lints, tests, docs, dependencies, the demonstrations
    Test,
    /// What `test` does, and every feature by itself
    Ci,
    /// Build in release and run benches; each prints one line of JSON
    Bench {
        /// Which; all, if none is named
        #[arg(value_name = "NAME", value_parser = BENCHES)]
        names: Vec<String>,
    },
    /// Servers of this machine, to try things with
    Services {
        #[command(subcommand)]
        task: services::Services,
    },
}

/// As the bench binary of `mt-tests` names them.
const BENCHES: [&str; 21] = [
    "provision-sqlite",
    "provision-sqlite-best-diy",
    "migrate-pending-sqlite",
    "migrate-noop-sqlite",
    "provision-postgres",
    "provision-postgres-sustained",
    "migrate-pending-postgres",
    "migrate-noop-postgres-verify",
    "migrate-noop-postgres",
    "postgres-1000-databases",
    "turso-read",
    "turso-read-requests",
    "turso-batch-insert",
    "turso-migrate-pending",
    "turso-migrate-noop",
    "d1-read",
    "d1-bulk-insert",
    "d1-migrate-pending",
    "d1-migrate-noop",
    "decode-1000-rows",
    "decode-1-row",
];

/// Where somebody who has no account gets settings that work.
const SERVICES_ADVICE: &str =
    "`cargo xtask services up` starts a server on this machine, and tells its settings";

fn main() -> ExitCode {
    let out = Out::standard();
    let Xtask { options, task } = match cli::parse(std::env::args_os(), &out) {
        Ok(xtask) => xtask,
        Err(exit) => return exit.into(),
    };
    cli::log_to_stderr(options.verbose);
    let done = match task {
        Task::Tenants(command) => runtime().map(|runtime| {
            let application = Application::<Migrator>::new()
                .with_advice("d1", SERVICES_ADVICE)
                .with_advice("postgres", SERVICES_ADVICE)
                .with_advice("turso", SERVICES_ADVICE);
            runtime.block_on(application.execute(&options, command, &out)).into()
        }),
        Task::Demo => {
            let provider = options.provider.as_deref();
            runtime().and_then(|runtime| runtime.block_on(demo::run(provider, &out))).map(succeeded)
        }
        Task::Test => checks::test().map(succeeded),
        Task::Ci => checks::ci().map(succeeded),
        Task::Bench { names } => shell::bench(&names),
        Task::Services { task } => services::run(task).map(succeeded),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn succeeded((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("the runtime could not be started")
}
