//! Tokens, as the real server takes and refuses them.

use mt_devservers::turso::{Fault, Rule};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Site;

#[tokio::test]
async fn nothing_but_a_token_of_the_database_opens_it() {
    let site = Site::start().await;
    let [a, b] = [site.create("a").await, site.create("b").await];
    a.rows("select 1").await;
    for token in ["", "garbage", site.turso.api_token(), &b.token] {
        let (status, answer) = a.with_token(token).answer("select 1").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?}: {answer}");
    }
}

/// sqld is lenient for a minute, too long for a test to wait: the token ended an hour ago.
#[tokio::test]
async fn a_token_ends_with_its_time() {
    let site = Site::start().await;
    let database = site.create("one").await;
    let minted = site.token("/databases/one/auth/tokens?expiration=1h").await;
    database.with_token(minted).rows("select 1").await;
    let expired = || Rule::new(Fault::ExpiredToken).times(1);
    site.turso.api_faults().add(expired());
    let minted = site.token("/databases/one/auth/tokens?expiration=1h").await;
    let (status, answer) = database.with_token(minted).answer("select 1").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer.to_string().contains("expired"), "{answer}");

    let of_group = database.with_token(site.token("/groups/default/auth/tokens").await);
    for held in [database, of_group] {
        site.turso.data_faults().add(expired());
        let (status, answer) = held.answer("select 1").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(answer.to_string().contains("expired"), "{answer}");
        held.rows("select 1").await;
    }
}

#[tokio::test]
async fn a_read_only_token_reads_only() {
    let site = Site::start().await;
    let database = site.create("one").await;
    database.rows("create table t (x)").await;
    let token = site.token("/databases/one/auth/tokens?authorization=read-only").await;
    let reader = database.with_token(token);
    reader.rows("select * from t").await;
    assert_eq!(reader.status("insert into t values (1)").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_rotation_ends_the_tokens_of_its_database() {
    let site = Site::start().await;
    let [a, b] = [site.create("a").await, site.create("b").await];
    let of_group = site.token("/groups/default/auth/tokens").await;
    site.post("/databases/a/auth/rotate", Value::Null).await;
    assert_eq!(a.status("select 1").await, StatusCode::UNAUTHORIZED);
    b.rows("select 1").await;
    a.with_token(of_group).rows("select 1").await;
    a.with_token(site.token("/databases/a/auth/tokens").await).rows("select 1").await;
}

#[tokio::test]
async fn a_group_token_opens_every_database_of_its_group_and_no_other() {
    let site = Site::start().await;
    site.post("/groups", json!({"name": "other", "location": "aws-eu-west-1"})).await;
    let first = site.create("first").await;
    let token = site.token("/groups/default/auth/tokens").await;
    let later = site.create("later").await;
    let foreign = site.create_with(json!({"name": "foreign", "group": "other"})).await;
    first.with_token(&token).rows("select 1").await;
    later.with_token(&token).rows("select 1").await;
    assert_eq!(foreign.with_token(&token).status("select 1").await, StatusCode::UNAUTHORIZED);

    site.post("/groups/default/auth/rotate", Value::Null).await;
    assert_eq!(first.with_token(&token).status("select 1").await, StatusCode::UNAUTHORIZED);
    assert_eq!(later.status("select 1").await, StatusCode::UNAUTHORIZED);
    foreign.rows("select 1").await;
    later.with_token(site.token("/groups/default/auth/tokens").await).rows("select 1").await;
}
