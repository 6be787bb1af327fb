//! Faults, counts and the rate limit of D1, seen from the client.

use std::time::{Duration, Instant};

use mt_devservers::{
    D1,
    d1::{Fault, Kind, RateLimit, RateStyle, Rule},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::d1::{Site, code};

/// A while that no answer takes by itself.
const WHILE: Duration = Duration::from_millis(400);

#[tokio::test]
async fn given_answers_are_given_and_nothing_is_done() {
    let site = Site::start().await;
    let faults = site.d1.faults();
    for (fault, status, error) in [
        (Fault::internal(), 500, 7500),
        (Fault::overloaded(), 400, 7500),
        (Fault::quota(), 400, 7406),
        (Fault::failed_envelope(7500, "no"), 200, 7500),
        (Fault::Hidden, 404, 7404),
    ] {
        let hits = faults.add(Rule::new(fault).kind(Kind::Create).database("one").times(1));
        let (given, answer) = site.post("", json!({"name": "one"})).await;
        assert_eq!((given.as_u16(), code(&answer)), (status, error));
        assert_eq!(hits.count(), 1);
    }
    faults.add(Rule::new(Fault::html(504)).kind(Kind::Get).times(1));
    let (status, page) = site.get("/one").await;
    assert!(status == 504 && page.as_str().unwrap().starts_with("<html>"));
    faults.add(Rule::new(Fault::too_many_requests(7)).times(1));
    let answer = site.request(Method::GET, "/one", &Value::Null).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(
        (&answer.headers()["retry-after"], &answer.headers()["x-ratelimit-reset"]),
        (&"7".parse().unwrap(), &"7".parse().unwrap())
    );
    assert_eq!(site.get("/one").await.0, 404);
}

#[tokio::test]
async fn what_is_done_before_the_answer_is_lost_is_done() {
    let site = Site::start().await;
    for (name, fault, is_done) in [
        ("dropped", Fault::Dropped, true),
        ("torn", Fault::Torn, true),
        ("late", Fault::Late(WHILE * 10), true),
        ("refused", Fault::Refused, false),
    ] {
        site.d1.faults().add(Rule::new(fault).kind(Kind::Create).database(name));
        let request = site.request(Method::POST, "", &json!({"name": name})).timeout(WHILE);
        let body = match request.send().await {
            Ok(answer) => answer.text().await,
            Err(error) => Err(error),
        };
        assert!(body.is_err(), "{name}: {body:?}");
        let (status, _) = site.get(&format!("/{name}")).await;
        assert_eq!(status == 200, is_done, "{name}");
    }
    let fault = Fault::html(504).but_done();
    site.d1.faults().add(Rule::new(fault).database("instead").times(1));
    assert_eq!(site.post("", json!({"name": "instead"})).await.0, 504);
    let (status, answer) = site.post("", json!({"name": "instead"})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7502));
}

#[tokio::test]
async fn a_rule_finds_a_database_by_name_and_by_uuid() {
    let site = Site::start().await;
    let [one, two] = [site.create("one").await, site.create("two").await];
    site.rows(&one, "create table t (x)").await;
    let faults = site.d1.faults();
    let by_name = faults.add(Rule::new(Fault::Refused).kind(Kind::Raw).database("one").times(1));
    let by_uuid = faults.add(Rule::new(Fault::Dropped).kind(Kind::Raw).database(&two).times(1));
    for (id, sql) in [(&one, "insert into t values (1)"), (&two, "create table t (x)")] {
        let path = format!("/{id}/raw");
        assert!(site.request(Method::POST, &path, &json!({"sql": sql})).send().await.is_err());
    }
    assert_eq!((by_name.count(), by_uuid.count()), (1, 1));
    assert_eq!(site.rows(&one, "select * from t").await, json!([]));
    assert_eq!(site.rows(&two, "select * from t").await, json!([]));
    let requests = site.d1.requests();
    assert_eq!((requests.of("two"), requests.of(&two)), (3, 2), "to create it has no uuid");
    assert_eq!((requests.of_kind(Kind::Create), requests.of_kind(Kind::Raw)), (2, 5));
    assert_eq!(requests.total(), 7);
}

