//! What must hold before a change goes in.

use std::{process::Command, time::Instant};

use anyhow::Context as _;
use mt_devservers::Postgres;

use crate::{
    guards,
    shell::{cargo, has_cargo, run, shown},
};

/// The tests on real clouds, and what tells them whom to ask.
const CLOUDS: [(&str, &str); 2] =
    [("d1-cloud", "MT_TEST_D1_API_TOKEN"), ("turso-cloud", "MT_TEST_TURSO_API_TOKEN")];

/// The server that tests of PostgreSQL share.
const POSTGRES_URL: &str = "MT_TEST_POSTGRES_URL";
/// The folder with the programs of those that start one of their own.
const POSTGRES: &str = "MT_TEST_POSTGRES";

/// Format, lints, tests, docs, dependencies, and the demonstration on each engine. Stops at the
/// first failure.
pub(crate) fn test() -> anyhow::Result<()> {
    let began = Instant::now();
    step("the real sqld is here, or is fetched", || mt_devservers::sqld::find().map(drop))?;
    step("the real workerd is here, or is fetched", || mt_devservers::workerd::find().map(drop))?;
    step("PostgreSQL is here, or is fetched", || mt_devservers::postgres::find().map(drop))?;
    cargo_step(&["fmt", "--all", "--check"])?;
    cargo_step(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    tests()?;
    newest_postgres()?;
    cargo_step(&["test", "--workspace", "--doc"])?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    command_step(docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    step("the crates depend on each other as ARCHITECTURE.md says", guards::arrows)?;
    step("no OpenSSL, native-tls or aws-lc", guards::tls)?;
    let demo = ["run", "-q", "-p", "xtask", "--", "demo"];
    cargo_step(&demo)?;
    for provider in ["d1", "postgres", "turso"] {
        cargo_step(&[&demo[..], &["--provider", provider]].concat())?;
    }
    for (cloud, variable) in CLOUDS {
        if std::env::var_os(variable).is_none() {
            println!("SKIPPED {cloud}: the tests on the real cloud, without {variable}");
        }
    }
    println!("all checks passed in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The tests, with one PostgreSQL for all that do nothing to the server itself.
fn tests() -> anyhow::Result<()> {
    let args: &[&str] = if has_cargo("nextest") {
        &["nextest", "run", "--workspace"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests"]
    };
    let mut command = cargo(args);
    if std::env::var_os(POSTGRES_URL).is_some() {
        return command_step(&mut command);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = runtime.block_on(Postgres::start()).context("no PostgreSQL for the tests")?;
    command_step(command.env(POSTGRES_URL, server.url()))
}

/// Those of PostgreSQL once more, on the newest, where the system's is another.
fn newest_postgres() -> anyhow::Result<()> {
    if std::env::var_os(POSTGRES_URL).is_some() {
        println!("SKIPPED PostgreSQL 18: the tests ran on the server of {POSTGRES_URL}");
        return Ok(());
    }
    let programs = mt_devservers::postgres::fetch()?;
    if programs == mt_devservers::postgres::find()? {
        return Ok(());
    }
    let args: &[&str] = if has_cargo("nextest") {
        // All of them are built as they were: with fewer packages there would be other features.
        let ours = "package(mt-postgres) | (package(mt-tests) & test(/^postgres_/))";
        &["nextest", "run", "--workspace", "-E", ours]
    } else {
        &["test", "-p", "mt-postgres", "--lib", "--bins", "--tests"]
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = runtime.block_on(Postgres::builder().programs(&programs).start());
    let server = server.context("no PostgreSQL 18 for the tests")?;
    let mut command = cargo(args);
    let name = format!("{}, on PostgreSQL 18", shown(&command));
    step(&name, || run(command.env(POSTGRES_URL, server.url()).env(POSTGRES, &programs)))
}

/// [`test()`], and each feature of the facade by itself.
pub(crate) fn ci() -> anyhow::Result<()> {
    test()?;
    let check = ["check", "-p", "multi-tenancy", "--no-default-features"];
    cargo_step(&check)?;
    for feature in guards::features_of("multi-tenancy")? {
        cargo_step(&[&check[..], &["--features", &feature]].concat())?;
    }
    Ok(())
}

fn cargo_step(args: &[&str]) -> anyhow::Result<()> {
    command_step(&mut cargo(args))
}

fn command_step(command: &mut Command) -> anyhow::Result<()> {
    let name = shown(command);
    step(&name, || run(command))
}

/// Does `work`, and says what it is and how long it took.
fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("── {name}");
    let began = Instant::now();
    work().with_context(|| format!("the check failed: {name}"))?;
    println!("   passed in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
