//! Every command with databases that are reached over D1's REST API.

use mt_cli::{Application, Exit};
use mt_devservers::D1;
use mt_migration::Migrator;

use crate::support::{Place, Ran};

const NEWEST: &str = "m20260901_000006_normalize_emails";

/// An account, and the data folder of an installation on it.
struct Remote {
    server: D1,
    place: Place,
}

impl Remote {
    async fn start() -> Self {
        Self { server: D1::start().await.unwrap(), place: Place::new() }
    }

    /// Runs a command with the settings in variables.
    async fn run(&self, args: &[&str]) -> Ran {
        let application = Application::<Migrator>::new();
        let args = [&["--provider", "d1"], args].concat();
        self.place.run_in(&application, &self.server.environment(), &args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lives_its_life() {
    let remote = Remote::start().await;
    let ran = remote.run(&["provision", "acme"]).await.done();
    assert!(ran.out.contains(&format!("acme (active, d1, schema {NEWEST})")), "{}", ran.out);
    // What it takes of the token's budget is told beforehand.
    assert!(
        ran.err.contains("about 4 requests, no waiting at the rate limit of d1"),
        "{}",
        ran.err
    );
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

    // The engine cannot keep others out; the control plane does, and looks go on.
    remote.run(&["suspend", "acme"]).await.done();
    let status = remote.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["state"], "suspended");
    remote.run(&["activate", "acme"]).await.done();

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
async fn doctor_reaches_the_api_and_tells_no_secret() {
    let remote = Remote::start().await;
    remote.run(&["provision", "acme"]).await.done();
    let ran = remote.run(&["doctor"]).await.done();
    assert!(ran.out.contains("d1: answers"), "{}", ran.out);
    assert!(ran.out.contains("d1.api_token = (set, not shown)"), "{}", ran.out);
    assert!(!ran.out.contains(remote.server.api_token()), "{}", ran.out);
    let json = remote.run(&["doctor", "--json"]).await.done().json();
    assert_eq!(json["provider"]["capabilities"]["restore"], true, "{json}");

    let mut wrong = remote.server.environment();
    let token = wrong.iter_mut().find(|(name, _)| name.ends_with("API_TOKEN")).unwrap();
    token.1 = "hunter2".to_owned();
    let application = Application::<Migrator>::new();
    let ran = remote.place.run_in(&application, &wrong, &["--provider", "d1", "doctor"]).await;
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_catalog_can_be_set() {
    let remote = Remote::start().await;
    let mut environment = remote.server.environment();
    environment.push(("MT_D1__BOOKMARK_BEFORE_MIGRATIONS", "true".to_owned()));
    let application = Application::<Migrator>::new();
    for command in [&["provision", "acme"][..], &["doctor"], &["migrate-all"], &["status"]] {
        let args = [&["--provider", "d1"], command].concat();
        remote.place.run_in(&application, &environment, &args).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_it_says_what_is_missing_and_makes_nothing() {
    let place = Place::new();
    let application = Application::<Migrator>::new();
    for command in [&["provision", "acme"][..], &["list"], &["doctor"], &["migrate-all"]] {
        let args = [&["--provider", "d1"], command].concat();
        let ran = place.run_as(&application, &args).await;
        assert_eq!(ran.exit, Exit::Usage, "{ran:?}");
        for word in ["`account_id`", "`api_token`", "MT_D1__"] {
            assert!(ran.err.contains(word), "{word}: {ran:?}");
        }
    }
    assert!(!place.data().exists());
}
