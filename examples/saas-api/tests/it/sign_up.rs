use multi_tenancy::{TenantId, TenantState};
use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::{Value, json};

use crate::support::{Service, owner, send};

#[tokio::test]
async fn a_new_tenant_is_served_with_its_owner_and_a_welcome() {
    let service = Service::with(&[]).await;
    let reply = service.sign_up("acme").await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.body, json!({"id": "acme", "state": "active"}));

    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
    let logs = service.get("acme", "/logs").await;
    assert_eq!(logs.column("message"), ["welcome, acme"]);
    assert_eq!(service.get("acme", "/settings/plan").await.body["value"], "trial");
    let files = service.data.path().join("tenants");
    assert!(files.join("tenant_acme.sqlite").is_file());
    assert!(service.data.path().join("control.db").is_file());
}

#[tokio::test]
async fn an_id_is_given_once() {
    let service = Service::with(&["acme"]).await;
    let before = service.everything().await;
    for id in ["acme", "Acme", "ACME", "main", "Main"] {
        let reply = service.sign_up_by(id, "mallory@example.com").await;
        assert_eq!(reply.problem(StatusCode::CONFLICT), "tenant-exists", "{id}");
    }
    assert_eq!(service.everything().await, before);
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
}

#[tokio::test]
async fn of_many_who_want_an_id_at_once_one_gets_it() {
    let service = Service::with(&[]).await;
    let attempts = (0..10).map(async |number| {
        let email = format!("{number}@example.com");
        (service.sign_up_by("acme", &email).await.status, email)
    });
    let replies = futures_util::future::join_all(attempts).await;
    let made: Vec<_> = replies.iter().filter(|(s, _)| *s == StatusCode::CREATED).collect();
    let refused = replies.iter().filter(|(status, _)| *status == StatusCode::CONFLICT).count();
    let [(_, email)] = made.as_slice() else { panic!("{replies:?}") };
    assert_eq!(refused, 9, "{replies:?}");
    assert_eq!(service.get("acme", "/users").await.column("email"), [email.as_str()]);
}

/// A provision that failed after the owner was added: the same person may try again, and nobody
/// else gets into the database.
#[tokio::test]
async fn nobody_takes_over_what_somebody_else_left_half_made() {
    let service = Service::with(&["acme"]).await;
    // As it is when the service dies right after the owner was added.
    let catalog = format!("sqlite:{}", service.data.path().join("control.db").display());
    let catalog = Database::connect(catalog).await.unwrap();
    catalog
        .execute_unprepared("UPDATE tenant SET state = 'provisioning' WHERE id = 'acme'")
        .await
        .unwrap();
    catalog.close().await.unwrap();

    let taken_over = service.sign_up_by("acme", "mallory@example.com").await;
    assert_eq!(taken_over.problem(StatusCode::CONFLICT), "tenant-exists");
    let record = service.tenants.catalog().get(&TenantId::new("acme").unwrap()).await.unwrap();
    assert_eq!(record.state, TenantState::Failed);

    assert_eq!(service.sign_up("acme").await.status, StatusCode::CREATED);
    assert_eq!(service.get("acme", "/users").await.column("email"), [owner("acme")]);
    assert_eq!(service.get("acme", "/logs").await.column("message").len(), 1, "one welcome");
}

#[tokio::test]
async fn what_is_no_application_is_refused() {
    let service = Service::with(&[]).await;
    let before = service.everything().await;
    let owner = json!({"email": "ada@example.com", "name": "Ada"});
    for body in [
        json!({"id": "acme"}),
        json!({"owner": owner}),
        json!({"id": 7, "owner": owner}),
        json!({"id": "acme", "owner": {"email": "", "name": "Ada"}}),
        json!({"id": "acme", "owner": {"email": "a@b", "name": " "}}),
        json!({"id": "acme", "owner": owner, "admin": true}),
        json!([]),
        Value::Null,
    ] {
        let reply = send(service.request(Method::POST, "/tenants").json(&body)).await;
        assert!(reply.status.is_client_error(), "{body}: {}", reply.status);
        assert_eq!(reply.problem(reply.status), "blank", "{body}");
    }
    let torn = service.request(Method::POST, "/tenants").body("{\"id\": ");
    let torn = send(torn.header("content-type", "application/json")).await;
    assert_eq!(torn.problem(StatusCode::BAD_REQUEST), "blank");
    assert_eq!(service.everything().await, before);
}
