//! `cargo xtask`: the tasks of this workspace.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod checks;
mod demo;
mod guards;
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
    Demo,
    /// Check the workspace: format, lints, tests, docs, dependencies
    Test,
    /// What `test` does, every feature by itself, and the demonstration
    Ci,
    /// Build in release and run benches; each prints one line of JSON
    Bench {
        /// Which; all, if none is named
        #[arg(value_name = "NAME", value_parser = BENCHES)]
        names: Vec<String>,
    },
}

/// As the bench binary of `mt-tests` names them.
const BENCHES: [&str; 4] = [
    "provision-sqlite",
    "provision-sqlite-best-diy",
    "migrate-pending-sqlite",
    "migrate-noop-sqlite",
];

fn main() -> ExitCode {
    let out = Out::standard();
    let Xtask { options, task } = match cli::parse(std::env::args_os(), &out) {
        Ok(xtask) => xtask,
        Err(exit) => return exit.into(),
    };
    cli::log_to_stderr(options.verbose);
    let done = match task {
        Task::Tenants(command) => runtime().map(|runtime| {
            let application = Application::<Migrator>::new();
            runtime.block_on(application.execute(&options, command, &out)).into()
        }),
        Task::Demo => {
            runtime().and_then(|runtime| runtime.block_on(demo::run(&out))).map(succeeded)
        }
        Task::Test => checks::test().map(succeeded),
        Task::Ci => checks::ci().map(succeeded),
        Task::Bench { names } => shell::bench(&names),
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
