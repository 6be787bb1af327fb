//! Every command with databases that are reached over the network.

use mt_cli::{Application, Exit};
use mt_devservers::Turso;
use mt_migration::Migrator;

use crate::support::{Place, Ran};

const NEWEST: &str = "m20260901_000006_normalize_emails";

/// A platform, and the data folder of an installation on it.
struct Remote {
    server: Turso,
    place: Place,
}

impl Remote {
    async fn start() -> Self {
        Self { server: Turso::start().await.unwrap(), place: Place::new() }
    }

    /// Runs a command with the settings in variables.
    async fn run(&self, args: &[&str]) -> Ran {
        let application = Application::<Migrator>::new();
        let args = [&["--provider", "turso"], args].concat();
        self.place.run_in(&application, &self.server.environment(), &args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lives_its_life() {
    let remote = Remote::start().await;
    let ran = remote.run(&["provision", "acme"]).await.done();
    assert!(ran.out.contains(&format!("acme (active, turso, schema {NEWEST})")), "{}", ran.out);
    remote.run(&["provision", "acme", "--if-not-exists"]).await.done();
    assert_eq!(remote.run(&["provision", "acme"]).await.exit, Exit::Failed);

    let list = remote.run(&["list", "--json"]).await.done().json();
    assert_eq!(list["tenants"][0]["provider"], "turso");
    let status = remote.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["schema"]["pending"].as_array().unwrap().len(), 0);
    assert_eq!(status["tenants"][0]["database"]["stamp"]["tenant"], "acme");
    for args in [&["migrate-all"][..], &["migrate-all", "--verify"], &["migrate-all", "--dry-run"]]
    {
        let report = remote.run(&[args, &["--json"]].concat()).await.done().json();
        assert_eq!(report["counts"]["up_to_date"], 1, "{report}");
    }

    let copy = remote.place.file("acme.tar");
    let copy = copy.to_str().unwrap();
    remote.run(&["backup", "acme", "--to", copy]).await.done();
    remote.run(&["restore", "acme", "--from", copy]).await.done();
    let made = remote.run(&["restore", "acme", "--from", copy, "--as", "twin", "--json"]).await;
    assert_eq!(made.done().json()["tenant"]["state"], "active");

    for tenant in ["acme", "twin"] {
        remote.run(&["deprovision", tenant, "--confirm", tenant]).await.done();
    }
    assert!(remote.run(&["list"]).await.done().out.contains("no tenants"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_no_fault_and_is_left_out() {
    let remote = Remote::start().await;
    remote.run(&["provision", "acme"]).await.done();
    remote.run(&["suspend", "acme"]).await.done();
    let status = remote.run(&["status"]).await.done();
    let row: Vec<&str> = status.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["acme", "suspended", "turso", NEWEST, "-", "-"], "{}", status.out);
    let report = remote.run(&["migrate-all", "--verify", "--json"]).await.done().json();
    assert_eq!(report["counts"]["skipped"], 1, "{report}");
    let copy = remote.place.file("acme.tar");
    let refused = remote.run(&["backup", "acme", "--to", copy.to_str().unwrap(), "--json"]).await;
    assert_eq!(refused.exit, Exit::Failed);
    assert_eq!(refused.json()["error"]["kind"], "tenant_not_active");
    remote.run(&["activate", "acme"]).await.done();
    remote.run(&["backup", "acme"]).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reaches_the_platform_and_tells_no_secret() {
    let remote = Remote::start().await;
    // One place for the settings is as good as another.
    let file = remote.place.file("my.toml");
    let settings = format!(
        "provider = 'turso'\n[turso]\napi_url = '{}'\napi_token = '{}'\norganization = '{}'\ngroup = '{}'\n",
        remote.server.api_url(),
        remote.server.api_token(),
        remote.server.organization(),
        remote.server.group(),
    );
    std::fs::write(&file, settings).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    remote.place.run(&[&config[..], &["provision", "acme"]].concat()).await.done();
    let ran = remote.place.run(&[&config[..], &["doctor"]].concat()).await.done();
    assert!(ran.out.contains("turso: answers"), "{}", ran.out);
    assert!(ran.out.contains("turso.api_token = (set, not shown)"), "{}", ran.out);
    assert!(!ran.out.contains(remote.server.api_token()), "{}", ran.out);

    let mut wrong = remote.server.environment();
    let token = wrong.iter_mut().find(|(name, _)| name.ends_with("API_TOKEN")).unwrap();
    token.1 = "hunter2".to_owned();
    let application = Application::<Migrator>::new();
    let args = ["--provider", "turso", "doctor"];
    let ran = remote.place.run_in(&application, &wrong, &args).await;
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_it_says_what_is_missing_and_makes_nothing() {
    let place = Place::new();
    let application = Application::<Migrator>::new().with_advice("turso", "ask Ada for some");
    for command in [&["provision", "acme"][..], &["list"], &["doctor"], &["migrate-all"]] {
        let args = [&["--provider", "turso"], command].concat();
        let ran = place.run_as(&application, &args).await;
        assert_eq!(ran.exit, Exit::Usage, "{ran:?}");
        let words = ["`organization`", "`group`", "`api_token`", "MT_TURSO__", "ask Ada for some"];
        for word in words {
            assert!(ran.err.contains(word), "{word}: {ran:?}");
        }
        let ran = place.run_as(&application, &["list", "--provider", "turso", "--json"]).await;
        assert_eq!(ran.json()["error"]["provider"], "turso");
    }
    assert!(!place.data().exists());
}
