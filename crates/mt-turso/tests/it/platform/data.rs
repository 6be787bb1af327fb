use std::{io::Write as _, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use mt_core::{ErrorKind, Secret};
use tokio::{fs::File, sync::Notify};

use super::expect;
use crate::replay::{Replay, Reply, error, hasty};

const UPLOAD: &str = "POST /v1/upload";
const DUMP: &str = "GET /dump";

/// More than is read at once, and telling where a piece of it belongs.
fn content() -> Vec<u8> {
    (0..40_000_u32).flat_map(u32::to_be_bytes).collect()
}

fn file() -> (tempfile::NamedTempFile, u64) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&content()).unwrap();
    (file, content().len() as u64)
}

#[tokio::test]
async fn a_file_is_sent_whole_each_time() {
    let server = Replay::start().await;
    server.on(UPLOAD, [error(503, "busy"), Reply::Torn, Reply::Empty]);
    let (named, length) = file();
    let client = server.client(hasty().with_transfer_timeout(Duration::from_secs(30)));
    let file = File::open(named.path()).await.unwrap();
    client.upload(&server.host(), &Secret::new("db-token"), file, length).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for request in seen {
        assert_eq!(request.token.as_deref(), Some("Bearer db-token"), "not the platform's");
        assert_eq!(request.length, Some(length.to_string()));
        assert!(request.body == content(), "{} bytes", request.body.len());
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_is_not_repeated() {
    for (status, kind) in [(400, ErrorKind::Internal), (401, ErrorKind::Unauthenticated)] {
        let server = Replay::start().await;
        server.on(UPLOAD, [error(status, "no: db-token")]);
        let (named, length) = file();
        let file = File::open(named.path()).await.unwrap();
        let token = Secret::new("db-token");
        let sent = server.hasty().upload(&server.host(), &token, file, length).await;
        let error_of = sent.unwrap_err();
        expect(&error_of, kind, "no: …");
        assert!(!error_of.to_chain().contains("db-token"));
        assert_eq!(server.count(UPLOAD), 1);
    }
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_and_then_refused_is_unknown() {
    let server = Replay::start().await;
    server.on(UPLOAD, [Reply::Torn, error(400, "the database is not empty")]);
    let (named, length) = file();
    let file = File::open(named.path()).await.unwrap();
    let sent = server.hasty().upload(&server.host(), &Secret::new("db-token"), file, length).await;
    expect(&sent.unwrap_err(), ErrorKind::OutcomeUnknown, "not empty");
}

#[tokio::test]
async fn a_file_shorter_than_said_is_not_sent() {
    let server = Replay::start().await;
    let (named, length) = file();
    let file = File::open(named.path()).await.unwrap();
    let sent =
        server.hasty().upload(&server.host(), &Secret::new("db-token"), file, length + 1).await;
    expect(&sent.unwrap_err(), ErrorKind::Internal, "expected 160001");
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn a_dump_comes_as_it_is() {
    let server = Replay::start().await;
    server.on(DUMP, [error(503, "busy"), Reply::Bytes(b"BEGIN;\nCOMMIT;\n")]);
    let dump = server.hasty().dump(&server.host(), &Secret::new("db-token")).await.unwrap();
    let pieces: Vec<_> = dump.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"BEGIN;\nCOMMIT;\n");
    assert_eq!(server.seen()[1].token.as_deref(), Some("Bearer db-token"));
}

#[tokio::test]
async fn a_dump_that_breaks_off_is_an_error_and_not_its_end() {
    let server = Replay::start().await;
    let cut = Arc::new(Notify::new());
    server.on(DUMP, [Reply::Cut(Arc::clone(&cut))]);
    let mut dump = server.hasty().dump(&server.host(), &Secret::new("db-token")).await.unwrap();
    assert_eq!(dump.try_next().await.unwrap().unwrap(), "BEGIN;\n");
    cut.notify_one();
    let error_of = dump.try_next().await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "the connection ended");
    assert!(dump.try_next().await.unwrap().is_none());

    // One that stops without ending is given up too.
    let mut dump = server.hasty().dump(&server.host(), &Secret::new("db-token")).await.unwrap();
    assert_eq!(dump.try_next().await.unwrap().unwrap(), "BEGIN;\n");
    expect(&dump.try_next().await.unwrap_err(), ErrorKind::Unavailable, "no whole answer");
}

#[tokio::test]
async fn a_dump_of_nothing_is_told_apart() {
    for (reply, kind) in [
        (error(404, "no such namespace"), ErrorKind::TenantNotFound),
        (error(401, "bad token"), ErrorKind::Unauthenticated),
    ] {
        let server = Replay::start().await;
        server.on(DUMP, [reply]);
        let dump = server.hasty().dump(&server.host(), &Secret::new("db-token")).await;
        assert_eq!(dump.err().unwrap().kind(), kind);
    }
}
