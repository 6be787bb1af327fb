//! The client of the API against the real engine, with the service's faults in front of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use mt_core::ErrorKind;
use mt_d1::{ApiLimits, CreateDatabase, Creation, D1Client, D1Factory, PointInTime};
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use serde_json::json;

use crate::support::{builder, context, factory, query, server};

fn client(server: &D1) -> D1Client {
    hasty(&factory(server, &context()))
}

fn hasty(factory: &D1Factory) -> D1Client {
    let limits = ApiLimits::default()
        .with_first_delay(Duration::from_millis(50))
        .with_request_timeout(Duration::from_secs(2))
        .with_poll_interval(Duration::from_millis(50));
    factory.client().with_limits(limits).unwrap()
}

async fn make(client: &D1Client, name: &str) -> String {
    match client.create(&CreateDatabase::new(name)).await.unwrap() {
        Creation::Created(database) => database.uuid,
        Creation::Exists(database) => panic!("`{name}` is there: {database:?}"),
    }
}

async fn names(client: &D1Client, prefix: &str) -> BTreeSet<String> {
    client.databases(prefix).map_ok(|database| database.name).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_database_lives_dies_and_is_made_anew() {
    let server = server().await;
    let client = client(&server);
    let uuid = make(&client, "mt_a").await;
    let again = client.create(&CreateDatabase::new("mt_a")).await.unwrap();
    let Creation::Exists(found) = again else { panic!("made twice") };
    assert_eq!(found.uuid, uuid);
    assert_eq!(client.database_by_name("mt_a").await.unwrap().unwrap().uuid, uuid);
    assert_eq!(client.database(&uuid).await.unwrap().unwrap().name, "mt_a");
    assert!(client.database_by_name("mt_b").await.unwrap().is_none());
    assert!(client.database_by_name("mt_").await.unwrap().is_none());

    client.delete(&uuid).await.unwrap();
    client.delete(&uuid).await.unwrap();
    assert!(client.database(&uuid).await.unwrap().is_none());
    let anew = make(&client, "mt_a").await;
    assert_ne!(anew, uuid);
    assert!(client.database(&uuid).await.unwrap().is_none());
    let gone = client.bookmark(&uuid, None).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::TenantNotFound, "{}", gone.to_chain());
}

#[tokio::test]
async fn a_name_that_looks_like_an_id_is_another_than_the_id() {
    let server = server().await;
    let client = client(&server);
    let uuid = make(&client, "mt_a").await;
    assert!(client.database_by_name(&uuid).await.unwrap().is_none());
    let named = make(&client, &uuid).await;
    assert_eq!(client.database_by_name(&uuid).await.unwrap().unwrap().uuid, named);
    assert_eq!(client.database(&uuid).await.unwrap().unwrap().name, "mt_a");
}

#[tokio::test]
async fn a_create_that_worked_is_found_whatever_became_of_its_answer() {
    let server = server().await;
    let client = client(&server);
    let gateway = mt_devservers::d1::Canned {
        status: 504,
        headers: Vec::new(),
        body: "<html>gateway timeout</html>".to_owned(),
    };
    let faults = [
        ("late", Fault::Late(Duration::from_secs(4))),
        ("torn", Fault::Torn),
        ("dropped", Fault::Dropped),
        ("gateway", Fault::Instead(gateway)),
        ("wrong", Fault::WrongJson),
        ("repeated", Fault::Repeated),
    ];
    for (name, fault) in faults {
        let hits = server.faults().add(Rule::new(fault).kind(Kind::Create).times(1));
        let before = server.requests().of_kind(Kind::Create);
        let made = client.create(&CreateDatabase::new(name)).await;
        let Ok(Creation::Exists(found)) = made else { panic!("{name}: {made:?}") };
        assert_eq!(found.name, name);
        assert_eq!(hits.count(), 1, "{name}");
        assert_eq!(server.requests().of_kind(Kind::Create) - before, 1, "{name}");
    }
    assert_eq!(names(&client, "").await.len(), 6);
}

#[tokio::test]
async fn a_create_that_did_nothing_is_done_again() {
    let server = server().await;
    let client = client(&server);
    let faults = [
        ("internal", Fault::internal()),
        ("html", Fault::html(502)),
        ("refused", Fault::Refused),
        ("overloaded", Fault::overloaded()),
        ("many", Fault::too_many_requests(1)),
        ("envelope", Fault::failed_envelope(7500, "internal error; reference = x")),
    ];
    for (name, fault) in faults {
        server.faults().add(Rule::new(fault).kind(Kind::Create).times(1));
        make(&client, name).await;
    }
    assert_eq!(names(&client, "").await.len(), 6);
}

#[tokio::test]
async fn a_database_that_is_not_seen_at_once_is_found() {
    let server = server().await;
    let client = client(&server);
    let uuid = make(&client, "mt_a").await;
    server.faults().add(Rule::new(Fault::Hidden).kind(Kind::Get).times(2));
    let found = client.create(&CreateDatabase::new("mt_a")).await.unwrap();
    let Creation::Exists(found) = found else { panic!("made twice") };
    assert_eq!(found.uuid, uuid);
}

