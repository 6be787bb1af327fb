//! Other programs.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, ExitCode, Output, Stdio},
};

use anyhow::{Context as _, ensure};

/// Cargo, in the root of this workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// The root of this workspace.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Runs to a successful end, its output being ours.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs to a successful end, and gives its standard output.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, .. } = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    String::from_utf8(stdout).with_context(|| format!("the output of {}", shown(command)))
}

/// Whether `cargo NAME` is there.
pub(crate) fn has_cargo(name: &str) -> bool {
    let mut command = cargo(&[name, "--version"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Builds and runs a bench; its exit code is ours.
pub(crate) fn bench(args: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = cargo(&["run", "--release", "-q", "-p", "mt-tests", "--bin", "bench", "--"]);
    command.args(args);
    let status = command.status().with_context(|| format!("cannot run {}", shown(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// As one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    format!("`cargo {}`", args.join(" "))
}
