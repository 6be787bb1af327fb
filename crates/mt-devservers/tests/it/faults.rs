//! Faults, seen from the client.

use std::time::{Duration, Instant};

use mt_devservers::turso::{Fault, Rule};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Site;

/// A while that no answer takes by itself.
const WHILE: Duration = Duration::from_millis(400);

#[tokio::test]
async fn given_answers_are_given_and_nothing_is_done() {
    let site = Site::start().await;
    let faults = site.turso.api_faults();
    let busy = faults.add(Rule::new(Fault::too_many_requests(7)).method("POST").times(1));
    let html = faults.add(Rule::new(Fault::html(502)).path("/databases").times(1));
    let wish = json!({"name": "one", "group": "default"});
    let request = site.client.post(site.url("/databases")).json(&wish);
    let answer = request.bearer_auth(site.turso.api_token()).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    let (status, page) = site.get("/databases").await;
    assert_eq!(status, 502);
    assert!(page.as_str().unwrap().starts_with("<html>"));
    assert_eq!(site.get("/databases/one").await.0, 404);
    assert_eq!((busy.count(), html.count()), (1, 1));
    assert_eq!(site.turso.api_requests().count("POST", "/databases"), 1);
    assert_eq!(site.turso.api_requests().of("one"), 2);
}

#[tokio::test]
async fn what_is_done_before_the_connection_ends_is_done() {
    let site = Site::start().await;
    for (name, fault, is_done) in [
        ("dropped", Fault::Dropped, true),
        ("torn", Fault::Torn, true),
        ("late", Fault::Late(WHILE * 10), true),
        ("refused", Fault::Refused, false),
    ] {
        let hits = site.turso.api_faults().add(Rule::new(fault).method("POST").database(name));
        let request = site.client.post(site.url("/databases")).timeout(WHILE);
        let request = request.json(&json!({"name": name, "group": "default"}));
        let answer = request.bearer_auth(site.turso.api_token()).send().await;
        let body = match answer {
            Ok(answer) => answer.text().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "{name}: {body:?}");
        assert_eq!(hits.count(), 1, "{name}");
        let (status, _) = site.get(&format!("/databases/{name}")).await;
        assert_eq!(status == 200, is_done, "{name}");
    }
}

#[tokio::test]
async fn half_of_a_torn_answer_arrives() {
    let site = Site::start().await;
    let database = site.create("one").await;
    let whole = database.pipeline("select 'x'").await.unwrap().bytes().await.unwrap();
    site.turso.data_faults().add(Rule::new(Fault::Torn).times(1));
    let mut answer = database.pipeline("select 'x'").await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut arrived = 0;
    let end = loop {
        match answer.chunk().await {
            Ok(Some(part)) => arrived += part.len(),
            end => break end,
        }
    };
    assert!(end.is_err());
    // Durations in the answer make it a few bytes longer or shorter.
    assert!(arrived.abs_diff(whole.len() / 2) < 10, "{arrived} of {}", whole.len());
    database.rows("select 'x'").await;
}

#[tokio::test]
async fn a_dropped_write_is_written_and_a_refused_one_is_not() {
    let site = Site::start().await;
    let database = site.create("one").await;
    database.rows("create table t (x)").await;
    for (fault, sql) in
        [(Fault::Dropped, "insert into t values (1)"), (Fault::Refused, "insert into t values (2)")]
    {
        site.turso.data_faults().add(Rule::new(fault).database("one").times(1));
        assert!(database.pipeline(sql).await.is_err());
    }
    let rows = database.rows("select x from t").await;
    assert_eq!(rows, json!([[{"type": "integer", "value": "1"}]]));
}

#[tokio::test]
async fn slow_answers_come_late_and_right() {
    let site = Site::start().await;
    let database = site.create("one").await;
    site.turso.data_faults().add(Rule::new(Fault::Slow(WHILE)).database("one").times(1));
    let start = Instant::now();
    database.rows("select 1").await;
    assert!(start.elapsed() >= WHILE);
}

#[tokio::test]
async fn a_repeated_create_meets_its_own_duplicate() {
    let site = Site::start().await;
    site.turso.api_faults().add(Rule::new(Fault::Repeated).method("POST").times(1));
    let (status, answer) =
        site.post("/databases", json!({"name": "one", "group": "default"})).await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"], "database with same name already exists");
    assert_eq!(site.get("/databases/one").await.0, 200);
}

#[tokio::test]
async fn wrong_json_and_stale_tokens_are_given_once() {
    let site = Site::start().await;
    let database = site.create("one").await;
    let faults = site.turso.api_faults();
    faults.add(Rule::new(Fault::WrongJson).method("GET").times(1));
    let (status, answer) = site.get("/databases/one").await;
    assert_eq!((status.as_u16(), answer.is_array()), (200, true));
    faults.add(Rule::new(Fault::StaleToken).path("/auth/tokens").times(1));
    let stale = site.token("/databases/one/auth/tokens").await;
    assert_eq!(database.with_token(stale).status("select 1").await, 401);
    site.turso.data_faults().add(Rule::new(Fault::StaleToken).times(1));
    assert_eq!(database.status("select 1").await, 401);
    database.rows("select 1").await;
}

#[tokio::test]
async fn another_base_url_is_told_in_pipelines_and_cursors() {
    let site = Site::start().await;
    let database = site.create("one").await;
    site.turso.set_base_url(Some("http://127.0.0.1:9/else"));
    let (_, answer) = database.answer("select 1").await;
    assert_eq!(answer["base_url"], "http://127.0.0.1:9/else");
    let batch = json!({"baton": null, "batch": {"steps": [{"stmt": {"sql": "select 7"}}]}});
    let request = database.request(Method::POST, "/v3/cursor").json(&batch);
    let text = request.send().await.unwrap().text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["base_url"], "http://127.0.0.1:9/else");
    assert!(lines.iter().any(|line| line["type"] == "row"), "{text}");
    site.turso.set_base_url(None);
    let (_, answer) = database.answer("select 1").await;
    assert_eq!(answer["base_url"], Value::Null);
}

#[tokio::test]
async fn requests_are_counted_by_database_and_path() {
    let site = Site::start().await;
    let [a, b] = [site.create("a").await, site.create("b").await];
    for _ in 0..3 {
        a.rows("select 1").await;
    }
    b.rows("select 1").await;
    let requests = site.turso.requests();
    assert_eq!((requests.total(), requests.of("a"), requests.of("b")), (4, 3, 1));
    assert_eq!(requests.count("POST", "/v3/pipeline"), 4);
    assert_eq!(requests.all().len(), 2);
    requests.reset();
    assert_eq!(requests.total(), 0);
}
