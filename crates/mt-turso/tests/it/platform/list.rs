use futures_util::TryStreamExt as _;
use mt_core::{ErrorKind, Result};
use mt_turso::{DatabaseFilter, PlatformClient};
use serde_json::{Value, json};

use super::expect;
use crate::replay::{Replay, Reply, database, error, ok};

const FIRST: &str = "GET /databases?limit=100";

fn page(names: &[&str], next: Option<&str>) -> Reply {
    let databases: Vec<Value> = names.iter().map(|name| database(name)).collect();
    ok(match next {
        Some(next) => json!({ "databases": databases, "pagination": { "next": next } }),
        None => json!({ "databases": databases }),
    })
}

async fn names(client: &PlatformClient, filter: DatabaseFilter) -> Result<Vec<String>> {
    client.databases(filter).map_ok(|database| database.name).try_collect().await
}

#[tokio::test]
async fn pages_follow_the_cursor() {
    let server = Replay::start().await;
    server
        .on(FIRST, [page(&["a", "b"], Some("c1"))])
        .on("GET /databases?limit=100&cursor=c1", [Reply::Torn, page(&["c"], Some("c2"))])
        // An empty page is not the last for that.
        .on("GET /databases?limit=100&cursor=c2", [page(&[], Some("c3"))])
        .on("GET /databases?limit=100&cursor=c3", [page(&["d"], None)]);
    let all = names(&server.hasty(), DatabaseFilter::default()).await.unwrap();
    assert_eq!(all, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_service_without_pages_is_read_at_once() {
    for last in [json!({}), json!({ "pagination": null }), json!({ "pagination": { "next": "" } })]
    {
        let server = Replay::start().await;
        let mut body = json!({ "databases": [database("a")] });
        body.as_object_mut().unwrap().extend(last.as_object().unwrap().clone());
        server.on(FIRST, [ok(body)]);
        assert_eq!(names(&server.hasty(), DatabaseFilter::default()).await.unwrap(), ["a"]);
        assert_eq!(server.lines(), [FIRST]);
    }
}

#[tokio::test]
async fn a_cursor_that_does_not_move_is_an_error_and_no_end() {
    let second = "GET /databases?limit=100&cursor=c1";
    let server = Replay::start().await;
    server.on(FIRST, [page(&["a"], Some("c1"))]).on(second, [page(&["b"], Some("c1"))]);
    let error_of = names(&server.hasty(), DatabaseFilter::default()).await.unwrap_err();
    expect(&error_of, ErrorKind::Internal, "does not move on from the cursor `c1`");
    assert_eq!(server.lines(), [FIRST, second]);
    // Behind the last database, where it has nowhere to move, it is the end.
    server.on(second, [page(&[], Some("c1"))]);
    assert_eq!(names(&server.hasty(), DatabaseFilter::default()).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_filter_holds_also_where_the_service_ignores_it() {
    let server = Replay::start().await;
    let mut other = database("shop-b");
    other["group"] = json!("theirs");
    let mut branch = database("shop-c");
    branch["parent"] = json!({ "id": "p" });
    let all = [database("shop-a"), other, branch, database("blog-a")];
    server
        .on("GET /databases?limit=100&group=main", [ok(json!({ "databases": all }))])
        .on("GET /databases?limit=100&parent=q", [ok(json!({ "databases": all }))]);
    let group = DatabaseFilter::default().with_group("main").with_prefix("shop-");
    assert_eq!(names(&server.hasty(), group).await.unwrap(), ["shop-a", "shop-c"]);
    let parent = DatabaseFilter::default().with_parent("q").with_prefix("shop-");
    assert_eq!(names(&server.hasty(), parent).await.unwrap(), ["shop-a", "shop-b"]);
}

#[tokio::test]
async fn an_error_on_a_later_page_ends_the_list() {
    let server = Replay::start().await;
    server
        .on(FIRST, [page(&["a"], Some("c1"))])
        .on("GET /databases?limit=100&cursor=c1", [error(500, "oops")]);
    let client = server.hasty();
    let mut databases = client.databases(DatabaseFilter::default());
    assert_eq!(databases.try_next().await.unwrap().unwrap().name, "a");
    let error_of = databases.try_next().await.unwrap_err();
    expect(&error_of, ErrorKind::Unavailable, "cannot list the databases of the organization");
    assert!(databases.try_next().await.unwrap().is_none());
}
