//! The same service with databases that are reached over the network: nothing but settings differs.

use mt_devservers::Turso;
use multi_tenancy::{ErrorKind, TenantId, TenantState};
use reqwest::StatusCode;
use saas_api::TENANT_HEADER;
use serde_json::json;

use crate::{
    process::start_on,
    support::{Service, client, owner, send},
};

/// The settings of a service whose databases are on `server`.
fn environment(server: &Turso) -> Vec<(&'static str, String)> {
    let mut environment = server.environment();
    environment.push(("MT_PROVIDER", "turso".to_owned()));
    environment
}

#[tokio::test]
async fn a_tenant_signs_up_and_sees_its_own_rows_only() {
    let server = Turso::start().await.unwrap();
    let service = Service::on(&environment(&server), &["acme", "globex"]).await;
    for tenant in ["acme", "globex"] {
        let user = json!({"email": format!("ada@{tenant}.example"), "name": "Ada"});
        let added = service.post(tenant, "/users", user).await;
        assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
    }
    for tenant in ["acme", "globex"] {
        let users = service.get(tenant, "/users").await;
        assert_eq!(users.column("email"), [owner(tenant), format!("ada@{tenant}.example")]);
        let logs = service.get(tenant, "/logs").await;
        assert_eq!(logs.column("message"), [format!("welcome, {tenant}")]);
        assert_eq!(service.get(tenant, "/settings/plan").await.body["value"], "trial");
    }
    // No tenant has a file here.
    assert!(!service.data.path().join("tenants").exists());
    assert!(service.data.path().join("control.db").is_file());
}

#[tokio::test]
async fn what_the_database_refuses_is_the_same_problem_as_on_sqlite() {
    let server = Turso::start().await.unwrap();
    let service = Service::on(&environment(&server), &["acme"]).await;
    let again = service.post("acme", "/users", json!({"email": owner("acme"), "name": "A"})).await;
    again.problem(StatusCode::CONFLICT);
    let nobody = "00000000-0000-0000-0000-000000000000";
    let log = json!({"user_id": nobody, "kind": "joined", "message": "hello"});
    service.post("acme", "/logs", log).await.problem(StatusCode::BAD_REQUEST);
    assert_eq!(service.sign_up("acme").await.problem(StatusCode::CONFLICT), "tenant-exists");
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
}

#[tokio::test]
async fn a_tenant_that_is_suspended_or_removed_is_not_served() {
    let server = Turso::start().await.unwrap();
    let service = Service::on(&environment(&server), &["acme", "globex"]).await;
    let acme = TenantId::new("acme").unwrap();
    service.tenants.suspend(&acme).await.unwrap();
    service.get("acme", "/users").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    service.tenants.activate(&acme).await.unwrap();
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);

    service.tenants.deprovision(&acme).await.unwrap();
    service.get("acme", "/users").await.problem(StatusCode::NOT_FOUND);
    let gone = service.tenants.catalog().find(&acme).await.unwrap().unwrap();
    assert_eq!(gone.state, TenantState::Deleted);
    let again = service.tenants.deprovision(&acme).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::TenantNotFound);
    assert_eq!(service.get("globex", "/users").await.column("email"), [owner("globex")]);
}

#[tokio::test]
async fn the_program_takes_its_provider_from_flags_and_environment() {
    let server = Turso::start().await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let (_child, url, _lines) = start_on(data.path(), "turso", &server.environment()).await;
    let http = client();
    let body = json!({"id": "acme", "owner": {"email": owner("acme"), "name": "Olivia"}});
    let reply = send(http.post(format!("{url}/tenants")).json(&body)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
    let users = http.get(format!("{url}/users")).header(TENANT_HEADER, "acme");
    assert_eq!(send(users).await.column("email"), [owner("acme")]);
}
