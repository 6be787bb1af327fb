//! Every command with databases on a PostgreSQL server.

use mt_cli::{Application, Exit};
use mt_devservers::Postgres;
use mt_migration::Migrator;

use crate::support::{Place, Ran};

const NEWEST: &str = "m20260901_000006_normalize_emails";

/// A server, and the data folder of an installation on it.
struct Remote {
    server: Postgres,
    place: Place,
}

impl Remote {
    async fn start() -> Self {
        Self { server: Postgres::start().await.unwrap(), place: Place::new() }
    }

    /// Runs a command with the settings in variables.
    async fn run(&self, args: &[&str]) -> Ran {
        let application = Application::<Migrator>::new();
        let args = [&["--provider", "postgres"], args].concat();
        self.place.run_in(&application, &self.server.environment(), &args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lives_its_life() {
    let remote = Remote::start().await;
    let ran = remote.run(&["provision", "acme"]).await.done();
    assert!(ran.out.contains(&format!("acme (active, postgres, schema {NEWEST})")), "{}", ran.out);
    remote.run(&["provision", "acme", "--if-not-exists"]).await.done();
    assert_eq!(remote.run(&["provision", "acme"]).await.exit, Exit::Failed);

    let status = remote.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["schema"]["pending"].as_array().unwrap().len(), 0);
    assert_eq!(status["tenants"][0]["database"]["stamp"]["tenant"], "acme");
    for args in [&["migrate-all"][..], &["migrate-all", "--verify"], &["migrate-all", "--dry-run"]]
    {
        let ran = remote.run(&[args, &["--json"]].concat()).await.done();
        assert_eq!(ran.json()["counts"]["up_to_date"], 1, "{ran:?}");
    }
    remote.run(&["suspend", "acme"]).await.done();
    let status = remote.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["state"], "suspended");
    remote.run(&["activate", "acme"]).await.done();

    remote.run(&["deprovision", "acme", "--confirm", "acme"]).await.done();
    assert!(remote.run(&["list"]).await.done().out.contains("no tenants"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_backed_up_and_restored_where_the_programs_are() {
    let remote = Remote::start().await;
    remote.run(&["provision", "acme"]).await.done();
    let health = remote.run(&["doctor", "--json"]).await.done().json();
    let can = &health["provider"]["capabilities"];
    assert_eq!(can["backup"], can["restore"]);
    let copy = remote.place.file("acme.tar");
    let path = copy.to_str().unwrap();
    let ran = remote.run(&["backup", "acme", "--to", path]).await;
    if can["backup"] == false {
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.err.contains("`client_programs`") && !copy.exists(), "{ran:?}");
        return;
    }
    ran.done();
    remote.run(&["restore", "acme", "--from", path]).await.done();
    remote.run(&["restore", "acme", "--from", path, "--as", "copy"]).await.done();
    let status = remote.run(&["status", "--json"]).await.done().json();
    for (tenant, generation) in [("acme", 2), ("copy", 1)] {
        let mut all = status["tenants"].as_array().unwrap().iter();
        let found = all.find(|found| found["database"]["stamp"]["tenant"] == tenant);
        let found = found.unwrap_or_else(|| panic!("{tenant}: {status}"));
        assert_eq!(found["database"]["stamp"]["generation"], generation, "{found}");
        assert_eq!(found["schema"]["pending"].as_array().unwrap().len(), 0, "{found}");
    }
    remote.run(&["suspend", "acme"]).await.done();
    remote.run(&["backup", "acme"]).await.done();
    remote.run(&["restore", "acme", "--from", path]).await.done();
    let status = remote.run(&["status", "acme", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["state"], "suspended");
    for tenant in ["acme", "copy"] {
        remote.run(&["deprovision", tenant, "--confirm", tenant]).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reaches_the_server_and_tells_no_secret() {
    let remote = Remote::start().await;
    remote.run(&["provision", "acme"]).await.done();
    let ran = remote.run(&["doctor"]).await.done();
    assert!(ran.out.contains("postgres: answers"), "{}", ran.out);
    for setting in ["admin_url", "role_secret"] {
        assert!(ran.out.contains(&format!("postgres.{setting} = (set, not shown)")), "{}", ran.out);
    }
    for (_, secret) in remote.server.environment() {
        assert!(!format!("{ran:?}").contains(&secret), "{ran:?}");
    }

    let mut wrong = remote.server.environment();
    wrong[0].1 = wrong[0].1.replace(remote.server.password(), "hunter2");
    let application = Application::<Migrator>::new();
    let ran =
        remote.place.run_in(&application, &wrong, &["--provider", "postgres", "doctor"]).await;
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_it_says_what_is_missing_and_makes_nothing() {
    let place = Place::new();
    let application = Application::<Migrator>::new();
    for command in [&["provision", "acme"][..], &["list"], &["doctor"], &["migrate-all"]] {
        let args = [&["--provider", "postgres"], command].concat();
        let ran = place.run_as(&application, &args).await;
        assert_eq!(ran.exit, Exit::Usage, "{ran:?}");
        for word in ["`admin_url`", "`role_secret`", "MT_POSTGRES__"] {
            assert!(ran.err.contains(word), "{word}: {ran:?}");
        }
    }
    assert!(!place.data().exists());
}
