//! PostgreSQL's own programs for copies: which there are, and of which version.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) const DUMP: &str = "pg_dump";
pub(crate) const RESTORE: &str = "pg_restore";

/// Where Debian's packages put the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// What Debian puts into `PATH` in the place of the programs. Which version it runs depends on the
/// user's own files, so it is not asked.
const WRAPPER: &str = "pg_wrapper";
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// The programs that were found when the factory was made.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The folder of the settings.
    named: Option<PathBuf>,
    /// In the order in which they are preferred.
    found: Vec<Found>,
}

/// A folder with both programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    /// The version that they are of, such as 18.
    pub(crate) major: u32,
}

impl Programs {
    /// Looks for them in `named` alone; without it in `PATH`, and where Debian has them.
    pub(crate) fn look(named: Option<&Path>) -> Self {
        let folders = match named {
            Some(folder) => vec![folder.to_owned()],
            None => of_path().into_iter().chain(of_debian()).collect(),
        };
        let found = folders.into_iter().filter_map(Found::look).collect();
        Self { named: named.map(Path::to_owned), found }
    }

    /// Those to use with a server of the version `server`: of the same version if there are any,
    /// because what a newer `pg_restore` sends may be unknown to the server, else the next newer.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(crate) fn choose(&self, server: u32) -> Result<&Found, String> {
        let fitting = self.found.iter().filter(|found| found.major >= server);
        fitting.min_by_key(|found| found.major).ok_or_else(|| self.advice(server))
    }

    /// Whether there are any for `server`; where its version is not known yet, whether there are any.
    pub(crate) fn serve(&self, server: Option<u32>) -> bool {
        self.choose(server.unwrap_or_default()).is_ok()
    }

    fn advice(&self, server: u32) -> String {
        let place = self.named.as_ref().map_or_else(
            || format!("in PATH or {DEBIAN}"),
            |folder| format!("in {}, as `client_programs` says", folder.display()),
        );
        let newest = self.found.iter().max_by_key(|found| found.major);
        let problem = newest.map_or_else(
            || format!("there are no {DUMP} and {RESTORE} {place}"),
            |found| format!("{DUMP} in {} is of version {}", found.folder.display(), found.major),
        );
        if server == 0 {
            return format!(
                "{problem}; install the client programs of the server's version (Debian: \
                 postgresql-client), or name their folder in `client_programs`"
            );
        }
        format!(
            "{problem}, and the server is PostgreSQL {server}; expected version {server} or newer: \
             install it (Debian: postgresql-client-{server}), or name its folder in \
             `client_programs`"
        )
    }
}

impl Found {
    fn look(folder: PathBuf) -> Option<Self> {
        // The second is of the first one's package; that it is there is enough.
        let has_both = [DUMP, RESTORE].iter().all(|name| program(&folder, name).is_file());
        let major = has_both.then(|| version_of(&program(&folder, DUMP)))??;
        Some(Self { folder, major })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        program(&self.folder, name)
    }
}

fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// The folder of the first one in `PATH`.
fn of_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut folders = env::split_paths(&path).filter(|folder| folder.is_absolute());
    let folder = folders.find(|folder| program(folder, DUMP).is_file())?;
    let real = program(&folder, DUMP).canonicalize().ok()?;
    (real.file_name()? != WRAPPER).then_some(folder)
}

fn of_debian() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(DEBIAN) else { return Vec::new() };
    versions.flatten().map(|version| version.path().join("bin")).collect()
}

/// What `--version` tells: `pg_dump (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
fn version_of(program: &Path) -> Option<u32> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            // It is of no use, whether it ends or not.
            child.kill().ok();
            child.wait().ok();
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    let mut told = String::new();
    child.stdout.take()?.take(1024).read_to_string(&mut told).ok()?;
    parse_version(&told)
}

fn parse_version(told: &str) -> Option<u32> {
    let (_, version) = told.split_once(") ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(majors: &[u32]) -> Programs {
        let found = |&major| Found { folder: format!("/opt/{major}").into(), major };
        Programs { named: None, found: majors.iter().map(found).collect() }
    }

    #[test]
    fn the_same_version_is_chosen_before_a_newer_one_and_never_an_older_one() {
        let programs = programs(&[18, 15, 17]);
        for (server, chosen) in [(15, 15), (16, 17), (17, 17), (18, 18)] {
            assert_eq!(programs.choose(server).unwrap().major, chosen, "{server}");
        }
        let told = programs.choose(19).unwrap_err();
        for word in ["/opt/18", "version 18", "PostgreSQL 19", "postgresql-client-19"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(programs.serve(None) && !programs.serve(Some(19)));
    }

    #[test]
    fn without_any_it_says_where_it_looked() {
        let told = programs(&[]).choose(18).unwrap_err();
        assert!(told.contains(DEBIAN) && told.contains("`client_programs`"), "{told}");
        let told = Programs::look(Some(Path::new("/nowhere/bin"))).choose(0).unwrap_err();
        assert!(told.contains("/nowhere/bin") && told.contains("postgresql-client"), "{told}");
    }

    #[test]
    fn a_version_is_read() {
        for (told, version) in [
            ("pg_dump (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", Some(15)),
            ("pg_dump (PostgreSQL) 18beta1", Some(18)),
            ("pg_dump (PostgreSQL) 9.6.24\n", Some(9)),
            ("pg_dump (PostgreSQL) 20", Some(20)),
            ("pg_dump", None),
            ("", None),
        ] {
            assert_eq!(parse_version(told), version, "{told}");
        }
    }
}
