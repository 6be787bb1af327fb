use mt_core::{Error, ErrorKind, TenantId};
use mt_remote::{Fault, StatementError};
use serde_json::{Value, json};

use super::{
    UUID, expect,
    replay::{Replay, Reply, error, hasty, ok},
};
use crate::{
    api::Target,
    budget::Lane,
    raw::{Effect, RawAnswer, RawStatement, Wire as _},
};

const SECRET: &str = "a bound secret";

fn raw() -> String {
    format!("POST /{UUID}/raw")
}

fn statement(sql: &str) -> RawStatement {
    RawStatement { sql: sql.to_owned(), params: Vec::new() }
}

fn two() -> Vec<RawStatement> {
    let bound =
        RawStatement { sql: "INSERT INTO t VALUES (?)".into(), params: vec![SECRET.into()] };
    vec![bound, statement("SELECT 1")]
}

fn item(columns: &[&str], rows: impl Into<Value>) -> Value {
    let rows: Value = rows.into();
    json!({
        "success": true,
        "results": { "columns": columns, "rows": rows },
        "meta": { "changes": 1, "size_after": 8192, "served_by": "x" },
    })
}

fn answered() -> Reply {
    ok(json!([item(&[], json!([])), item(&["1", "1"], json!([[1, 2]]))]))
}

fn target(server: &Replay) -> Target {
    let lane = Lane::Tenant(TenantId::new("acme").unwrap());
    Target::new(server.hasty(), UUID, lane)
}

async fn send(server: &Replay, effect: Effect) -> Result<Vec<RawAnswer>, Fault> {
    target(server).send(two(), effect).await
}

async fn failed(server: &Replay, effect: Effect) -> Error {
    let fault = send(server, effect).await.unwrap_err();
    assert!(!format!("{fault:?}").contains(SECRET));
    match fault {
        Fault::Other(error) => error,
        Fault::Statement(error) => panic!("a statement: {error}"),
    }
}

