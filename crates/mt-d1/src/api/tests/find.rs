use chrono::DateTime;
use mt_core::ErrorKind;
use serde_json::json;

use super::{
    OTHER, UUID, expect,
    replay::{Replay, Reply, database, error, missing, ok},
};
use crate::api::{Bookmark, PointInTime};

const BY_NAME: &str = "GET /mt_a?fields=uuid%2Cname%2Cfile_size";
const SEARCH: &str = "GET ?page=1&per_page=100&name=mt_a";
const SEARCH_ON: &str = "GET ?page=2&per_page=100&name=mt_a";

fn by_id() -> String {
    format!("GET /{UUID}?fields=uuid%2Cname%2Cfile_size")
}

#[tokio::test]
async fn a_name_costs_one_request() {
    let server = Replay::start().await;
    server.on(BY_NAME, [ok(database(UUID, "mt_a")), missing()]);
    let found = server.hasty().database_by_name("mt_a").await.unwrap().unwrap();
    assert_eq!((found.uuid.as_str(), found.file_size), (UUID, Some(12288)));
    assert!(server.hasty().database_by_name("mt_a").await.unwrap().is_none());
    assert_eq!(server.lines(), [BY_NAME, BY_NAME]);
    assert_eq!(server.seen()[0].token.as_deref(), Some("Bearer v1.0-api-token-of-the-tests"));
}

#[tokio::test]
async fn a_name_that_cannot_be_asked_for_is_searched_exactly() {
    for answer in [
        error(400, 7400, "failed to decode id"),
        error(404, 7003, "Could not route"),
        // One of another name.
        ok(database(OTHER, "MT_A")),
    ] {
        let server = Replay::start().await;
        let near = ok(json!([database(OTHER, "mt_ab"), database(UUID, "mt_a")]));
        server.on(BY_NAME, [answer]).on(SEARCH, [near]).on(SEARCH_ON, [ok(json!([]))]);
        let found = server.hasty().database_by_name("mt_a").await.unwrap().unwrap();
        assert_eq!(found.uuid, UUID);
        server.on(SEARCH, [ok(json!([database(OTHER, "mt_ab")]))]);
        assert!(server.hasty().database_by_name("mt_a").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_name_that_looks_like_an_id_is_none() {
    let server = Replay::start().await;
    let search = format!("GET ?page=1&per_page=100&name={OTHER}");
    server.on(&search, [ok(json!([database(UUID, OTHER)]))]);
    let found = server.hasty().database_by_name(OTHER).await.unwrap().unwrap();
    assert_eq!(found.uuid, UUID);
    assert_eq!(server.lines(), [search]);
}

#[tokio::test]
async fn a_name_stays_one_segment_of_the_path() {
    let server = Replay::start().await;
    server.on("GET /a%2F..%2Fb%3Fc%23%20%2541?fields=uuid%2Cname%2Cfile_size", [missing()]);
    assert!(server.hasty().database_by_name("a/../b?c# %41").await.unwrap().is_none());
    let error_of = server.hasty().database_by_name("..").await.unwrap_err();
    expect(&error_of, ErrorKind::Config, "there is no such name");
}

#[tokio::test]
async fn an_id_is_found_as_itself_only() {
    let server = Replay::start().await;
    let client = server.hasty();
    server.on(&by_id(), [ok(database(UUID, "mt_a")), missing(), ok(database(OTHER, UUID))]);
    assert_eq!(client.database(UUID).await.unwrap().unwrap().name, "mt_a");
    assert!(client.database(UUID).await.unwrap().is_none());
    let error_of = client.database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Internal, "the answer is about");
    // A name would do, and be another's tomorrow.
    for no_id in ["mt_a", "", "..", &UUID[1..]] {
        let error_of = client.delete(no_id).await.unwrap_err();
        expect(&error_of, ErrorKind::Config, "expected a uuid");
        expect(&client.database(no_id).await.unwrap_err(), ErrorKind::Config, "expected a uuid");
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn deleting_is_repeated_until_it_is_answered() {
    let line = format!("DELETE /{UUID}");
    for fault in [Reply::Hang, Reply::Torn, Reply::Html(504), error(500, 7500, "internal error")] {
        let server = Replay::start().await;
        server.on(&line, [fault, missing()]);
        server.hasty().delete(UUID).await.unwrap();
        assert_eq!(server.lines(), [line.as_str(), &line]);
    }
    let server = Replay::start().await;
    server.on(&line, [ok(json!(null)), missing()]);
    server.hasty().delete(UUID).await.unwrap();
    server.hasty().delete(UUID).await.unwrap();
    assert_eq!(server.lines(), [line.as_str(), &line]);

    server.on(&line, [Reply::Torn]);
    let error_of = server.hasty().delete(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "cannot delete the database");
    // A refusal of the second says nothing of the first.
    server.on(&line, [Reply::Torn, error(403, 10000, "Authentication error")]);
    let error_of = server.hasty().delete(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "Authentication error");
    // What a gateway does not know is not what the service does not know.
    server.on(&line, [Reply::Html(404)]);
    let error_of = server.hasty().delete(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "not the service's: status 404");
    let nobody = super::replay::client("http://127.0.0.1:9", super::replay::hasty());
    expect(&nobody.delete(UUID).await.unwrap_err(), ErrorKind::Unavailable, "no connection");
}

#[tokio::test]
async fn a_bookmark_is_taken_and_gone_back_to() {
    let server = Replay::start().await;
    let client = server.hasty();
    let now = format!("GET /{UUID}/time_travel/bookmark");
    let then = format!("{now}?timestamp=2026-01-02T03%3A04%3A05.678Z");
    server
        .on(&now, [Reply::Torn, ok(json!({ "bookmark": "b1" }))])
        .on(&then, [ok(json!({ "bookmark": "b0" }))]);
    let at = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.678Z").unwrap().to_utc();
    assert_eq!(client.bookmark(UUID, None).await.unwrap(), Bookmark("b1".into()));
    assert_eq!(client.bookmark(UUID, Some(at)).await.unwrap(), Bookmark("b0".into()));

    let back = format!("POST /{UUID}/time_travel/restore");
    let to_b0 = format!("{back}?bookmark=b0%26");
    let restored = json!({ "bookmark": "b2", "previous_bookmark": "b1", "message": "restored" });
    server.on(&to_b0, [ok(restored.clone())]);
    let point = PointInTime::Bookmark(Bookmark("b0&".into()));
    assert_eq!(client.restore_to(UUID, &point).await.unwrap(), Bookmark("b1".into()));
    assert!(server.seen().pop().unwrap().body.is_empty());

    let to_then = format!("{back}?timestamp=2026-01-02T03%3A04%3A05.678Z");
    let export = error(400, 7500, "Currently processing a long-running export.");
    server.on(&to_then, [export, ok(restored)]);
    let point = PointInTime::Timestamp(at);
    assert_eq!(client.restore_to(UUID, &point).await.unwrap(), Bookmark("b1".into()));
    for lost in [Reply::Torn, Reply::Hang, Reply::Html(504), ok(json!({ "bookmark": "b2" }))] {
        let server = Replay::start().await;
        server.on(&to_then, [lost]);
        let error_of = server.hasty().restore_to(UUID, &point).await.unwrap_err();
        expect(&error_of, ErrorKind::OutcomeUnknown, "look before repeating it");
        assert_eq!(server.seen().len(), 1);
    }
}
