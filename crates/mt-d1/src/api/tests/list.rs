use futures_util::TryStreamExt as _;
use mt_core::ErrorKind;
use serde_json::{Value, json};

use super::{
    expect,
    replay::{Replay, Reply, database, error, ok},
};
use crate::api::D1Client;

fn line(page: usize, name: &str) -> String {
    match name {
        "" => format!("GET ?page={page}&per_page=100"),
        name => format!("GET ?page={page}&per_page=100&name={name}"),
    }
}

fn entry(number: usize) -> Value {
    database(&format!("{number:08}-0000-0000-0000-000000000000"), &format!("mt_{number:03}"))
}

/// The databases of these numbers as a page, with what the service tells of the list.
fn page(numbers: impl IntoIterator<Item = usize>, most: usize, total: usize) -> Reply {
    let result: Vec<Value> = numbers.into_iter().map(entry).collect();
    let info = json!({ "count": result.len(), "per_page": most, "total_count": total });
    Reply::Json(200, json!({ "success": true, "result": result, "result_info": info }))
}

fn bare(numbers: impl IntoIterator<Item = usize>) -> Reply {
    ok(numbers.into_iter().map(entry).collect::<Vec<Value>>())
}

async fn names(client: &D1Client, prefix: &str) -> Vec<usize> {
    let names: Vec<String> =
        client.databases(prefix).map_ok(|database| database.name).try_collect().await.unwrap();
    let mut numbers: Vec<usize> = names.iter().map(|name| name[3..].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[tokio::test]
async fn a_short_page_ends_the_list_only_if_the_total_agrees() {
    let server = Replay::start().await;
    server.on(&line(1, ""), [page(0..100, 100, 150)]).on(&line(2, ""), [page(100..150, 100, 150)]);
    assert_eq!(names(&server.hasty(), "").await, all(150));
    assert_eq!(server.lines(), [line(1, ""), line(2, "")]);

    // The service gives fewer at once than it says.
    let server = Replay::start().await;
    server.on(&line(1, ""), [page(0..50, 100, 80)]).on(&line(2, ""), [page(50..80, 100, 80)]);
    assert_eq!(names(&server.hasty(), "").await, all(80));

    // And without a word on it, only an empty one is the last.
    let server = Replay::start().await;
    server
        .on(&line(1, ""), [bare(0..10)])
        .on(&line(2, ""), [bare(10..15)])
        .on(&line(3, ""), [bare([])]);
    assert_eq!(names(&server.hasty(), "").await, all(15));
}

#[tokio::test]
async fn a_service_that_does_not_page_is_read_once() {
    let server = Replay::start().await;
    server.on(&line(1, ""), [bare(0..3)]).on(&line(2, ""), [bare(0..3)]);
    assert_eq!(names(&server.hasty(), "").await, all(3));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn what_moved_up_because_others_were_deleted_is_found() {
    let server = Replay::start().await;
    // Between the pages ten of the first were deleted, so 100 to 109 moved to the first page.
    server
        .on(&line(1, ""), [page(0..100, 100, 150), page((0..90).chain(100..110), 100, 140)])
        .on(&line(2, ""), [page(110..150, 100, 140)]);
    assert_eq!(names(&server.hasty(), "").await, all(150));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_list_that_never_rests_comes_to_an_end() {
    let server = Replay::start().await;
    server.on(&line(1, ""), [page(0..100, 100, 500)]).on(&line(2, ""), [page([], 100, 490)]);
    assert_eq!(names(&server.hasty(), "").await, all(100));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_prefix_is_compared_here() {
    let server = Replay::start().await;
    let found = json!([entry(1), database("x", "other_mt_1"), database("y", "MT_2"), entry(2)]);
    server.on(&line(1, "mt_"), [ok(found)]).on(&line(2, "mt_"), [ok(json!([]))]);
    assert_eq!(names(&server.hasty(), "mt_").await, [1, 2]);
    assert_eq!(server.lines(), [line(1, "mt_"), line(2, "mt_")]);
}

#[tokio::test]
async fn a_service_that_matches_names_exactly_is_not_believed() {
    for exact in [json!([]), json!([database("z", "mt_")])] {
        let server = Replay::start().await;
        let all = json!([entry(1), entry(2), database("x", "other")]);
        server
            .on(&line(1, "mt_"), [ok(exact)])
            .on(&line(2, "mt_"), [ok(json!([]))])
            .on(&line(1, ""), [ok(all)])
            .on(&line(2, ""), [ok(json!([]))]);
        let found: Vec<_> = server.hasty().databases("mt_").try_collect().await.unwrap();
        assert!(found.iter().any(|database| database.name == "mt_002"), "{found:?}");
    }
}

#[tokio::test]
async fn an_error_ends_the_list_and_a_fault_does_not() {
    let server = Replay::start().await;
    server
        .on(&line(1, ""), [Reply::Html(502), bare(0..3)])
        .on(&line(2, ""), [error(403, 10_000, "Authentication error")]);
    let client = server.hasty();
    let mut list = client.databases("");
    for _ in 0..3 {
        assert!(list.try_next().await.unwrap().is_some());
    }
    let error_of = list.try_next().await.unwrap_err();
    expect(&error_of, ErrorKind::Unauthenticated, "cannot list the databases of the account");
    assert!(list.try_next().await.unwrap().is_none());
}
