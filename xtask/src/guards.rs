//! Which crates may depend on which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::shell::{cargo, read};

/// What each published crate may depend on, of ours. Tests may use more.
///
/// A provider depends on no other provider and not on the control plane; the contract depends on
/// nobody.
const ARROWS: &[(&str, &[&str])] = &[
    ("mt-axum", &["mt-core"]),
    ("mt-cli", &["mt-control", "mt-core", "mt-migration"]),
    ("mt-conformance", &["mt-core"]),
    ("mt-control", &["mt-core", "mt-migration"]),
    ("mt-core", &[]),
    ("mt-d1", &["mt-core", "mt-remote", "mt-sqlite-copy"]),
    ("mt-entity", &["mt-core"]),
    ("mt-migration", &["mt-core"]),
    ("mt-postgres", &["mt-core"]),
    ("mt-remote", &["mt-core"]),
    ("mt-sqlite", &["mt-core", "mt-sqlite-copy"]),
    ("mt-sqlite-copy", &["mt-core"]),
    ("mt-turso", &["mt-core", "mt-remote", "mt-sqlite-copy"]),
    (
        "multi-tenancy",
        &[
            "mt-axum",
            "mt-cli",
            "mt-control",
            "mt-core",
            "mt-d1",
            "mt-entity",
            "mt-migration",
            "mt-postgres",
            "mt-sqlite",
            "mt-turso",
        ],
    ),
];

/// Cryptography that takes a C++ toolchain, or a library of the system, to build.
const BANNED: [&str; 5] = ["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys"];

/// Checks that every crate of ours depends only on those of ours that it may depend on.
pub(crate) fn arrows() -> anyhow::Result<()> {
    check_arrows(&metadata()?)
}

/// Checks that nothing of [`BANNED`] is built.
pub(crate) fn tls() -> anyhow::Result<()> {
    let args =
        ["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    check_tree(&read(&mut cargo(&args))?)
}

/// The features of a package of ours.
pub(crate) fn features_of(package: &str) -> anyhow::Result<Vec<String>> {
    let metadata = metadata()?;
    let found = packages(&metadata)?.iter().find(|found| found["name"] == package);
    let features = found.and_then(|found| found["features"].as_object());
    let features = features.with_context(|| format!("there is no package {package}"))?;
    Ok(features.keys().filter(|feature| *feature != "default").cloned().collect())
}

fn metadata() -> anyhow::Result<Value> {
    let text = read(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_str(&text).context("the answer of `cargo metadata`")
}

fn packages(metadata: &Value) -> anyhow::Result<&Vec<Value>> {
    metadata["packages"].as_array().context("`cargo metadata` tells of no packages")
}

fn check_arrows(metadata: &Value) -> anyhow::Result<()> {
    let rules: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let packages = packages(metadata)?;
    let names = packages.iter().filter_map(|package| package["name"].as_str());
    let ours: BTreeSet<&str> = names.collect();
    if let Some((gone, _)) = ARROWS.iter().find(|(name, _)| !ours.contains(name)) {
        bail!("`{gone}` has a rule and is not in the workspace");
    }
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = rules.get(name) else {
            let is_published = package["publish"] != Value::Array(Vec::new());
            ensure!(!is_published, "`{name}` is published and has no rule; add it to the arrows");
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let on = dependency["name"].as_str().unwrap_or_default();
            let is_fine = !ours.contains(on) || allowed.contains(&on);
            ensure!(is_fine, "`{name}` depends on `{on}`, which it may not");
        }
    }
    Ok(())
}

fn check_tree(tree: &str) -> anyhow::Result<()> {
    let names: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names.contains("mt-core"), "`cargo tree` tells nothing of this workspace");
    match BANNED.iter().find(|banned| names.contains(*banned)) {
        Some(banned) => {
            bail!("`{banned}` is built; find who asks for it with `cargo tree -i {banned}`")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "publish": null, "dependencies": dependencies})
    }

    /// The workspace with one package in the place of the one of its name.
    fn workspace_with(package_: Value) -> Value {
        let mut packages: Vec<Value> = ARROWS.iter().map(|(name, _)| package(name, &[])).collect();
        packages.retain(|other| other["name"] != package_["name"]);
        packages.push(package_);
        json!({"packages": packages})
    }

    #[test]
    fn the_arrows_of_this_workspace_hold() {
        arrows().unwrap();
    }

    #[test]
    fn a_wrong_arrow_is_found() {
        for (name, on) in
            [("mt-core", "mt-sqlite"), ("mt-sqlite", "mt-control"), ("mt-cli", "mt-sqlite")]
        {
            let wrong = workspace_with(package(name, &[(on, None)]));
            let said = check_arrows(&wrong).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains(on), "{said}");
            check_arrows(&workspace_with(package(name, &[(on, Some("dev")), ("serde", None)])))
                .unwrap();
        }
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        assert!(check_arrows(&workspace_with(package("mt-new", &[]))).is_err());
        assert!(check_arrows(&json!({"packages": []})).is_err());
    }

    #[test]
    fn what_is_banned_is_found() {
        check_tree("mt-core v0.1.0\nring v0.17.0\n").unwrap();
        assert!(check_tree("mt-core v0.1.0\nopenssl-sys v0.9.0\n").is_err());
        assert!(check_tree("").is_err());
    }
}
