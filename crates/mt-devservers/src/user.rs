//! Who runs us, and who runs what may not run as root.

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::npm::run;

/// Who is asked to run it, in this order.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Another user than root.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    uid: u32,
    gid: u32,
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

impl User {
    /// Somebody to run what refuses to run as root; nobody, where we are not root.
    ///
    /// # Errors
    /// This system has none of those we know.
    pub(crate) fn instead_of_root() -> anyhow::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        for name in CANDIDATES {
            if let (Ok(uid), Ok(gid)) = (id("-u", name), id("-g", name)) {
                return Ok(Some(Self { name, uid, gid }));
            }
        }
        bail!("PostgreSQL does not run as root, and there is no user {CANDIDATES:?}: add one")
    }

    /// The words before a command line that make it run as this user, in the same process.
    pub(crate) fn command(&self) -> [String; 4] {
        let of = |flag: &str, id: u32| format!("--{flag}={id}");
        [
            "setpriv".to_owned(),
            of("reuid", self.uid),
            of("regid", self.gid),
            "--clear-groups".to_owned(),
        ]
    }

    /// Gives `path` to this user.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn own(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to the user {}", path.display(), self.name))
    }
}

fn id(what: &str, name: &str) -> anyhow::Result<u32> {
    let told = run(Command::new("id").args([what, name]), "`id` knows the users of this system")?;
    told.trim().parse().context("`id` told no number")
}
