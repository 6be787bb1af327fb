use mt_cli::Exit;

use crate::support::Place;

const HOSTILE: [&str; 9] =
    ["../x", "a/b", "..", "", "a\0b", "a;drop table tenants", "a b", "_x", "é"];

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_id_is_a_usage_error_and_creates_nothing() {
    let place = Place::new();
    let long = "a".repeat(65);
    for id in HOSTILE.into_iter().chain([long.as_str()]) {
        for args in [
            vec!["provision", id],
            vec!["deprovision", id, "--confirm", id],
            vec!["suspend", id],
            vec!["activate", id],
            vec!["status", id],
            vec!["backup", id],
            vec!["restore", id, "--from", "x.tar"],
            vec!["restore", "acme", "--from", "x.tar", "--as", id],
            vec!["migrate-all", "--tenants", id],
            vec!["migrate-all", "--skip", id],
            vec!["list", "--main-tenant", id],
        ] {
            let ran = place.run(&args).await;
            assert_eq!(ran.exit, Exit::Usage, "{args:?}: {ran:?}");
            assert!(ran.err.contains("no tenant id"), "{args:?}: {ran:?}");
        }
    }
    assert!(!place.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_looks_like_a_flag_is_a_usage_error() {
    let place = Place::new();
    for args in [&["provision", "-x"][..], &["provision", "--", "-x"], &["provision", "--x"]] {
        let ran = place.run(args).await;
        assert_eq!(ran.exit, Exit::Usage, "{args:?}");
        assert!(ran.err.contains("-x"), "{args:?}: {ran:?}");
    }
    assert!(!place.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_error_is_json_where_json_is_asked_for() {
    let place = Place::new();
    for args in [&["provision", "../x", "--json"][..], &["--json", "provision"], &["--json", "x"]] {
        let ran = place.run(args).await;
        assert_eq!(ran.exit, Exit::Usage, "{args:?}");
        assert_eq!(ran.json()["error"]["kind"], "usage", "{args:?}");
        assert_eq!(ran.err, "", "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_differs_by_case_only_is_refused() {
    let place = Place::new();
    place.run(&["provision", "acme"]).await.done();
    let before = place.files();
    for args in
        [&["provision", "Acme", "--json"][..], &["provision", "Acme", "--if-not-exists", "--json"]]
    {
        let ran = place.run(args).await;
        assert_eq!(ran.exit, Exit::Failed);
        assert_eq!(ran.json()["error"]["kind"], "tenant_exists");
        assert_eq!(ran.json()["error"]["tenant"], "Acme");
    }
    assert_eq!(place.files(), before);
    let listed = place.run(&["list", "--json"]).await.done().json();
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 1);
}