#[tokio::test]
async fn deleting_ends_with_no_database_whatever_became_of_the_answers() {
    let server = server().await;
    let client = client(&server);
    for fault in [
        Fault::Late(Duration::from_secs(4)),
        Fault::Torn,
        Fault::Dropped,
        Fault::Refused,
        Fault::internal(),
        Fault::html(504),
    ] {
        let uuid = make(&client, "mt_a").await;
        let hits = server.faults().add(Rule::new(fault).kind(Kind::Delete).times(1));
        client.delete(&uuid).await.unwrap();
        assert_eq!(hits.count(), 1);
        assert!(names(&client, "").await.is_empty());
    }
}

#[tokio::test]
async fn all_of_many_are_listed() {
    let server = server().await;
    let client = client(&server);
    let mut expected = BTreeSet::new();
    for number in 0..130 {
        let name = format!("mt_{number:03}");
        make(&client, &name).await;
        expected.insert(name);
    }
    make(&client, "other_mt_1").await;
    assert_eq!(names(&client, "mt_").await, expected);
    assert_eq!(names(&client, "").await.len(), 131);
    assert_eq!(names(&client, "mt_12").await.len(), 10);
    assert!(names(&client, "none").await.is_empty());

    // One is deleted between the pages; all that were there throughout are told.
    let mut list = client.databases("mt_");
    let first = list.try_next().await.unwrap().unwrap();
    client.delete(&first.uuid).await.unwrap();
    let rest: BTreeSet<String> = list.map_ok(|database| database.name).try_collect().await.unwrap();
    expected.remove(&first.name);
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_full_account_and_wrong_credentials_are_told_apart() {
    let server = D1::builder().quota(1).start().await.unwrap();
    let client = client(&server);
    make(&client, "mt_a").await;
    let full = client.create(&CreateDatabase::new("mt_b")).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded, "{}", full.to_chain());

    let stranger = builder(&server, &context()).with_api_token("somebody-elses").build().unwrap();
    let refused = hasty(&stranger).database_by_name("mt_a").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{}", refused.to_chain());
    assert!(!refused.to_chain().contains("somebody-elses"));

    let nobody = builder(&server, &context()).with_account_id("0".repeat(32)).build().unwrap();
    let refused = hasty(&nobody).database_by_name("mt_a").await.unwrap_err();
    // The service tells both in the same words.
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{}", refused.to_chain());
}

#[tokio::test]
async fn after_too_many_requests_nothing_is_sent_for_as_long_as_asked() {
    let server = server().await;
    let client = client(&server);
    make(&client, "mt_a").await;
    server.faults().add(Rule::new(Fault::too_many_requests(2)).kind(Kind::Get).times(1));
    let started = Instant::now();
    assert!(client.database_by_name("mt_a").await.unwrap().is_some());
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_state_is_marked_and_gone_back_to() {
    let server = D1::builder().history(true).start().await.unwrap();
    let client = client(&server);
    let uuid = make(&client, "mt_a").await;
    query(&server, &uuid, "CREATE TABLE t (a)").await;
    let before = client.bookmark(&uuid, None).await.unwrap();
    query(&server, &uuid, "INSERT INTO t VALUES (1)").await;
    let undo = client.restore_to(&uuid, &PointInTime::Bookmark(before)).await.unwrap();
    let count = async || {
        query(&server, &uuid, "SELECT COUNT(*) FROM t").await["result"][0]["results"]["rows"][0][0]
            .clone()
    };
    assert_eq!(count().await, json!(0));
    client.restore_to(&uuid, &PointInTime::Bookmark(undo)).await.unwrap();
    assert_eq!(count().await, json!(1));
}

#[tokio::test]
async fn an_export_is_the_databases_sql() {
    let patience = Duration::from_secs(3);
    let server = D1::builder().job_patience(patience).start().await.unwrap();
    let client = client(&server);
    let uuid = make(&client, "mt_a").await;
    query(&server, &uuid, "CREATE TABLE notes (text TEXT)").await;
    query(&server, &uuid, "INSERT INTO notes VALUES ('from D1')").await;
    server.faults().add(Rule::new(Fault::Torn).kind(Kind::Export).times(1));
    server.faults().add(Rule::new(Fault::html(503)).kind(Kind::File).times(1));
    let mut sink = Vec::new();
    let length = client.export(&uuid, &mut sink).await.unwrap();
    let text = String::from_utf8(sink).unwrap();
    assert_eq!(length, text.len() as u64);
    assert!(text.contains("CREATE TABLE notes") && text.contains("from D1"), "{text}");

    server.faults().add(Rule::new(Fault::Torn).kind(Kind::File).times(1));
    let torn = client.export(&uuid, &mut Vec::new()).await.unwrap_err();
    assert_eq!(torn.kind(), ErrorKind::Unavailable, "{}", torn.to_chain());
}
