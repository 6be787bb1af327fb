use mt_core::{ErrorKind, Result};
use serde_json::{Value, json};

use super::{
    UUID, expect,
    replay::{Replay, Reply, error, hasty, ok},
};

const FILE: &str = "GET /file.sql?X-Amz-Signature=secret";

fn line() -> String {
    format!("POST /{UUID}/export")
}

fn working() -> Reply {
    ok(json!({ "success": true, "type": "export", "at_bookmark": "b1", "messages": ["…"] }))
}

fn complete(url: &str) -> Reply {
    let result = json!({ "filename": "file.sql", "signed_url": url });
    let status = "complete";
    ok(json!({ "success": true, "status": status, "at_bookmark": "b1", "result": result }))
}

fn place(server: &Replay) -> String {
    format!("{}/file.sql?X-Amz-Signature=secret", server.url())
}

async fn export(server: &Replay) -> Result<(u64, Vec<u8>)> {
    let mut sink = Vec::new();
    let length = server.client(hasty()).export(UUID, &mut sink).await?;
    Ok((length, sink))
}

#[tokio::test]
async fn an_export_is_asked_for_until_it_is_there_and_fetched_without_the_token() {
    let store = Replay::start().await;
    let server = Replay::start().await;
    server.on(&line(), [working(), working(), Reply::Torn, complete(&place(&store))]);
    store.on(FILE, [Reply::Html(503), Reply::Bytes(b"CREATE TABLE t (a);".to_vec())]);
    assert_eq!(export(&server).await.unwrap(), (19, b"CREATE TABLE t (a);".to_vec()));
    let asked: Vec<Value> = server.seen().iter().map(super::replay::Seen::json).collect();
    assert_eq!(asked[0], json!({ "output_format": "polling" }));
    let again = json!({ "output_format": "polling", "current_bookmark": "b1" });
    assert!(asked.len() == 4 && asked[1..].iter().all(|body| *body == again), "{asked:?}");
    assert!(server.seen().iter().all(|seen| seen.token.is_some()));
    assert!(store.seen().iter().all(|seen| seen.token.is_none()));
}

#[tokio::test]
async fn an_export_that_fails_at_any_level_has_failed() {
    let url = "https://127.0.0.1:9/?X-Amz-Signature=secret";
    let virtual_tables = "cannot export databases with Virtual Tables (fts5)";
    for (reply, kind, words) in [
        (error(400, 7400, "failed to decode id"), ErrorKind::Config, "no such account or id"),
        (error(200, 1, "no"), ErrorKind::Internal, "`no`"),
        (
            ok(json!({ "success": false, "at_bookmark": "b", "error": format!("see {url}") })),
            ErrorKind::Internal,
            "gave the export up: see https://…",
        ),
        (
            ok(json!({ "success": true, "status": "error", "error": virtual_tables })),
            ErrorKind::Unsupported,
            virtual_tables,
        ),
        (ok(json!({ "status": "error" })), ErrorKind::Internal, "it does not say why"),
        (ok(json!({ "success": true })), ErrorKind::Internal, "by what to ask for it again"),
        (ok(json!({ "success": true, "status": "complete" })), ErrorKind::Internal, "where it is"),
        (
            ok(json!({ "status": "complete", "error": "no", "result": { "signed_url": url } })),
            ErrorKind::Internal,
            "gave the export up: no",
        ),
        (complete("no URL"), ErrorKind::Internal, "a URL that can be read"),
        (complete("http://example.com/?X-Amz-Signature=secret"), ErrorKind::Internal, "https"),
        (complete("ftp://127.0.0.1/?X-Amz-Signature=secret"), ErrorKind::Internal, "https"),
        (complete(url), ErrorKind::Unavailable, "no connection could be made"),
    ] {
        let server = Replay::start().await;
        server.on(&line(), [reply]);
        expect(&export(&server).await.unwrap_err(), kind, words);
    }
}

#[tokio::test]
async fn another_export_is_waited_for_a_little() {
    let busy = "Currently processing a long-running export.";
    for reply in [error(400, 7500, busy), ok(json!({ "success": false, "error": busy }))] {
        let server = Replay::start().await;
        server.on(&line(), [reply]);
        expect(&export(&server).await.unwrap_err(), ErrorKind::InUse, "it is being exported");
        assert_eq!(server.seen().len(), 6);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_fetched_whole_is_none() {
    for (reply, words) in [
        (Reply::Html(403), "status 403"),
        (Reply::Redirect("http://127.0.0.1:9/".into()), "status 307"),
        (Reply::Hang, "no whole answer"),
        (Reply::Torn, "the connection ended"),
    ] {
        let store = Replay::start().await;
        let server = Replay::start().await;
        store.on(FILE, [reply]);
        server.on(&line(), [complete(&place(&store))]);
        expect(&export(&server).await.unwrap_err(), ErrorKind::Unavailable, words);
        assert!(store.seen().iter().all(|seen| seen.token.is_none()));
    }
}

#[tokio::test]
async fn an_export_that_never_ends_is_given_up() {
    let server = Replay::start().await;
    // The second: its last poll is the one that the end cuts off.
    for replies in [vec![working()], vec![working(), working(), Reply::Hang]] {
        server.on(&line(), replies);
        let limits = hasty().with_transfer_timeout(std::time::Duration::from_millis(200));
        let mut sink = Vec::new();
        let error_of = server.client(limits).export(UUID, &mut sink).await.unwrap_err();
        expect(&error_of, ErrorKind::Unavailable, "the time for it is over");
        assert!(sink.is_empty() && server.seen().len() > 2);
    }
}
