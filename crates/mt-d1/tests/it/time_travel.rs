//! Going back in place, and the service's own dump.

use chrono::Utc;
use mt_core::{DatabaseFactory as _, ErrorKind};
use mt_d1::PointInTime;
use mt_devservers::d1::{Fault, Kind, Rule};

use crate::{
    backup::provisioned,
    support::{context, count, execute, factory, query, requests, server, tenant, uuid},
};

const NOTES: &[&str] = &["CREATE TABLE note (text TEXT)", "INSERT INTO note VALUES ('old')"];

#[tokio::test]
async fn a_database_goes_back_and_forth() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, NOTES).await;
    let (time, old) = (Utc::now(), d1.bookmark(&acme).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    execute(&data, "INSERT INTO note VALUES ('new')").await.unwrap();
    assert_ne!(d1.bookmark(&acme).await.unwrap(), old);
    assert_eq!(d1.bookmark_at(&acme, time).await.unwrap(), old);

    let kinds = [Kind::Raw, Kind::Bookmark, Kind::Restore];
    let point = PointInTime::Bookmark(old);
    let (counts, gone) = requests(&server, kinds, d1.restore_in_place(&acme, &point)).await;
    assert_eq!(counts, [2, 1, 1]);
    let previous = gone.unwrap();
    // Handles of before are closed.
    execute(&data, "INSERT INTO note VALUES ('lost')").await.unwrap_err();
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "note").await, 1);
    d1.restore_in_place(&acme, &PointInTime::Bookmark(previous)).await.unwrap();
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "note").await, 2);
    d1.restore_in_place(&acme, &PointInTime::Timestamp(time)).await.unwrap();
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "note").await, 1);
}

#[tokio::test]
async fn a_state_that_was_not_the_tenants_is_gone_back_from() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, NOTES).await;
    let name = d1.describe(&acme).await.unwrap().name;
    let uuid = uuid(&d1, name.as_str()).await;
    for (change, undo) in [
        ("UPDATE _mt_tenant SET generation = 7", "UPDATE _mt_tenant SET generation = 1"),
        ("UPDATE _mt_tenant SET tenant = 'other'", "UPDATE _mt_tenant SET tenant = 'acme'"),
        ("ALTER TABLE _mt_tenant RENAME TO gone", "ALTER TABLE gone RENAME TO _mt_tenant"),
    ] {
        query(&server, &uuid, change).await;
        let foreign = d1.client().bookmark(&uuid, None).await.unwrap();
        let refused = d1.restore_in_place(&acme, &PointInTime::Bookmark(foreign.clone())).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ForeignDatabase);
        query(&server, &uuid, undo).await;
        let error = d1.restore_in_place(&acme, &PointInTime::Bookmark(foreign)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{}", error.to_chain());
        assert!(error.to_string().contains("as it was"), "{error}");
        d1.describe(&acme).await.unwrap();
    }
    drop(data);
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "note").await, 1);
}

#[tokio::test]
async fn a_lost_answer_tells_the_way_back() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, NOTES).await;
    let old = d1.bookmark(&acme).await.unwrap();
    execute(&data, "INSERT INTO note VALUES ('new')").await.unwrap();
    let new = d1.bookmark(&acme).await.unwrap();
    server.faults().add(Rule::new(Fault::Dropped).kind(Kind::Restore).times(1));
    let error = d1.restore_in_place(&acme, &PointInTime::Bookmark(old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.to_chain());
    assert!(error.to_string().contains(&new.0), "{error}");
    d1.restore_in_place(&acme, &PointInTime::Bookmark(new)).await.unwrap();
    let data = d1.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "note").await, 2);
}

#[tokio::test]
async fn what_cannot_be_checked_afterwards_is_not_known() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    let data = provisioned(&d1, &acme, NOTES).await;
    let old = d1.bookmark(&acme).await.unwrap();
    execute(&data, "INSERT INTO note VALUES ('new')").await.unwrap();
    let new = d1.bookmark(&acme).await.unwrap();
    // The look before is answered, and none after.
    server.faults().add(Rule::new(Fault::html(502)).kind(Kind::Raw).skip(1));
    let error = d1.restore_in_place(&acme, &PointInTime::Bookmark(old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.to_chain());
    assert!(!error.is_transient() && error.to_string().contains(&new.0), "{error}");
}

#[tokio::test]
async fn the_services_dump_is_of_the_tenants_database() {
    let server = server().await;
    let d1 = factory(&server, &context());
    let acme = tenant("acme");
    drop(provisioned(&d1, &acme, NOTES).await);
    let mut dump = Vec::new();
    let length = d1.export(&acme, &mut dump).await.unwrap();
    assert_eq!(length, dump.len() as u64);
    let dump = String::from_utf8(dump).unwrap();
    assert!(dump.contains("CREATE TABLE note") && dump.contains("'old'"), "{dump}");

    let name = d1.describe(&acme).await.unwrap().name;
    query(&server, &uuid(&d1, name.as_str()).await, "UPDATE _mt_tenant SET tenant = 'x'").await;
    let error = d1.export(&acme, &mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
}
