use chrono::DateTime;
use mt_core::ErrorKind;
use mt_turso::{Authorization, Expiration, TokenScope};
use serde_json::json;

use super::expect;
use crate::replay::{Replay, Reply, error, ok};

const GROUP: &str = "GET /groups/main";
const MAKE: &str = "POST /groups";

fn main_group() -> serde_json::Value {
    json!({ "group": {
        "name": "main", "uuid": "u", "primary": "aws-us-east-1",
        "locations": ["aws-us-east-1"], "archived": true, "version": "v0.24",
    } })
}

#[tokio::test]
async fn groups_are_found_made_woken_and_deleted() {
    let server = Replay::start().await;
    let client = server.hasty();
    let group = main_group();
    server.on("GET /groups", [ok(json!({ "groups": [group["group"], { "name": "bare" }] }))]);
    let groups = client.groups().await.unwrap();
    assert!(groups[0].archived && groups[0].locations == ["aws-us-east-1"]);
    assert!(!groups[1].archived && groups[1].primary.is_none());

    server.on(GROUP, [error(404, "group not found"), ok(main_group())]);
    assert!(client.group("main").await.unwrap().is_none());
    assert_eq!(client.group("main").await.unwrap().unwrap().uuid.as_deref(), Some("u"));

    server.on(MAKE, [ok(main_group())]);
    assert_eq!(client.create_group("main", "aws-us-east-1").await.unwrap().name, "main");
    let sent: serde_json::Value =
        serde_json::from_slice(&server.seen().pop().unwrap().body).unwrap();
    assert_eq!(sent, json!({ "name": "main", "location": "aws-us-east-1" }));

    server.on("POST /groups/main/unarchive", [Reply::Html(502), ok(main_group())]);
    client.unarchive_group("main").await.unwrap();

    server.on("DELETE /groups/main", [ok(main_group()), error(404, "group not found")]);
    assert!(client.delete_group("main").await.unwrap());
    assert!(!client.delete_group("main").await.unwrap());
}

#[tokio::test]
async fn a_group_is_looked_up_where_the_answer_does_not_tell() {
    for unclear in [Reply::Hang, Reply::Torn, error(409, "group already exists")] {
        let server = Replay::start().await;
        server.on(MAKE, [unclear]).on(GROUP, [ok(main_group())]);
        let group = server.hasty().create_group("main", "aws-us-east-1").await.unwrap();
        assert_eq!(group.uuid.as_deref(), Some("u"));
        let elsewhere = server.hasty().create_group("main", "aws-eu-west-1").await.unwrap_err();
        expect(&elsewhere, ErrorKind::NameTaken, "in `aws-us-east-1`, not in `aws-eu-west-1`");
    }
    let server = Replay::start().await;
    server.on(MAKE, [Reply::Torn]).on(GROUP, [error(404, "group not found")]);
    let lost = server.hasty().create_group("main", "aws-us-east-1").await.unwrap_err();
    expect(&lost, ErrorKind::OutcomeUnknown, "cannot create the group `main`");
    assert_eq!(server.count(MAKE), 1);
}

#[tokio::test]
async fn a_groups_token_is_minted_at_the_group() {
    let server = Replay::start().await;
    let line = "POST /groups/main/auth/tokens?expiration=never&authorization=full-access";
    server
        .on(line, [ok(json!({ "jwt": "t" }))])
        .on("POST /groups/main/auth/rotate", [Reply::Empty]);
    let client = server.hasty();
    let scope = TokenScope::Group("main");
    let token = client.mint_token(scope, Authorization::FullAccess, Expiration::Never).await;
    assert_eq!(token.unwrap().expose(), "t");
    client.rotate(scope).await.unwrap();
}

#[tokio::test]
async fn usage_and_instances_are_read() {
    let server = Replay::start().await;
    let line = "GET /databases/a/usage?from=2026-01-01T00%3A00%3A00Z&to=2026-02-01T00%3A00%3A00Z";
    let counters =
        json!({ "rows_read": 1, "rows_written": 2, "storage_bytes": 3, "bytes_synced": 4 });
    server.on(line, [ok(json!({ "database": { "uuid": "u", "usage": counters } }))]);
    server.on("GET /databases/a/usage", [ok(json!({ "database": { "uuid": "u" } }))]);
    let client = server.hasty();
    let at = |text| Some(DateTime::parse_from_rfc3339(text).unwrap().to_utc());
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
    let usage = client.usage("a", from, to).await.unwrap();
    assert_eq!((usage.rows_read, usage.rows_written), (1, 2));
    assert_eq!((usage.storage_bytes, usage.bytes_synced), (3, 4));
    // No counters are not counters at zero.
    let error_of = client.usage("a", None, None).await.unwrap_err();
    expect(&error_of, ErrorKind::Internal, "neither `usage` nor `total`");

    let instance = json!({ "uuid": "i", "name": "iad", "type": "primary", "region": "iad" });
    server.on("GET /databases/a/instances", [ok(json!({ "instances": [instance] }))]);
    let instances = client.instances("a").await.unwrap();
    assert_eq!(instances[0].kind.as_deref(), Some("primary"));

    server.on("GET /databases/a/configuration", [error(404, "not found")]);
    let error_of = client.configuration("a").await.unwrap_err();
    expect(&error_of, ErrorKind::TenantNotFound, "cannot read the settings of the database `a`");
}
