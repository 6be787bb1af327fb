//! What must hold before a change goes in.

use std::{process::Command, time::Instant};

use anyhow::Context as _;

use crate::{
    guards,
    shell::{cargo, has_cargo, run, shown},
};

/// Format, lints, tests, docs and dependencies. Stops at the first failure.
pub(crate) fn test() -> anyhow::Result<()> {
    let began = Instant::now();
    cargo_step(&["fmt", "--all", "--check"])?;
    cargo_step(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if has_cargo("nextest") {
        cargo_step(&["nextest", "run", "--workspace"])?;
    } else {
        cargo_step(&["test", "--workspace", "--lib", "--bins", "--tests"])?;
    }
    cargo_step(&["test", "--workspace", "--doc"])?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    command_step(docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    step("the crates depend on each other as ARCHITECTURE.md says", guards::arrows)?;
    step("no OpenSSL, native-tls or aws-lc", guards::tls)?;
    println!("all checks passed in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// [`test()`], each feature of the facade by itself, and the demonstration.
pub(crate) fn ci() -> anyhow::Result<()> {
    test()?;
    let check = ["check", "-p", "multi-tenancy", "--no-default-features"];
    cargo_step(&check)?;
    for feature in guards::features_of("multi-tenancy")? {
        cargo_step(&[&check[..], &["--features", &feature]].concat())?;
    }
    cargo_step(&["run", "-q", "-p", "xtask", "--", "demo"])
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
