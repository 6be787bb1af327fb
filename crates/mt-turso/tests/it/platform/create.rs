use mt_core::ErrorKind;
use mt_turso::{CreateDatabase, Seed};
use serde_json::{Value, json};

use super::expect;
use crate::replay::{Replay, Reply, TOKEN, database, error, ok};

const POST: &str = "POST /databases";
const GET: &str = "GET /databases/a";

fn acme() -> CreateDatabase {
    CreateDatabase::new("a", "main")
}

/// What the service says when it made one: three fields.
fn made() -> Reply {
    ok(json!({ "database": { "Name": "a", "DbId": "id-a", "Hostname": "a-org.localhost" } }))
}

fn found() -> Reply {
    ok(json!({ "database": database("a") }))
}

#[tokio::test]
async fn it_is_made_by_one_request() {
    let server = Replay::start().await;
    server.on(POST, [made()]);
    let creation = server.hasty().create_database(&acme()).await.unwrap();
    assert!(creation.created);
    assert_eq!(creation.database.hostname, "a-org.localhost");
    assert_eq!(creation.database.id, "id-a");
    assert_eq!(creation.database.group.as_deref(), Some("main"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].token.as_deref(), Some(format!("Bearer {TOKEN}").as_str()));
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body, json!({ "name": "a", "group": "main" }));
}

#[tokio::test]
async fn a_duplicate_is_found_however_it_is_said() {
    for refusal in [
        error(400, "database with same name already exists"),
        error(409, "conflict"),
        error(422, "name is not available"),
    ] {
        let server = Replay::start().await;
        server.on(POST, [refusal]).on(GET, [found()]);
        let creation = server.hasty().create_database(&acme()).await.unwrap();
        assert!(!creation.created);
        assert_eq!(creation.database.id, "id-a");
        assert_eq!(server.lines(), [POST, GET]);
    }
}

#[tokio::test]
async fn a_duplicate_in_another_group_or_of_another_parent_is_not_taken_over() {
    let server = Replay::start().await;
    let mut other = database("a");
    other["group"] = json!("theirs");
    server.on(POST, [error(409, "conflict")]).on(GET, [ok(json!({ "database": other }))]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::NameTaken, "in the group `theirs`, not in `main`");

    let mut branch = database("a");
    branch["parent"] = json!({ "id": "i", "name": "elsewhere", "branched_at": "" });
    server.on(GET, [ok(json!({ "database": branch }))]);
    let seeded = acme().with_seed(Seed::database("template"));
    let error_of = server.hasty().create_database(&seeded).await.unwrap_err();
    expect(&error_of, ErrorKind::NameTaken, "branched from `elsewhere`, not from `template`");
}

#[tokio::test]
async fn one_that_was_made_and_not_confirmed_is_found() {
    for lost in [Reply::Hang, Reply::Torn, Reply::Html(502), Reply::Html(200)] {
        let server = Replay::start().await;
        server.on(POST, [lost]).on(GET, [found()]);
        let creation = server.hasty().create_database(&acme()).await.unwrap();
        assert!(!creation.created, "nobody knows who made it");
        assert_eq!(server.lines(), [POST, GET]);
    }
}

#[tokio::test]
async fn one_that_was_not_made_is_asked_for_again() {
    for lost in [Reply::Hang, Reply::Torn, error(500, "oops")] {
        let server = Replay::start().await;
        server.on(POST, [lost, made()]).on(GET, [error(404, "not found")]);
        let creation = server.hasty().create_database(&acme()).await.unwrap();
        assert!(creation.created);
        assert_eq!(server.lines(), [POST, GET, POST]);
    }
}

