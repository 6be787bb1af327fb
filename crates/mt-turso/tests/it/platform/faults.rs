use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mt_core::{ErrorKind, Secret};
use mt_remote::{Endpoint, HttpSettings, http_client};
use mt_turso::{
    Authorization, ConfigurationChange, Expiration, PlatformClient, PlatformLimits, TokenScope,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::expect;
use crate::replay::{Replay, Reply, TOKEN, client, database, error, hasty, ok};

const GET: &str = "GET /databases/a";
const ROTATE: &str = "POST /databases/a/auth/rotate";

fn found() -> Reply {
    ok(json!({ "database": database("a") }))
}

#[tokio::test]
async fn what_changes_nothing_is_repeated() {
    for fault in [
        error(500, "oops"),
        error(503, "busy"),
        Reply::Html(502),
        Reply::Html(200),
        Reply::Html(404),
        Reply::Torn,
        Reply::Hang,
    ] {
        let server = Replay::start().await;
        server.on(GET, [fault, found()]);
        let database = server.hasty().database("a").await.unwrap().unwrap();
        assert_eq!(database.id, "id-a");
        assert_eq!(server.lines(), [GET, GET]);
    }
}

#[tokio::test]
async fn what_goes_on_failing_is_unavailable() {
    for (fault, words) in [
        (error(500, "oops"), "500, `oops`"),
        (Reply::Html(502), "502, `<html>the gateway was given …</html>`"),
        (Reply::Html(404), "the answer is not the service's: status 404"),
        (Reply::Torn, "the connection ended before the answer did"),
        (Reply::Hang, "there was no whole answer within"),
    ] {
        let server = Replay::start().await;
        server.on(GET, [fault]);
        let started = Instant::now();
        let error_of = server.hasty().database("a").await.unwrap_err();
        expect(&error_of, ErrorKind::Unavailable, words);
        assert!(error_of.to_string().starts_with("cannot find the database `a`"), "{error_of}");
        assert!(server.count(GET) > 1);
        assert!(started.elapsed() < Duration::from_secs(4), "within the deadline of 2 s");
    }
}

#[tokio::test]
async fn the_service_is_left_alone_as_long_as_it_asks() {
    let server = Replay::start().await;
    server.on(GET, [Reply::Overrun(1), found()]).on("GET /groups", [ok(json!({ "groups": [] }))]);
    let client = server.client(hasty().with_deadline(Duration::from_secs(10)));
    let started = Instant::now();
    let groups = async {
        // Not before the other was told to wait.
        while server.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.groups().await
    };
    let (database, groups) = tokio::join!(client.database("a"), groups);
    assert!(database.unwrap().is_some() && groups.unwrap().is_empty());
    // Both waited, the one that was told and the one that was not.
    for later in &server.seen()[1..] {
        assert!(later.at - started >= Duration::from_secs(1), "{}", later.line);
    }
}

#[tokio::test]
async fn a_wait_too_long_is_told_and_not_waited_for() {
    let server = Replay::start().await;
    server.on(GET, [Reply::Overrun(3600)]);
    let client = server.hasty();
    let error_of = client.database("a").await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "left alone for 3600s");
    // The others do not even try.
    let error_of = client.groups().await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "asked to be left alone");
    assert_eq!(server.lines(), [GET]);
}

#[tokio::test]
async fn only_so_many_requests_are_sent_at_once() {
    let server = Replay::start().await;
    server.on(GET, [found()]);
    let client = server.client(PlatformLimits::default().with_concurrency(3));
    let all = join_all((0..40).map(|_| client.database("a"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.count(GET), 40);
    assert!((1..=3).contains(&server.most_running()), "{} at once", server.most_running());
}

#[tokio::test]
async fn who_gets_no_place_in_time_is_told() {
    let groups = "GET /groups";
    let server = Replay::start().await;
    server.on(groups, [error(500, "oops")]).on(GET, [Reply::Hang]);
    let limits = hasty().with_concurrency(1).with_request_timeout(Duration::from_secs(60));
    let client = server.client(limits.with_first_delay(Duration::from_millis(500)));
    let other = async {
        // Between two attempts of the first, and with more time left than it has.
        while server.count(groups) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.database("a").await
    };
    let (first, other) = tokio::join!(client.groups(), other);
    expect(&first.unwrap_err(), ErrorKind::Unavailable, "no place among the requests");
    expect(&other.unwrap_err(), ErrorKind::Unavailable, "no whole answer");
    assert_eq!(server.lines(), [groups, GET]);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = client(&format!("http://127.0.0.1:{port}"), hasty());
    let error_of = client.database("a").await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "no connection could be made");
    // What was never sent is no unknown outcome.
    let error_of = client.rotate(TokenScope::Database("a")).await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "no connection could be made");
}

#[tokio::test]
async fn wrong_credentials_are_told_at_once() {
    for (status, body) in [(401, json!({ "error": format!("{TOKEN} is bad") })), (403, json!({}))] {
        let server = Replay::start().await;
        server.on(GET, [Reply::Json(status, body)]);
        let error_of = server.hasty().database("a").await.unwrap_err();
        expect(&error_of, ErrorKind::Unauthenticated, "the credentials were refused");
        assert_eq!(server.lines(), [GET]);
    }
}

