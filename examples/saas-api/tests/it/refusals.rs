use multi_tenancy::TenantId;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{Service, owner, send};

/// Every route that needs a tenant.
const ROUTES: [(Method, &str); 8] = [
    (Method::GET, "/users"),
    (Method::POST, "/users"),
    (Method::GET, "/users/00000000-0000-0000-0000-000000000000"),
    (Method::DELETE, "/users/00000000-0000-0000-0000-000000000000"),
    (Method::GET, "/logs"),
    (Method::POST, "/logs"),
    (Method::GET, "/settings/plan"),
    (Method::PUT, "/settings/plan"),
];

#[tokio::test]
async fn a_request_that_names_no_tenant_reaches_no_database() {
    let service = Service::with(&["acme"]).await;
    for (method, path) in ROUTES {
        let reply = send(service.request(method.clone(), path)).await;
        assert_eq!(reply.problem(StatusCode::BAD_REQUEST), "tenant-missing", "{method} {path}");
    }
}

#[tokio::test]
async fn an_unknown_tenant_is_not_found_and_not_made() {
    let service = Service::with(&["acme"]).await;
    let before = service.everything().await;
    for (method, path) in ROUTES {
        let request = service.request(method.clone(), path).header("x-tenant-id", "nobody");
        let reply = send(request).await;
        assert_eq!(reply.problem(StatusCode::NOT_FOUND), "tenant-not-found", "{method} {path}");
    }
    assert_eq!(service.everything().await, before);
}

#[tokio::test]
async fn a_suspended_tenant_is_out_of_service_until_it_is_activated() {
    let service = Service::with(&["acme", "globex"]).await;
    let acme = TenantId::new("acme").unwrap();
    service.tenants.suspend(&acme).await.unwrap();
    for (method, path) in ROUTES {
        let request = service.request(method.clone(), path).header("x-tenant-id", "acme");
        let reply = send(request).await;
        let kind = reply.problem(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kind, "tenant-not-active", "{method} {path}");
    }
    assert_eq!(service.get("globex", "/users").await.status, StatusCode::OK);
    // An id that is suspended is still taken.
    service.sign_up("acme").await.problem(StatusCode::CONFLICT);
    service.tenants.activate(&acme).await.unwrap();
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
}

#[tokio::test]
async fn a_removed_tenant_is_not_found_and_its_next_life_is_empty() {
    let service = Service::with(&["acme"]).await;
    let ada = json!({"email": "ada@acme.example", "name": "Ada"});
    assert_eq!(service.post("acme", "/users", ada).await.status, StatusCode::CREATED);
    service.tenants.deprovision(&TenantId::new("acme").unwrap()).await.unwrap();
    let reply = service.get("acme", "/users").await;
    assert_eq!(reply.problem(StatusCode::NOT_FOUND), "tenant-not-found");
    assert_eq!(service.sign_up("acme").await.status, StatusCode::CREATED);
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
}

#[tokio::test]
async fn hostile_ids_are_refused_and_make_nothing() {
    let service = Service::with(&["acme"]).await;
    let before = service.everything().await;
    let long = "a".repeat(65);
    let hostile = [
        "../x",
        "a/b",
        "..",
        ".",
        "",
        " ",
        "-x",
        "_x",
        "a\0b",
        "a\nb",
        "a b",
        "é",
        "..\\x",
        "%2e%2e",
        "acme.sqlite",
        "x'; DROP TABLE tenants; --",
        "\" OR 1=1",
        long.as_str(),
    ];
    for id in hostile {
        let reply = service.sign_up(id).await;
        assert_eq!(reply.problem(StatusCode::BAD_REQUEST), "tenant-invalid", "{id:?}");
        // Some cannot stand in a header at all.
        if header::HeaderValue::from_str(id).is_ok() {
            for (method, path) in ROUTES {
                let request = service.request(method, path).header("x-tenant-id", id);
                let kind = send(request).await;
                // An id that is empty names none, or is malformed; in either case it is refused.
                assert!(kind.problem(StatusCode::BAD_REQUEST).starts_with("tenant-"), "{id:?}");
            }
        }
    }
    // Beside a tenant from whom it differs by case only.
    service.sign_up("ACME").await.problem(StatusCode::CONFLICT);
    let reply = service.get("ACME", "/users").await;
    assert_eq!(reply.problem(StatusCode::NOT_FOUND), "tenant-not-found");
    assert_eq!(service.everything().await, before);
}
