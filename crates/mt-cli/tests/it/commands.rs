use mt_cli::{Application, Exit};
use mt_migration::Migrator;

use crate::support::Place;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_provisioned_migrated_and_shown() {
    let place = Place::new();
    let made = place.run(&["provision", "acme", "--json"]).await.done().json();
    assert_eq!(made["created"], true);
    assert_eq!(made["tenant"]["state"], "active");
    place.run(&["migrate-all"]).await.done();
    let status = place.run(&["status", "--json"]).await.done().json();
    let acme = &status["tenants"][0];
    assert_eq!(acme["tenant"], "acme");
    assert_eq!(acme["schema"]["pending"], serde_json::json!([]));
    assert_eq!(acme["fault"], serde_json::Value::Null);
    assert!(acme["database"]["size_bytes"].as_u64().unwrap() > 0);
    assert!(place.tenant_file("acme").is_file());
    let text = place.run(&["status", "acme"]).await.done().out;
    assert!(text.contains("KiB") && text.contains("m20260901_"), "{text}");
    let text = place.run(&["list"]).await.done().out;
    assert!(text.starts_with("TENANT") && text.contains("active"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_twice_is_an_error_unless_asked_for() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    let again = place.run(&["provision", "acme"]).await;
    assert_eq!(again.exit, Exit::Failed);
    assert!(again.err.starts_with("error: ") && again.out.is_empty(), "{again:?}");
    let again = place.run(&["provision", "acme", "--if-not-exists", "--json"]).await.done();
    assert_eq!(again.json()["created"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_removed_only_when_confirmed() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    for args in [&["deprovision", "acme"][..], &["deprovision", "acme", "--confirm", "other"]] {
        assert_eq!(place.run(args).await.exit, Exit::Usage, "{args:?}");
    }
    assert!(place.tenant_file("acme").is_file());
    let gone = ["deprovision", "acme", "--confirm", "acme", "--json"];
    assert_eq!(place.run(&gone).await.done().json()["tenant"]["state"], "deleted");
    assert!(!place.tenant_file("acme").exists());
    assert_eq!(place.run(&gone).await.exit, Exit::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_suspended_and_activated() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    let json = place.run(&["suspend", "acme", "--json"]).await.done().json();
    assert_eq!(json["tenant"]["state"], "suspended");
    let json = place.run(&["activate", "acme", "--json"]).await.done().json();
    assert_eq!(json["tenant"]["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_in_place_and_as_a_new_tenant() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    let made = place.run(&["backup", "acme", "--json"]).await.done().json();
    let file = made["file"].as_str().unwrap();
    let folder = place.data().join("backups");
    assert!(file.starts_with(folder.to_str().unwrap()), "{file}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "the folder of backups is its owner's");
    }
    assert_eq!(made["manifest"]["tenant"], "acme");
    let chosen = place.file("chosen.tar");
    let chosen = chosen.to_str().unwrap();
    place.run(&["backup", "acme", "--to", chosen]).await.done();
    let onto = place.run(&["backup", "acme", "--to", chosen]).await;
    assert_eq!(onto.exit, Exit::Failed, "{onto:?}");

    let same = place.run(&["restore", "acme", "--from", file, "--json"]).await.done().json();
    assert_eq!(same["tenant"]["placement"]["generation"], 2);
    let new = ["restore", "acme", "--from", chosen, "--as", "fresh", "--json"];
    assert_eq!(place.run(&new).await.done().json()["tenant"]["tenant"], "fresh");
    let other = place.run(&["restore", "fresh", "--from", chosen, "--json"]).await;
    assert_eq!(other.exit, Exit::Failed);
    assert_eq!(other.json()["error"]["kind"], "foreign_database");
    let status = place.run(&["status", "--json"]).await.done().json();
    assert_eq!(status["tenants"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_makes_nothing() {
    let place = Place::new();
    for args in [
        &["list"][..],
        &["status"],
        &["doctor"],
        &["list", "--main-tenant", "main"],
        &["doctor", "--main-tenant", "main"],
        &["--help"],
    ] {
        place.run(args).await.done();
    }
    for args in [
        &["status", "acme", "--json"][..],
        &["suspend", "acme", "--json"],
        &["activate", "acme", "--json"],
        &["backup", "acme", "--json"],
        &["deprovision", "acme", "--confirm", "acme", "--json"],
        &["restore", "acme", "--from", "x.tar", "--json"],
    ] {
        let ran = place.run(args).await;
        assert_eq!(ran.exit, Exit::Failed, "{args:?}");
        assert_eq!(ran.json()["error"]["kind"], "tenant_not_found", "{args:?}");
    }
    assert!(!place.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_a_usage_error_and_create_nothing() {
    let place = Place::new();
    let file = place.file("mt.toml");
    std::fs::write(&file, "[sqlite]\nmax_connections = 0\n").unwrap();
    for args in [
        &["provision", "acme", "--provider", "postgres", "--json"][..],
        &["provision", "acme", "--config", file.to_str().unwrap(), "--json"],
        &["provision", "acme", "--config", "/no/such/file", "--json"],
    ] {
        let ran = place.run(args).await;
        assert_eq!(ran.exit, Exit::Usage, "{ran:?}");
        assert_eq!(ran.json()["error"]["kind"], "config");
    }
    assert!(!place.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_is_linked_and_what_can_be_reached() {
    let place = Place::new();
    let before = place.run(&["doctor", "--json"]).await.done().json();
    assert_eq!(before["providers"], serde_json::json!(["d1", "postgres", "sqlite", "turso"]));
    assert_eq!(before["catalog"]["made"], false);
    place.run(&["provision", "acme"]).await.done();
    let after = place.run(&["doctor", "--json"]).await.done().json();
    assert!(after["catalog"]["deployment"].is_string());
    assert_eq!(after["catalog"]["tenants"]["active"], 1);
    let text = place.run(&["doctor"]).await.done().out;
    assert!(text.contains("MT_DATA_DIR") && text.contains("1 active"), "{text}");

    std::fs::write(place.data().join("control.db"), vec![7; 8192]).unwrap();
    let broken = place.run(&["doctor", "--json"]).await;
    assert_eq!(broken.exit, Exit::Failed);
    assert!(broken.json()["catalog"]["fault"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_fails_where_a_database_is_gone() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    place.run(&["provision", "beta"]).await.done();
    std::fs::remove_file(place.tenant_file("acme")).unwrap();
    let ran = place.run(&["status", "--json"]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.json()["tenants"][0]["fault"].is_string());
    assert!(ran.json()["tenants"][1]["fault"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_tenant_is_made_and_kept() {
    let place = Place::new();
    place.run(&["provision", "acme", "--main-tenant", "main"]).await.done();
    let listed = place.run(&["list", "--json"]).await.done().json();
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 2);
    let args = ["deprovision", "main", "--confirm", "main", "--main-tenant", "main", "--json"];
    let ran = place.run(&args).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert_eq!(ran.json()["error"]["kind"], "unsupported");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_adds_its_hooks() {
    let place = Place::new();
    let application = Application::<Migrator>::new().with_isolation(|isolation| {
        isolation.on_provision(|context| async move {
            if context.tenant.as_str() == "unwanted" { Err("not this one") } else { Ok(()) }
        })
    });
    place.run_as(&application, &["provision", "acme"]).await.done();
    let ran = place.run_as(&application, &["provision", "unwanted"]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("not this one"), "{ran:?}");
    let listed = place.run(&["list"]).await.done().out;
    assert!(listed.contains("failed") && listed.contains("not this one"), "{listed}");
}