#[tokio::test]
async fn keys_are_rotated_at_most_once() {
    for fault in [error(500, "oops"), Reply::Torn, Reply::Hang, Reply::Html(200)] {
        let server = Replay::start().await;
        server.on(ROTATE, [fault]);
        let error_of = server.hasty().rotate(TokenScope::Database("a")).await.unwrap_err();
        expect(&error_of, ErrorKind::OutcomeUnknown, "whether it took effect is not known");
        assert_eq!(server.lines(), [ROTATE]);
    }
    // What the service did not look at is another matter.
    let server = Replay::start().await;
    server.on(ROTATE, [Reply::Overrun(0), Reply::Empty]);
    server.hasty().rotate(TokenScope::Database("a")).await.unwrap();
    assert_eq!(server.lines(), [ROTATE, ROTATE]);
}

#[tokio::test]
async fn a_token_may_be_minted_twice_and_is_in_no_error() {
    let server = Replay::start().await;
    let line = "POST /databases/a/auth/tokens?expiration=1h&authorization=read-only";
    server.on(line, [Reply::Torn, error(500, "oops"), ok(json!({ "jwt": "eyJ.db.token" }))]);
    let hour = Expiration::After(Duration::from_secs(3600));
    let mint = |client: PlatformClient| async move {
        client.mint_token(TokenScope::Database("a"), Authorization::ReadOnly, hour).await
    };
    assert_eq!(mint(server.hasty()).await.unwrap().expose(), "eyJ.db.token");
    assert_eq!(server.count(line), 3);
    assert!(server.seen()[0].body.is_empty(), "a body is refused by some databases");

    for odd in
        [json!({ "jwt": { "eyJhbGciOi.x": 1 } }), json!("eyJhbGciOi.x"), json!({ "jwt": "" })]
    {
        server.on(line, [ok(odd)]);
        let error_of = mint(server.hasty()).await.unwrap_err();
        expect(&error_of, ErrorKind::Internal, "cannot mint a token for the database `a`");
    }
    server.on(line, [error(404, "database not found")]);
    let error_of = mint(server.hasty()).await.unwrap_err();
    expect(&error_of, ErrorKind::TenantNotFound, "404");
}

#[tokio::test]
async fn a_deletion_tells_whether_there_was_something() {
    let line = "DELETE /databases/a";
    let server = Replay::start().await;
    server.on(line, [ok(json!({ "database": "a" }))]);
    assert!(server.hasty().delete_database("a").await.unwrap());
    server.on(line, [error(404, "not found")]);
    assert!(!server.hasty().delete_database("a").await.unwrap());
    // The first may have done it; the second finds nothing for that reason.
    server.on(line, [Reply::Hang, error(404, "not found")]);
    assert!(server.hasty().delete_database("a").await.unwrap());
    // A gateway's 404 is nobody's word.
    server.on(line, [Reply::Html(404)]);
    let error_of = server.hasty().delete_database("a").await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "not the service's");
}

#[tokio::test]
async fn what_is_protected_is_not_deleted() {
    let line = "DELETE /databases/a";
    let server = Replay::start().await;
    server.on(line, [error(403, "database has delete protection enabled")]);
    let error_of = server.hasty().delete_database("a").await.unwrap_err();
    expect(&error_of, ErrorKind::Config, "switch delete protection off first");
    assert_eq!(server.lines(), [line]);
}

#[tokio::test]
async fn settings_are_changed_again_after_a_lost_answer() {
    let line = "PATCH /databases/a/configuration";
    let server = Replay::start().await;
    let settings = json!({ "size_limit": "256mb", "block_reads": true, "block_writes": true });
    server.on(line, [Reply::Torn, ok(settings)]);
    let change = ConfigurationChange::block(true);
    let settings = server.hasty().configure("a", &change).await.unwrap();
    assert!(settings.block_reads && settings.block_writes && !settings.delete_protection);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    let sent: serde_json::Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!(sent, json!({ "block_reads": true, "block_writes": true }));
}

#[test]
fn what_cannot_be_a_client_is_refused() {
    let new = |organization: &str, token: &str, limits| {
        let second = Duration::from_secs(1);
        let http = http_client(HttpSettings { connect_timeout: second, timeout: second }).unwrap();
        let endpoint = Endpoint::new("https://api.example.com").unwrap();
        PlatformClient::new(http, endpoint, organization, Secret::new(token), limits)
    };
    let client = new("org", TOKEN, PlatformLimits::default()).unwrap();
    assert!(!format!("{client:?}").contains(TOKEN), "{client:?}");
    assert!(client.data_endpoint("a-org.aws-us-east-1.example.com").is_ok());
    for host in ["", "a/b", "a@b", "a?b", "a#b", "a b"] {
        assert_eq!(client.data_endpoint(host).unwrap_err().kind(), ErrorKind::Config, "{host}");
    }
    for (organization, token, limits) in [
        ("", TOKEN, PlatformLimits::default()),
        ("..", TOKEN, PlatformLimits::default()),
        ("a/b", TOKEN, PlatformLimits::default()),
        ("org", "", PlatformLimits::default()),
        ("org", "secret\n", PlatformLimits::default()),
        ("org", TOKEN, PlatformLimits::default().with_concurrency(0)),
        ("org", TOKEN, PlatformLimits::default().with_deadline(Duration::ZERO)),
    ] {
        let error_of = new(organization, token, limits).unwrap_err();
        assert_eq!(error_of.kind(), ErrorKind::Config);
        assert!(!format!("{error_of:?}").contains("secret"));
    }
}
