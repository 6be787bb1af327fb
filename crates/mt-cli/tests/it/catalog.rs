//! Every command where the catalog is on a PostgreSQL server.

use mt_cli::{Application, Exit};
use mt_devservers::Postgres;
use mt_migration::Migrator;

use crate::support::{Place, Ran};

/// Tenants in files, and their catalog on a server.
struct Remote {
    server: Postgres,
    place: Place,
}

impl Remote {
    async fn start() -> Self {
        Self { server: Postgres::start().await.unwrap(), place: Place::new() }
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let environment = [("MT_CATALOG", self.server.url())];
        let application = Application::<Migrator>::new();
        let ran = self.place.run_in(&application, &environment, args).await;
        assert!(!format!("{ran:?}").contains(self.server.password()), "{ran:?}");
        ran
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lives_its_life() {
    let remote = Remote::start().await;
    // Looking makes nothing.
    for args in [&["list"][..], &["status"], &["doctor"]] {
        let ran = remote.run(args).await.done();
        let shown = format!("postgres://127.0.0.1:{}/postgres", remote.server.port());
        assert!(ran.out.contains(&shown), "{ran:?}");
    }
    let ran = remote.run(&["suspend", "acme", "--json"]).await;
    assert_eq!(ran.json()["error"]["kind"], "tenant_not_found");
    let doctor = remote.run(&["doctor", "--json"]).await.done().json();
    assert_eq!(doctor["catalog"]["made"], false);
    assert!(remote.place.files().is_empty());

    remote.run(&["provision", "acme"]).await.done();
    assert!(!remote.place.data().join("control.db").exists());
    assert!(remote.place.tenant_file("acme").is_file());
    assert_eq!(remote.run(&["provision", "acme"]).await.exit, Exit::Failed);
    remote.run(&["suspend", "acme"]).await.done();
    remote.run(&["activate", "acme"]).await.done();
    let copy = remote.place.file("acme.tar");
    let copy = copy.to_str().unwrap();
    remote.run(&["backup", "acme", "--to", copy]).await.done();
    remote.run(&["restore", "acme", "--from", copy]).await.done();
    remote.run(&["restore", "acme", "--from", copy, "--as", "globex"]).await.done();
    let report = remote.run(&["migrate-all", "--json"]).await.done().json();
    assert_eq!(report["counts"]["up_to_date"], 2);
    let status = remote.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["placement"]["generation"], 2);
    remote.run(&["deprovision", "acme", "--confirm", "acme"]).await.done();
    let listed = remote.run(&["list", "--json"]).await.done().json();
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 1);
    let doctor = remote.run(&["doctor", "--json"]).await.done().json();
    assert_eq!(doctor["catalog"]["tenants"]["active"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_told_without_the_password() {
    let remote = Remote::start().await;
    remote.run(&["provision", "acme"]).await.done();
    remote.server.kill().unwrap();
    for args in [&["list", "--json"][..], &["provision", "globex", "--json"]] {
        let ran = remote.run(args).await;
        assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
        assert_eq!(ran.json()["error"]["kind"], "unavailable", "{ran:?}");
        let port = remote.server.port().to_string();
        assert!(ran.json()["error"]["message"].as_str().unwrap().contains(&port), "{ran:?}");
    }
    let ran = remote.run(&["doctor", "--json"]).await;
    assert_eq!(ran.exit, Exit::Failed, "{ran:?}");
    assert!(ran.json()["catalog"]["fault"].is_string(), "{ran:?}");
    remote.server.restart().await.unwrap();
    remote.run(&["list"]).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_wrong_is_a_usage_error_and_not_repeated() {
    let place = Place::new();
    let application = Application::<Migrator>::new();
    let server = "postgres://app:hunter2@db.example/catalog";
    for (url, args) in [
        ("postgres://app:hunter2@db.example", &["list"][..]),
        ("mysql://app:hunter2@db.example/catalog", &["provision", "acme"]),
        ("here.db", &["list", "--catalog", server]),
    ] {
        let environment = [("MT_CATALOG", url.to_owned())];
        let ran = place.run_in(&application, &environment, args).await;
        assert_eq!(ran.exit, Exit::Usage, "{ran:?}");
        assert!(ran.err.contains("catalog"), "{ran:?}");
        let told = format!("{} {}", ran.out, ran.err);
        assert!(!told.contains("hunter2") && !told.contains("db.example"), "{told}");
    }
    assert!(!place.data().exists());
}
