use futures_util::future::join_all;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{Service, owner, send, settings};

const TENANTS: [&str; 5] = ["acme", "globex", "initech", "umbrella", "hooli"];

#[tokio::test]
async fn fifty_requests_at_once_see_their_own_tenants_rows_only() {
    const EACH: usize = 10;
    let service = Service::with(&TENANTS).await;
    // Interleaved: neighbours in the list are of different tenants.
    let requests = (0..EACH).flat_map(|number| TENANTS.map(|tenant| (number, tenant)));
    let requests = requests.map(async |(number, tenant)| {
        let email = format!("{number}@{tenant}.example");
        let user = json!({"email": email, "name": tenant});
        let added = service.post(tenant, "/users", user).await;
        assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
        let log = json!({"user_id": added.body["id"], "kind": "joined", "message": email});
        assert_eq!(service.post(tenant, "/logs", log).await.status, StatusCode::CREATED);
        let users = service.get(tenant, "/users?limit=500").await;
        let seen = users.column("email");
        assert!(seen.contains(&email.as_str()), "{tenant} misses {email}: {seen:?}");
        let domain = format!("@{tenant}.example");
        assert!(seen.iter().all(|email| email.ends_with(&domain)), "{tenant} sees {seen:?}");
    });
    assert_eq!(join_all(requests).await.len(), 50);

    for tenant in TENANTS {
        let users = service.get(tenant, "/users?limit=500").await;
        let mut expected: Vec<_> =
            (0..EACH).map(|number| format!("{number}@{tenant}.example")).collect();
        expected.push(owner(tenant));
        expected.sort();
        let mut seen = users.column("email");
        seen.sort_unstable();
        assert_eq!(seen, expected);
        let logs = service.get(tenant, "/logs?limit=500").await;
        assert_eq!(logs.column("message").len(), EACH + 1);
    }
}

#[tokio::test]
async fn another_tenants_row_is_not_found_by_its_id() {
    let service = Service::with(&["acme", "globex"]).await;
    let users = service.get("acme", "/users").await;
    let path = format!("/users/{}", users.column("id")[0]);
    assert_eq!(service.get("acme", &path).await.status, StatusCode::OK);
    service.get("globex", &path).await.problem(StatusCode::NOT_FOUND);
    service.delete("globex", &path).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(service.get("acme", &path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_host_names_the_tenant_as_well_as_the_header() {
    let service = Service::with(&["acme", "globex"]).await;
    let by_host =
        |host: &str| service.request(Method::GET, "/users").header(header::HOST, host.to_owned());
    for host in ["acme.localhost", "ACME.localhost:8080"] {
        assert_eq!(send(by_host(host)).await.column("email"), [owner("acme")]);
    }
    let same = by_host("acme.localhost").header("x-tenant-id", "acme");
    assert_eq!(send(same).await.column("email"), [owner("acme")]);

    let other = by_host("acme.localhost").header("x-tenant-id", "globex");
    assert_eq!(send(other).await.problem(StatusCode::BAD_REQUEST), "tenant-ambiguous");
    let twice = service.request(Method::GET, "/users").header("x-tenant-id", "acme");
    let twice = twice.header("x-tenant-id", "globex");
    assert_eq!(send(twice).await.problem(StatusCode::BAD_REQUEST), "tenant-ambiguous");
    for host in ["localhost", "acme.example.com", "a.acme.localhost"] {
        let reply = send(by_host(host)).await;
        assert_eq!(reply.problem(StatusCode::BAD_REQUEST), "tenant-missing", "{host}");
    }
}

#[tokio::test]
async fn the_domain_can_be_chosen() {
    let data = tempfile::tempdir().unwrap();
    assert!(saas_api::app(&settings(data.path(), &[]), "*.example.com").await.is_err());
    let (_, tenants) = saas_api::app(&settings(data.path(), &[]), "example.com").await.unwrap();
    assert_eq!(tenants.main_tenant_id().unwrap().as_str(), "main");
    tenants.shutdown().await.unwrap();
}
