use mt_core::ErrorKind;
use serde_json::json;

use super::{
    UUID, expect,
    replay::{Replay, Reply, database, error, missing, ok},
};
use crate::api::{CreateDatabase, Creation};

const MAKE: &str = "POST ";
const LOOK: &str = "GET /mt_a?fields=uuid%2Cname%2Cfile_size";

fn made() -> Reply {
    ok(database(UUID, "mt_a"))
}

fn name() -> CreateDatabase {
    CreateDatabase::new("mt_a")
}

fn uuid(creation: Creation) -> String {
    match creation {
        Creation::Created(database) => format!("created {}", database.uuid),
        Creation::Exists(database) => format!("exists {}", database.uuid),
    }
}

fn taken() -> Reply {
    error(400, 7502, "A database with that name already exists")
}

#[tokio::test]
async fn what_is_asked_for_is_made_with_one_request() {
    let server = Replay::start().await;
    server.on(MAKE, [made()]);
    let create =
        name().with_jurisdiction(Some("eu".into())).with_location_hint(Some("weur".into()));
    let creation = server.hasty().create(&create).await.unwrap();
    assert_eq!(uuid(creation), format!("created {UUID}"));
    let expected = json!({ "name": "mt_a", "jurisdiction": "eu", "primary_location_hint": "weur" });
    assert_eq!(server.seen()[0].json(), expected);
    server.hasty().create(&name()).await.unwrap();
    assert_eq!(server.seen()[1].json(), json!({ "name": "mt_a" }));
    assert_eq!(server.lines(), [MAKE, MAKE]);
}

#[tokio::test]
async fn a_name_that_is_taken_is_looked_up() {
    let server = Replay::start().await;
    // The database may not be seen at once.
    server.on(MAKE, [taken()]).on(LOOK, [missing(), missing(), made()]);
    assert_eq!(uuid(server.hasty().create(&name()).await.unwrap()), format!("exists {UUID}"));
    assert_eq!(server.lines(), [MAKE, LOOK, LOOK, LOOK]);
}

#[tokio::test]
async fn a_name_that_is_taken_and_never_seen_is_a_conflict() {
    let server = Replay::start().await;
    server.on(MAKE, [taken()]).on(LOOK, [missing()]);
    let error_of = server.hasty().create(&name()).await.unwrap_err();
    expect(&error_of, ErrorKind::Conflict, "taken by a database that cannot be seen");
    assert_eq!((server.count(MAKE), server.count(LOOK)), (1, 6));
}

#[tokio::test]
async fn a_database_that_was_made_although_the_answer_was_lost_is_found() {
    for lost in [
        Reply::Hang,
        Reply::Torn,
        Reply::Html(504),
        error(500, 7500, "internal error; reference = x"),
        ok(json!(null)),
        ok(database(UUID, "another")),
    ] {
        let server = Replay::start().await;
        server.on(MAKE, [lost]).on(LOOK, [made()]);
        assert_eq!(uuid(server.hasty().create(&name()).await.unwrap()), format!("exists {UUID}"));
        assert_eq!(server.lines(), [MAKE, LOOK]);
    }
}

#[tokio::test]
async fn there_is_a_look_between_any_two_attempts() {
    let server = Replay::start().await;
    server.on(MAKE, [Reply::Hang, Reply::Html(502), made()]).on(LOOK, [missing()]);
    assert_eq!(uuid(server.hasty().create(&name()).await.unwrap()), format!("created {UUID}"));
    assert_eq!(server.lines(), [MAKE, LOOK, MAKE, LOOK, MAKE]);

    // Made by the first, whose effect was late.
    let server = Replay::start().await;
    server.on(MAKE, [Reply::Torn, taken()]).on(LOOK, [missing(), made()]);
    assert_eq!(uuid(server.hasty().create(&name()).await.unwrap()), format!("exists {UUID}"));
    assert_eq!(server.lines(), [MAKE, LOOK, MAKE, LOOK]);
}

#[tokio::test]
async fn what_cannot_be_told_is_unknown() {
    // No look succeeds.
    let server = Replay::start().await;
    server.on(MAKE, [Reply::Torn]).on(LOOK, [Reply::Html(502)]);
    let error_of = server.hasty().create(&name()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "cannot create the database `mt_a`");
    assert_eq!(server.count(MAKE), 1);
    // It is never there.
    let server = Replay::start().await;
    server.on(MAKE, [Reply::Torn]).on(LOOK, [missing()]);
    let error_of = server.hasty().create(&name()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "the connection ended before the answer did");
    // It is never there, and an answer that makes no sense is not asked for again.
    let server = Replay::start().await;
    server.on(MAKE, [ok(7)]).on(LOOK, [missing()]);
    let error_of = server.hasty().create(&name()).await.unwrap_err();
    expect(&error_of, ErrorKind::OutcomeUnknown, "the answer cannot be understood");
    assert_eq!(server.lines(), [MAKE, LOOK]);
}

#[tokio::test]
async fn refusals_are_told_at_once() {
    for (refusal, kind) in [
        (error(400, 7406, "You have reached the maximum"), ErrorKind::QuotaExceeded),
        (error(403, 10_000, "Authentication error"), ErrorKind::Unauthenticated),
        (error(404, 7003, "Could not route"), ErrorKind::Config),
        (error(404, 7404, "not found"), ErrorKind::Config),
        (error(400, 7500, "who knows"), ErrorKind::Internal),
        (Reply::Redirect("http://127.0.0.1:1/".into()), ErrorKind::Config),
    ] {
        let server = Replay::start().await;
        server.on(MAKE, [refusal]);
        expect(&server.hasty().create(&name()).await.unwrap_err(), kind, "cannot create");
        assert_eq!(server.lines(), [MAKE]);
    }
    let server = Replay::start().await;
    for name in ["", ".", "..", "a\nb"] {
        let error_of = server.hasty().create(&CreateDatabase::new(name)).await.unwrap_err();
        expect(&error_of, ErrorKind::Config, "there is no such name");
    }
    assert!(server.lines().is_empty());
}
