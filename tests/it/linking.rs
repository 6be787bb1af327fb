//! Which providers a program has, by the features it turns on.
//!
//! In a workspace every crate is built with the features that any of them asks for, so a program
//! outside of it is built: once per feature, without the others.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use mt_core::{DeploymentId, ErrorKind, FactoryContext, Registry};
use serde_json::{Value, json};

/// Each feature, the default and all, with the providers that are linked then.
const EXPECTED: [(&str, &[&str]); 11] = [
    ("", &[]),
    ("sqlite", &["sqlite"]),
    ("d1", &["d1"]),
    ("postgres", &["postgres"]),
    ("turso", &["turso"]),
    // More of a provider, and none by itself.
    ("native-client", &[]),
    ("default", &["sqlite"]),
    ("axum", &[]),
    ("entity", &[]),
    ("cli", &[]),
    ("all", &["d1", "postgres", "sqlite", "turso"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder);
    // What the test runner or a user has set for the workspace's own build.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo
}

/// The features of the facade, as Cargo knows them.
fn features() -> BTreeSet<String> {
    let output = cargo(&workspace())
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let facade = packages.iter().find(|package| package["name"] == "multi-tenancy").unwrap();
    facade["features"].as_object().unwrap().keys().cloned().collect()
}

/// Makes a program that prints its providers, with a feature of its own per feature of the facade.
fn make_probe(folder: &Path, features: &BTreeSet<String>) {
    let facade = workspace().join("crates/multi-tenancy");
    let mut manifest = format!(
        r#"[package]
name = "probe"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
multi-tenancy = {{ path = '{}', default-features = false }}
# Asked for with the features that `all` brings, so that what stands on them is built once and not
# once per feature. None is a provider.
rusqlite = {{ version = "*", default-features = false, features = ["backup", "bundled", "cache", "serialize"] }}
reqwest = {{ version = "*", default-features = false, features = ["http2", "json", "rustls-no-provider", "stream"] }}
rustls = {{ version = "*", default-features = false, features = ["ring", "std", "tls12"] }}
serde_json = {{ version = "1", features = ["float_roundtrip"] }}
tokio = {{ version = "1", features = ["fs", "rt-multi-thread"] }}

[profile.dev]
debug = false
incremental = false

[features]
all = {:?}
"#,
        facade.display(),
        features.iter().filter(|name| *name != "default").collect::<Vec<_>>(),
    );
    for feature in features {
        // The probe's own `default` must stay empty, or the others would not be alone.
        let name = if feature == "default" { "facade-default" } else { feature };
        manifest.push_str(&format!("{name} = [\"multi-tenancy/{feature}\"]\n"));
    }
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let program = "fn main() {\n    println!(\"{:?}\", multi_tenancy::providers().unwrap());\n}\n";
    std::fs::write(folder.join("src/main.rs"), program).unwrap();
    // The versions of the workspace, which are here already.
    std::fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

fn linked(folder: &Path, feature: &str) -> String {
    let feature = if feature == "default" { "facade-default" } else { feature };
    // Beside the workspace's own, so that one does not make the other build again.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("probe");
    let output = cargo(folder)
        .args(["run", "--quiet", "--offline", "--features", feature, "--target-dir"])
        .arg(target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{feature}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn each_feature_links_exactly_its_providers() {
    let features = features();
    let listed: BTreeSet<String> = EXPECTED
        .iter()
        .map(|(feature, _)| *feature)
        .filter(|feature| !["", "all"].contains(feature))
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, features, "a feature was added: say what it links");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linking-probe");
    make_probe(&folder, &features);
    for (feature, providers) in EXPECTED {
        assert_eq!(linked(&folder, feature), format!("{providers:?}"), "feature {feature:?}");
    }
}

#[test]
fn an_unknown_provider_is_told_which_feature_brings_it() {
    let context = || FactoryContext::new(DeploymentId::random());
    let linked = Registry::from_linked().unwrap();
    assert_eq!(linked.names(), multi_tenancy::providers().unwrap());
    assert_eq!(linked.names(), ["d1", "postgres", "sqlite", "turso"]);
    let none = Registry::new();
    let error = none.create("postgres", json!({}), context()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    for part in ["linked: none", "feature `postgres`", "`multi-tenancy`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = none.create_from_url("postgres://db", context()).unwrap_err();
    assert!(error.to_string().contains("feature `postgres`"), "{error}");
    for (registry, there) in [(linked, "linked: d1, postgres, sqlite, turso"), (none, "none")] {
        let error = registry.create("oracle", json!({}), context()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("a provider of your own") && text.contains(there), "{text}");
    }
}
