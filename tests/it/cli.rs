//! The command line, from arguments to files.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use mt_cli::{Application, Exit, Out};
use mt_migration::Migrator;
use mt_tests::Installation;
use serde_json::Value;

use crate::support::{column, names};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command line with `--json`, and answers with its document.
async fn run(installation: &Installation, args: &[&str]) -> (Exit, Value) {
    let (out, err) = (Buffer::default(), Buffer::default());
    let args = ["mt", "--json"].into_iter().chain(args.iter().copied());
    let exit = Application::<Migrator>::new()
        .with_environment([("MT_DATA_DIR", installation.path().join("data"))])
        .run_from(args, &Out::new(out.clone(), err.clone()))
        .await;
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let remarks = err.0.lock().unwrap().clone();
    assert!(remarks.is_empty(), "{}", String::from_utf8_lossy(&remarks));
    (exit, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_three_commands_work_without_a_settings_file() {
    let installation = Installation::new().unwrap();
    let (exit, answer) = run(&installation, &["provision", "acme"]).await;
    assert_eq!((exit, &answer["created"]), (Exit::Done, &Value::Bool(true)));
    let (exit, report) = run(&installation, &["migrate-all"]).await;
    assert_eq!((exit.code(), &report["counts"]["failed"]), (0, &0.into()));
    assert_eq!(report["counts"]["up_to_date"], 1);
    let (exit, status) = run(&installation, &["status"]).await;
    assert_eq!(exit, Exit::Done);
    let [acme] = status["tenants"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!((&acme["tenant"], &acme["state"]), (&"acme".into(), &"active".into()));
    assert_eq!(acme["schema"]["pending"], Value::Array(Vec::new()));
    assert!(acme["database"]["size_bytes"].as_u64().unwrap() > 0);

    let file = installation.path().join("data/tenants/tenant_acme.sqlite");
    let tables = column(&file, "SELECT name FROM sqlite_master WHERE type = 'table'");
    for table in ["users", "logs", "settings", "_mt_tenant", "seaql_migrations"] {
        assert!(tables.iter().any(|name| name == table), "{table} in {tables:?}");
    }
    assert_eq!(column(&file, "SELECT tenant FROM _mt_tenant"), ["acme"]);
    assert!(installation.path().join("data/control.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_is_exit_code_one_and_names_the_tenant() {
    let installation = Installation::new().unwrap();
    for id in ["acme", "globex"] {
        run(&installation, &["provision", id]).await;
    }
    // As before the last migration, with two addresses that it cannot make one.
    let file = installation.path().join("data/tenants/tenant_globex.sqlite");
    let back = "DROP INDEX idx_users_email_normalized;
        ALTER TABLE users DROP COLUMN email_normalized;
        DELETE FROM seaql_migrations WHERE version LIKE '%normalize_emails';
        INSERT INTO users (id, email, name, created_at, updated_at) VALUES
            (x'01', 'ann@example.com', 'a', '2026-01-01', '2026-01-01'),
            (x'02', 'Ann@example.com', 'b', '2026-01-01', '2026-01-01')";
    crate::support::outside(&file).execute_batch(back).unwrap();
    let before = crate::support::dump(&file);
    let (exit, report) = run(&installation, &["migrate-all", "--verify"]).await;
    assert_eq!(exit.code(), 1);
    assert_eq!(
        (&report["counts"]["failed"], &report["counts"]["up_to_date"]),
        (&1.into(), &1.into())
    );
    let failed = &report["tenants"][1];
    assert_eq!((&failed["tenant"], &failed["outcome"]), (&"globex".into(), &"failed".into()));
    assert!(failed["error"].as_str().unwrap().contains("normalize_emails"), "{failed}");
    assert_eq!(crate::support::dump(&file), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_ids_are_refused_and_nothing_is_made() {
    let installation = Installation::new().unwrap();
    let long = "a".repeat(65);
    let hostile =
        ["../x", "a/b", "..", "", "a\0b", "-x", "acme'; DROP TABLE tenant; --", "a b", "é"];
    for id in hostile.into_iter().chain([long.as_str()]) {
        for args in [&["provision", id][..], &["provision", "--", id], &["status", "--", id]] {
            let (exit, answer) = run(&installation, args).await;
            assert_eq!(
                (exit, &answer["error"]["kind"]),
                (Exit::Usage, &"usage".into()),
                "{args:?}"
            );
        }
    }
    assert_eq!(names(installation.path()), Vec::<std::path::PathBuf>::new());
    run(&installation, &["provision", "acme"]).await;
    let before = names(&installation.path().join("data/tenants"));
    let (exit, answer) = run(&installation, &["provision", "Acme"]).await;
    assert_eq!((exit.code(), &answer["error"]["kind"]), (1, &"tenant_exists".into()));
    assert_eq!(names(&installation.path().join("data/tenants")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_goes_through_its_whole_life() {
    let installation = Installation::new().unwrap();
    let copy = installation.path().join("acme.tar");
    let copy = copy.to_str().unwrap();
    let state = async |id: &str| {
        let (_, list) = run(&installation, &["list"]).await;
        let tenants = list["tenants"].as_array().unwrap().clone();
        let found = tenants.into_iter().find(|one| one["tenant"] == id);
        found.map(|one| one["state"].as_str().unwrap().to_owned())
    };
    for (args, tenant, after) in [
        (&["provision", "acme"][..], "acme", Some("active")),
        (&["backup", "acme", "--to", copy], "acme", Some("active")),
        (&["suspend", "acme"], "acme", Some("suspended")),
        (&["restore", "acme", "--from", copy], "acme", Some("suspended")),
        (&["activate", "acme"], "acme", Some("active")),
        (&["restore", "acme", "--from", copy, "--as", "twin"], "twin", Some("active")),
        (&["deprovision", "acme", "--confirm", "acme"], "acme", None),
    ] {
        let (exit, answer) = run(&installation, args).await;
        assert_eq!(exit, Exit::Done, "{args:?}: {answer}");
        assert_eq!(state(tenant).await.as_deref(), after, "{args:?}");
    }
    let (exit, answer) = run(&installation, &["deprovision", "twin", "--confirm", "acme"]).await;
    assert_eq!((exit, &answer["error"]["kind"]), (Exit::Usage, &"usage".into()));
    assert_eq!(state("twin").await.as_deref(), Some("active"));
}