#[tokio::test]
async fn one_that_appears_late_is_found_by_its_duplicate() {
    let server = Replay::start().await;
    server
        .on(POST, [Reply::Hang, error(400, "database with same name already exists")])
        .on(GET, [error(404, "not found"), found()]);
    let creation = server.hasty().create_database(&acme()).await.unwrap();
    assert!(!creation.created);
    assert_eq!(server.lines(), [POST, GET, POST, GET]);
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_unknown() {
    let server = Replay::start().await;
    server.on(POST, [Reply::Hang]).on(GET, [error(500, "oops")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "cannot create the database `a`");
    assert_eq!(server.count(POST), 1, "it is not asked for again unseen");
}

#[tokio::test]
async fn what_never_appears_is_unknown() {
    let server = Replay::start().await;
    server.on(POST, [Reply::Hang]).on(GET, [error(404, "not found")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "there was no whole answer within");
    assert!(server.count(POST) > 1);
}

#[tokio::test]
async fn a_definite_refusal_is_not_unknown() {
    let server = Replay::start().await;
    // The look-up fails, but the answer to the request itself was clear.
    server.on(POST, [error(409, "conflict")]).on(GET, [error(500, "oops")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "500");

    server.on(POST, [error(402, "upgrade")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::QuotaExceeded, "402");
}

#[tokio::test]
async fn a_taken_name_that_nobody_has_is_a_conflict() {
    let server = Replay::start().await;
    server.on(POST, [error(409, "conflict")]).on(GET, [error(404, "not found")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::Conflict, "cannot be seen");

    // A name that is free again a moment after it was deleted.
    server.on(POST, [error(409, "conflict"), made()]);
    assert!(server.hasty().create_database(&acme()).await.unwrap().created);
}

#[tokio::test]
async fn an_unknown_group_and_a_plans_limit_are_told_apart() {
    for (refusal, kind, words) in [
        (error(400, "group not found"), ErrorKind::Config, "no such group"),
        (error(402, "payment required"), ErrorKind::QuotaExceeded, "402"),
        (
            Reply::Json(
                403,
                json!({ "error": "no", "code": "feature_not_available_for_starter_plan" }),
            ),
            ErrorKind::QuotaExceeded,
            "starter_plan",
        ),
        (error(400, "invalid region"), ErrorKind::Internal, "invalid region"),
    ] {
        let server = Replay::start().await;
        server.on(POST, [refusal]);
        let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
        expect(&error_of, kind, words);
        assert_eq!(server.lines(), [POST], "a refusal is not repeated");
    }
}

const WAKE: &str = "POST /groups/main/unarchive";

fn asleep() -> Reply {
    error(400, "cannot create database on group main because it is sleeping")
}

#[tokio::test]
async fn a_group_that_sleeps_is_woken_once() {
    let server = Replay::start().await;
    server.on(POST, [asleep(), asleep(), made()]).on(WAKE, [ok(json!({ "group": {} }))]);
    assert!(server.hasty().create_database(&acme()).await.unwrap().created);
    assert_eq!(server.lines(), [POST, WAKE, POST, POST]);
}

#[tokio::test]
async fn a_group_that_cannot_be_woken_is_named() {
    let server = Replay::start().await;
    server.on(POST, [asleep()]).on(WAKE, [error(403, "no scope group:unarchive")]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::Unauthenticated, "its group `main` sleeps");
    assert_eq!(server.lines(), [POST, WAKE]);

    server.on(WAKE, [Reply::Empty]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "its group sleeps");
    assert_eq!(server.count(WAKE), 2, "one for each call");
}

#[tokio::test]
async fn an_answer_about_another_database_is_not_used() {
    let server = Replay::start().await;
    server.on(POST, [ok(json!({ "database": database("b") }))]);
    server.on(GET, [ok(json!({ "database": database("b") }))]);
    let error_of = server.hasty().create_database(&acme()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "the answer is about `b`");
    let error_of = server.hasty().database("a").await.unwrap_err();
    expect(&error_of, ErrorKind::Internal, "the answer is about `b`");
}

#[tokio::test]
async fn a_name_the_service_cannot_have_is_not_sent() {
    let server = Replay::start().await;
    for name in ["", "A", "a_b", "a/b", "..", &"a".repeat(65)] {
        let create = CreateDatabase::new(name, "main");
        let error_of = server.hasty().create_database(&create).await.unwrap_err();
        assert_eq!(error_of.kind(), ErrorKind::Config, "{name}");
    }
    for name in ["", ".", "..", "a/b"] {
        let error_of = server.hasty().delete_database(name).await.unwrap_err();
        assert_eq!(error_of.kind(), ErrorKind::Config, "{name}");
    }
    assert!(server.lines().is_empty());
}
