use std::time::{Duration, Instant};

use mt_core::{ErrorKind, Secret};
use mt_remote::Endpoint;
use tokio::net::TcpListener;

use super::{
    OTHER, UUID, expect,
    replay::{Replay, Reply, TOKEN, client, database, error, hasty, missing, ok},
};
use crate::api::{ApiLimits, CreateDatabase, D1Client};

fn get(id: &str) -> String {
    format!("GET /{id}?fields=uuid%2Cname%2Cfile_size")
}

fn found() -> Reply {
    ok(database(UUID, "mt_a"))
}

#[tokio::test]
async fn what_changes_nothing_is_repeated() {
    for fault in [
        error(500, 7500, "internal error; reference = x"),
        error(400, 7500, "D1_ERROR: Network connection lost."),
        error(200, 7500, "D1 DB is overloaded. Too many requests queued."),
        error(503, 0, "busy"),
        Reply::Html(504),
        Reply::Html(200),
        Reply::Html(404),
        Reply::Torn,
        Reply::Hang,
    ] {
        let server = Replay::start().await;
        server.on(&get(UUID), [fault, found()]);
        assert_eq!(server.hasty().database(UUID).await.unwrap().unwrap().uuid, UUID);
        assert_eq!(server.lines(), [get(UUID), get(UUID)]);
    }
}

#[tokio::test]
async fn what_goes_on_failing_is_unavailable() {
    for (fault, words) in [
        (error(500, 7500, "oops"), "500, `oops` (7500)"),
        (Reply::Html(504), "status 504, `<html>the gateway was given …</html>`"),
        (Reply::Torn, "the connection ended before the answer did"),
        (Reply::Hang, "there was no whole answer within"),
    ] {
        let server = Replay::start().await;
        server.on(&get(UUID), [fault]);
        let (client, started) = (server.client(hasty().with_repetitions(2)), Instant::now());
        let error_of = client.database(UUID).await.unwrap_err();
        expect(&error_of, ErrorKind::Unavailable, words);
        assert!(error_of.to_string().starts_with("cannot find the database `6f1f1e3a"));
        assert_eq!(server.count(&get(UUID)), 3);
        assert!(started.elapsed() < Duration::from_secs(3), "within the deadline of 2 s");
    }
}

#[tokio::test]
async fn the_deadline_ends_repetitions() {
    let server = Replay::start().await;
    server.on(&get(UUID), [Reply::Hang]);
    let limits = hasty().with_deadline(Duration::from_millis(700)).with_repetitions(100);
    let started = Instant::now();
    let error_of = server.client(limits).database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "within");
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn after_too_many_requests_everybody_waits_and_the_request_goes_again() {
    let server = Replay::start().await;
    server.on(&get(UUID), [Reply::Overrun(1), found()]).on(&get(OTHER), [missing()]);
    let client = server.hasty();
    let started = Instant::now();
    let other = async {
        // Not before the first was told to wait.
        while server.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.database(OTHER).await
    };
    let (first, other) = tokio::join!(client.database(UUID), other);
    assert!(first.unwrap().is_some() && other.unwrap().is_none());
    for later in &server.seen()[1..] {
        assert!(later.at - started >= Duration::from_secs(1), "{}", later.line);
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_request_that_must_not_be_done_twice_goes_again_after_too_many() {
    let server = Replay::start().await;
    server.on("POST ", [Reply::Overrun(1), ok(database(UUID, "mt_a"))]);
    server.hasty().create(&CreateDatabase::new("mt_a")).await.unwrap();
    assert_eq!(server.lines(), ["POST ", "POST "]);
}

#[tokio::test]
async fn a_wait_too_long_is_told_and_not_waited_for() {
    let server = Replay::start().await;
    server.on(&get(UUID), [Reply::Overrun(290)]);
    let (client, started) = (server.hasty(), Instant::now());
    let error_of = client.database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "it asks to be left alone for 290s");
    // The others do not even try.
    let error_of = client.database(OTHER).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "the budget of the token did not let it through");
    assert_eq!(server.lines(), [get(UUID)]);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn wrong_credentials_are_told_at_once() {
    for refusal in [
        error(401, 10_000, &format!("{TOKEN} is bad")),
        error(403, 9109, "Unauthorized"),
        Reply::Html(403),
    ] {
        let server = Replay::start().await;
        server.on(&get(UUID), [refusal]);
        let error_of = server.hasty().database(UUID).await.unwrap_err();
        expect(&error_of, ErrorKind::Unauthenticated, "the credentials were refused");
        assert_eq!(server.lines(), [get(UUID)]);
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = Replay::start().await;
    let server = Replay::start().await;
    server.on(&get(UUID), [Reply::Redirect(elsewhere.url())]);
    let error_of = server.hasty().database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Config, "a redirect (status 307)");
    assert!(elsewhere.seen().is_empty() && server.seen().len() == 1);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let server = Replay::start().await;
    server.on(&get(UUID), [found()]);
    let error_of = server.client(hasty().with_answer_bytes(50)).database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Unsupported, "longer than 50 bytes");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let nobody = client(&format!("http://127.0.0.1:{port}"), hasty());
    let error_of = nobody.database(UUID).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "no connection could be made");
    // What was never sent is no unknown outcome.
    let error_of = nobody.create(&CreateDatabase::new("mt_a")).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "no connection could be made");
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_secret_is_shown() {
    let of = |account: &str, token: &str, limits: ApiLimits| {
        let settings = mt_remote::HttpSettings {
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        let http = mt_remote::http_client(settings).unwrap();
        let endpoint = Endpoint::new("http://127.0.0.1:9").unwrap();
        let budget = super::replay::budget();
        D1Client::of_account(http, endpoint, account, Secret::new(token), budget, limits)
    };
    for (account, token, limits) in [
        ("", TOKEN, hasty()),
        ("..", TOKEN, hasty()),
        ("acc", "", hasty()),
        ("acc", "a token", hasty()),
        ("acc", "line\n", hasty()),
        ("acc", TOKEN, hasty().with_deadline(Duration::ZERO)),
    ] {
        expect(&of(account, token, limits).unwrap_err(), ErrorKind::Config, "");
    }
    let shown = format!("{:?}", of("acc", TOKEN, hasty()).unwrap());
    assert!(!shown.contains(TOKEN) && shown.contains("acc"), "{shown}");
}
