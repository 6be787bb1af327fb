//! Each endpoint of the platform API, by request and answer.

use mt_devservers::{
    Turso,
    turso::{GroupState, WarmUp},
};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::Site;

#[derive(Deserialize)]
struct Fixture {
    what: String,
    call: String,
    #[serde(default)]
    body: Value,
    status: u16,
    answer: Value,
}

/// The fixtures tell a story: each finds what the ones before it left.
#[tokio::test]
async fn every_endpoint_answers_as_the_service_does() {
    let site = Site::start().await;
    let fixtures: Vec<Fixture> = serde_json::from_str(include_str!("fixtures.json")).unwrap();
    for Fixture { what, call, body, status, answer } in fixtures {
        let (method, path) = call.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (found_status, found) = site.api(method, path, body).await;
        assert_eq!(found_status, status, "{what}: {found}");
        assert!(fits(&answer, &found), "{what}: {found} does not fit {answer}");
    }
}

/// Whether an answer has exactly this form.
fn fits(form: &Value, found: &Value) -> bool {
    match (form, found) {
        (Value::Object(form), Value::Object(found)) => {
            form.len() == found.len()
                && form
                    .iter()
                    .all(|(key, form)| found.get(key).is_some_and(|found| fits(form, found)))
        }
        (Value::Array(form), Value::Array(found)) => {
            form.len() == found.len()
                && form.iter().zip(found).all(|(form, found)| fits(form, found))
        }
        (Value::String(form), found) if form.starts_with('<') => {
            let text = found.as_str().unwrap_or_default();
            match form.as_str() {
                "<any>" => !found.is_null() && found != "",
                "<number>" => found.is_u64(),
                "<uuid>" => uuid::Uuid::parse_str(text).is_ok(),
                "<host>" => text.contains("-acme.localhost:"),
                "<jwt>" => text.split('.').count() == 3,
                "<time>" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
                _ => false,
            }
        }
        _ => form == found,
    }
}

#[tokio::test]
async fn only_the_platform_token_opens_the_api() {
    let site = Site::start().await;
    let database = site.create("one").await;
    for token in ["", "wrong", &database.token] {
        let answer = site.client.get(site.url("/databases")).bearer_auth(token).send().await;
        assert_eq!(answer.unwrap().status(), StatusCode::UNAUTHORIZED, "{token:?}");
    }
    let foreign = format!("{}/v1/organizations/other/databases", site.turso.api_url());
    let answer = site.client.get(foreign).bearer_auth(site.turso.api_token()).send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_lead_to_every_database_once() {
    let site = Site::start().await;
    let mut names: Vec<_> = (0..7).map(|number| format!("db-{number}")).collect();
    for name in &names {
        site.create(name).await;
    }
    let mut found = Vec::new();
    let mut path = "/databases?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let (_, page) = site.get(&path).await;
        let of = page["databases"].as_array().unwrap().iter();
        found.extend(of.map(|database| database["Name"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["pagination"]["next"].as_str() else { break };
        path = format!("/databases?limit=3&cursor={next}");
    }
    names.sort();
    assert_eq!((found, pages), (names, 3));
}

#[tokio::test]
async fn no_more_databases_than_the_quota_are_made() {
    let site = Site::of(Turso::builder().quota(1).start().await.unwrap());
    site.create("one").await;
    let two = json!({"name": "two", "group": site.turso.group()});
    let (status, _) = site.post("/databases", two.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    site.delete("/databases/one").await;
    site.create_with(two).await;
}

#[tokio::test]
async fn of_two_that_ask_for_a_name_at_once_one_gets_it() {
    let site = Site::start().await;
    let wish = json!({"name": "one", "group": site.turso.group()});
    let (first, second) =
        tokio::join!(site.post("/databases", wish.clone()), site.post("/databases", wish));
    let mut statuses = [first.0.as_u16(), second.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn a_sleeping_group_serves_nothing_until_it_is_unarchived() {
    let site = Site::start().await;
    let database = site.create("one").await;
    for state in [GroupState::Sleeping, GroupState::Archived] {
        site.turso.set_group_state("default", state).unwrap();
        assert_eq!(database.status("select 1").await, StatusCode::BAD_GATEWAY);
        let (status, answer) =
            site.post("/databases", json!({"name": "two", "group": "default"})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let said = answer["error"].as_str().unwrap();
        assert!(
            said.starts_with("cannot create database on group default because it is"),
            "{said}"
        );
        assert_eq!(site.post("/groups/default/unarchive", Value::Null).await.0, 200);
        database.rows("select 1").await;
    }
}

#[tokio::test]
async fn a_new_database_is_not_there_for_its_first_requests() {
    let site = Site::start().await;
    let old = site.create("old").await;
    old.rows("select 1").await;
    site.turso.set_warm_up(WarmUp { requests: 3, ..WarmUp::default() });
    let new = site.create("new").await;
    assert_eq!(site.get("/databases/new").await.0, 200);
    for _ in 0..3 {
        assert_eq!(new.status("select 1").await, StatusCode::NOT_FOUND);
    }
    new.rows("select 1").await;
}