#[tokio::test]
async fn statements_go_in_one_request_and_have_an_answer_each() {
    let server = Replay::start().await;
    server.on(&raw(), [answered(), ok(json!([item(&["a"], json!([[1.5]]))]))]);
    let answers = send(&server, Effect::Writes).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1].columns, ["1", "1"]);
    assert_eq!(answers[1].rows, [[json!(1), json!(2)]]);
    assert_eq!((answers[0].meta.changes, answers[0].meta.size_after), (Some(1), Some(8192)));
    let batch = json!({ "batch": [
        { "sql": "INSERT INTO t VALUES (?)", "params": [SECRET] },
        { "sql": "SELECT 1" },
    ] });
    assert_eq!(server.seen()[0].json(), batch);

    let one = vec![statement("SELECT a FROM t")];
    target(&server).send(one, Effect::Reads).await.unwrap();
    assert_eq!(server.seen()[1].json(), json!({ "sql": "SELECT a FROM t" }));
    assert!(target(&server).send(Vec::new(), Effect::Writes).await.unwrap().is_empty());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_statement_is_told_in_the_engines_words_once() {
    let message = "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT";
    let inner = |words: Value| ok(json!([{ "success": false, "error": words, "results": null }]));
    for (status, reply) in [
        (400, error(400, 7500, message)),
        (200, error(200, 7500, message)),
        (500, error(500, 7500, message)),
        (200, inner(json!(message))),
    ] {
        let server = Replay::start().await;
        server.on(&raw(), [reply]);
        for effect in [Effect::Reads, Effect::Writes] {
            let one = vec![statement("INSERT INTO t VALUES (1)")];
            let fault = target(&server).send(one, effect).await.unwrap_err();
            let Fault::Statement(said) = fault else { panic!("{status}: {fault}") };
            let code = Some("SQLITE_CONSTRAINT".to_owned());
            assert_eq!(said, StatementError::new("UNIQUE constraint failed: t.a", code));
        }
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn what_failed_inside_of_a_success_is_no_success() {
    let no = json!({ "success": false, "error": "no such table: t: SQLITE_ERROR" });
    for items in [
        json!([item(&[], json!([])), no]),
        json!([item(&[], json!([])), { "success": false, "results": [] }]),
        json!([item(&[], json!([])), { "success": false, "results": null }]),
        json!([item(&[], json!([])), { "success": true, "results": [] }]),
        json!([item(&[], json!([])), { "results": { "columns": [], "rows": [] } }]),
        json!([item(&[], json!([])), { "success": true }]),
        json!([item(&[], json!([]))]),
        json!([item(&[], json!([])), item(&[], json!([])), item(&[], json!([]))]),
        json!([]),
        json!({ "success": true }),
        json!(null),
        json!([item(&[], json!([])), item(&[], json!(SECRET))]),
    ] {
        let server = Replay::start().await;
        server.on(&raw(), [ok(items.clone())]);
        let error_of = failed(&server, Effect::Writes).await;
        expect(&error_of, ErrorKind::OutcomeUnknown, "whether it took effect is not known");
        assert_eq!(server.seen().len(), 1, "{items}");
        send(&server, Effect::Reads).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_not_repeated() {
    for lost in [
        Reply::Hang,
        Reply::Torn,
        Reply::Html(504),
        Reply::Html(200),
        error(
            500,
            7500,
            "D1 DB storage operation exceeded timeout which caused object to be reset.",
        ),
        error(400, 7500, "Network connection lost."),
        error(200, 0, ""),
    ] {
        let server = Replay::start().await;
        server.on(&raw(), [lost.clone()]);
        let error_of = failed(&server, Effect::Writes).await;
        expect(&error_of, ErrorKind::OutcomeUnknown, "look before repeating it");
        assert_eq!(server.seen().len(), 1);
        if !matches!(lost, Reply::Json(200, _)) {
            server.on(&raw(), [lost, answered()]);
            assert_eq!(send(&server, Effect::Reads).await.unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_deferred_foreign_key_is_named_where_it_may_be_the_reason() {
    let server = Replay::start().await;
    server.on(&raw(), [error(400, 7500, "internal error; reference = abc")]);
    let error_of = failed(&server, Effect::Writes).await;
    expect(&error_of, ErrorKind::OutcomeUnknown, "a deferred foreign key violated");
    expect(&error_of, ErrorKind::OutcomeUnknown, "internal error; reference = abc");
}

#[tokio::test]
async fn a_write_that_was_certainly_not_done_goes_again() {
    for fault in [
        error(400, 7500, "Currently processing a long-running export."),
        error(500, 7500, "D1 DB is overloaded. Requests queued for too long."),
        Reply::Overrun(1),
    ] {
        let server = Replay::start().await;
        server.on(&raw(), [fault, answered()]);
        assert_eq!(send(&server, Effect::Writes).await.unwrap().len(), 2);
        assert_eq!(server.seen().len(), 2);
    }
    let server = Replay::start().await;
    server.on(&raw(), [error(400, 7500, "Currently processing a long-running export.")]);
    expect(&failed(&server, Effect::Writes).await, ErrorKind::InUse, "it is being exported");
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    for (reply, kind, words) in [
        (error(404, 7404, "not found"), ErrorKind::TenantNotFound, "cannot query the database"),
        (error(401, 10_000, "no"), ErrorKind::Unauthenticated, "the credentials were refused"),
        (error(400, 7500, "Exceeded maximum DB size"), ErrorKind::QuotaExceeded, "a limit"),
        (error(400, 7500, "daily row write quota"), ErrorKind::QuotaExceeded, "a limit"),
        (error(404, 7003, "Could not route"), ErrorKind::Config, "no such account"),
        (error(413, 0, ""), ErrorKind::Unsupported, "too large"),
        (error(418, 0, "a teapot"), ErrorKind::Internal, "a teapot"),
    ] {
        let server = Replay::start().await;
        server.on(&raw(), [reply]);
        for effect in [Effect::Reads, Effect::Writes] {
            expect(&failed(&server, effect).await, kind, words);
        }
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_request_too_long_is_not_sent() {
    let server = Replay::start().await;
    let client = server.client(hasty().with_request_bytes(60));
    let fault = client.raw(UUID, &Lane::Control, two(), Effect::Writes).await.unwrap_err();
    expect(&fault.into(), ErrorKind::Unsupported, "send fewer statements at once");
    let fault = client.raw("mt_a", &Lane::Control, two(), Effect::Writes).await.unwrap_err();
    expect(&fault.into(), ErrorKind::Config, "expected a uuid");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_not_found_by_its_old_id() {
    let server = Replay::start().await;
    server.on(&raw(), [answered(), super::replay::missing()]);
    send(&server, Effect::Writes).await.unwrap();
    let error_of = failed(&server, Effect::Writes).await;
    expect(&error_of, ErrorKind::TenantNotFound, "there is none");
    assert!(!error_of.is_transient());
}
