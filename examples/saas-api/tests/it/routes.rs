use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Service, owner, send};

#[tokio::test]
async fn users_come_and_go() {
    let service = Service::with(&["acme"]).await;
    let ada = json!({"email": "Ada@acme.example", "name": "Ada"});
    let added = service.post("acme", "/users", ada.clone()).await;
    assert_eq!(added.status, StatusCode::CREATED);
    let path = format!("/users/{}", added.body["id"].as_str().unwrap());
    assert_eq!(service.get("acme", &path).await.body, added.body);

    let taken = json!({"email": "ada@ACME.example", "name": "Another"});
    assert_eq!(service.post("acme", "/users", taken).await.problem(StatusCode::CONFLICT), "blank");

    assert_eq!(service.delete("acme", &path).await.status, StatusCode::NO_CONTENT);
    service.get("acme", &path).await.problem(StatusCode::NOT_FOUND);
    service.delete("acme", &path).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(service.post("acme", "/users", ada).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let service = Service::with(&["acme"]).await;
    let mut expected = vec![owner("acme")];
    for number in 0..7 {
        let email = format!("{number}@acme.example");
        let user = json!({"email": email, "name": "Ada"});
        assert_eq!(service.post("acme", "/users", user).await.status, StatusCode::CREATED);
        expected.push(email);
    }
    let mut seen = Vec::new();
    let mut path = "/users?limit=3".to_owned();
    loop {
        let page = service.get("acme", &path).await;
        seen.extend(page.column("email").into_iter().map(str::to_owned));
        let Some(last) = page.column("id").last().copied() else { break };
        path = format!("/users?limit=3&after={last}");
    }
    assert_eq!(seen, expected);

    for query in ["limit=0", "limit=501", "limit=-1", "limit=x", "after=7", "after=../x"] {
        let refused = service.get("acme", &format!("/users?{query}")).await;
        refused.problem(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn logs_are_newest_first_and_of_users_that_are_there() {
    let service = Service::with(&["acme"]).await;
    let users = service.get("acme", "/users").await;
    let id = users.column("id")[0].to_owned();
    let log = json!({"user_id": id, "kind": "visit", "message": "was here"});
    assert_eq!(service.post("acme", "/logs", log).await.status, StatusCode::CREATED);
    let logs = service.get("acme", "/logs").await;
    assert_eq!(logs.column("kind"), ["visit", "welcome"]);
    let first = logs.body[0]["id"].as_i64().unwrap();
    let older = service.get("acme", &format!("/logs?limit=1&after={first}")).await;
    assert_eq!(older.column("kind"), ["welcome"]);

    let nobody = json!({"user_id": uuid::Uuid::nil(), "kind": "visit", "message": ""});
    service.post("acme", "/logs", nobody).await.problem(StatusCode::BAD_REQUEST);
    // What a user did goes with the user.
    assert_eq!(
        service.delete("acme", &format!("/users/{id}")).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(service.get("acme", "/logs").await.column("kind"), ["welcome"]);
}

#[tokio::test]
async fn a_setting_is_what_it_was_last_set_to() {
    let service = Service::with(&["acme", "globex"]).await;
    service.get("acme", "/settings/colour").await.problem(StatusCode::NOT_FOUND);
    for value in ["red", "'); DROP TABLE settings; --"] {
        let set = service.put("acme", "/settings/colour", json!({"value": value})).await;
        assert_eq!(set.body, json!({"key": "colour", "value": value}));
        assert_eq!(service.get("acme", "/settings/colour").await.body, set.body);
    }
    service.get("globex", "/settings/colour").await.problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn health_asks_for_no_tenant() {
    let service = Service::with(&[]).await;
    let reply = send(service.request(Method::GET, "/healthz")).await;
    assert_eq!((reply.status, reply.body), (StatusCode::OK, json!("ok")));
    service.tenants.shutdown().await.unwrap();
    service.tenants.catalog().close().await.unwrap();
    let reply = send(service.request(Method::GET, "/healthz")).await;
    assert!(reply.status.is_server_error(), "{reply:?}");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let service = Service::with(&["acme"]).await;
    service.get("acme", "/").await.problem(StatusCode::NOT_FOUND);
    service.get("acme", "/users/7").await.problem(StatusCode::BAD_REQUEST);
    service.delete("acme", "/users").await.problem(StatusCode::METHOD_NOT_ALLOWED);
    let text = service.request(Method::POST, "/users").header("x-tenant-id", "acme").body("ada");
    send(text).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