#[tokio::test]
async fn one_statement_may_fail_inside_a_success() {
    let site = Site::start().await;
    let id = site.create("one").await;
    let fault = Fault::FailedResult(1, "gone wrong".to_owned());
    site.d1.faults().add(Rule::new(fault).kind(Kind::Raw).times(1));
    let batch = json!({"batch": [{"sql": "create table t (x)"}, {"sql": "select 1"}]});
    let (status, answer) = site.raw(&id, batch).await;
    assert_eq!((status.as_u16(), &answer["success"]), (200, &json!(true)));
    let success: Vec<_> = (0..2).map(|at| answer["result"][at]["success"].clone()).collect();
    assert_eq!(success, [true, false]);
    assert_eq!(site.rows(&id, "select * from sqlite_master").await, json!([]));
    site.d1.faults().add(Rule::new(Fault::WrongJson).kind(Kind::Raw).times(1));
    let (status, answer) = site.raw(&id, json!({"sql": "select 1"})).await;
    assert!(status == 200 && answer.is_array());
}

#[tokio::test]
async fn a_new_database_may_be_hidden_for_a_while() {
    let site = Site::start().await;
    let id = site.create("one").await;
    for kind in [Kind::Get, Kind::List, Kind::Raw] {
        site.d1.faults().add(Rule::new(Fault::Hidden).kind(kind).times(1));
    }
    assert_eq!(site.get("/one").await.0, 404);
    assert_eq!(site.get("").await.1["result"], json!([]));
    assert_eq!(site.raw(&id, json!({"sql": "select 1"})).await.0, 404);
    assert_eq!(site.get("/one").await.0, 200);
    assert_eq!(site.get("").await.1["result_info"]["total_count"], 1);
    assert_eq!(site.rows(&id, "select 1").await, json!([[1]]));
}

#[tokio::test]
async fn slow_answers_come_late_and_those_at_once_are_counted() {
    let site = Site::start().await;
    let id = site.create("one").await;
    site.d1.faults().add(Rule::new(Fault::Slow(WHILE)).kind(Kind::Raw).times(3));
    let start = Instant::now();
    let row = || site.rows(&id, "select 1");
    tokio::join!(row(), row(), row());
    assert!(start.elapsed() >= WHILE);
    assert_eq!(site.d1.requests().most_at_once(), 3);
    site.d1.faults().add(Rule::new(Fault::Repeated).kind(Kind::Create));
    let (status, answer) = site.post("", json!({"name": "two"})).await;
    assert_eq!((status.as_u16(), code(&answer)), (400, 7502));
}

#[tokio::test]
async fn a_token_that_asks_too_much_is_blocked_for_all() {
    let limit = RateLimit::new(3, WHILE * 2).style(RateStyle::Both);
    let site = Site::of(D1::builder().rate_limit(limit).start().await.unwrap());
    let get = async || site.request(Method::GET, "/one", &Value::Null).send().await.unwrap();
    for left in ["2", "1", "0"] {
        let answer = get().await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()["x-ratelimit-limit"], "3");
        assert_eq!(answer.headers()["x-ratelimit-remaining"], left);
        assert_eq!(answer.headers()["ratelimit"], format!("\"default\";r={left};t=1").as_str());
    }
    let answer = get().await;
    let blocked = Instant::now();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["x-ratelimit-reset"], "1");
    assert!(site.d1.rate().is_blocked());
    assert_eq!(site.post("", json!({"name": "one"})).await.0, 429);
    tokio::time::sleep_until((blocked + WHILE * 2).into()).await;
    assert_eq!(get().await.status(), 404);
    assert_eq!(site.d1.rate().refused(), 2);
    site.d1.rate().spend(2);
    assert_eq!(site.d1.rate().remaining(), Some(0));
    assert_eq!(get().await.status(), 429);
    site.d1.rate().reset();
    assert_eq!(get().await.status(), 404);
}
