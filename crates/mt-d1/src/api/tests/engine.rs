//! Statements against the real engine, with the service's faults in front of it.

use std::{sync::Arc, time::Duration};

use mt_core::{Error, ErrorKind, Secret};
use mt_devservers::{
    D1,
    d1::{Fault as Trouble, Kind, Rule},
};
use mt_remote::{Endpoint, Fault, HttpSettings, http_client};
use serde_json::{Value, json};

use crate::{
    api::{ApiLimits, CreateDatabase, Creation, D1Client, Target},
    budget::{Budget, BudgetSettings, Lane},
    raw::{Effect, RawAnswer, RawStatement, Wire as _},
};

struct Site {
    server: D1,
    client: D1Client,
    target: Target,
}

impl Site {
    /// With a database that has the table `t`.
    async fn start() -> Self {
        let server = D1::start().await.unwrap();
        let seconds = Duration::from_secs(10);
        let settings = HttpSettings { connect_timeout: seconds, timeout: seconds };
        let limits = ApiLimits::default()
            .with_first_delay(Duration::from_millis(50))
            .with_request_timeout(Duration::from_secs(2));
        let client = D1Client::of_account(
            http_client(settings).unwrap(),
            Endpoint::new(&server.api_url()).unwrap(),
            server.account_id(),
            Secret::new(server.api_token()),
            Arc::new(Budget::new(BudgetSettings::default()).unwrap()),
            limits,
        );
        let client = client.unwrap();
        let target = made(&client).await;
        let site = Self { server, client, target };
        site.write(&["CREATE TABLE t (a TEXT UNIQUE)"]).await.unwrap();
        site
    }

    fn trouble(&self, trouble: Trouble, times: u64) {
        self.server.faults().add(Rule::new(trouble).kind(Kind::Raw).times(times));
    }

    async fn write(&self, texts: &[&str]) -> Result<Vec<RawAnswer>, Fault> {
        let statements = texts.iter().map(|text| bound(text, &[])).collect();
        self.target.send(statements, Effect::Writes).await
    }

    async fn rows(&self) -> Vec<Vec<Value>> {
        let select = vec![bound("SELECT a FROM t ORDER BY a", &[])];
        self.target.send(select, Effect::Reads).await.unwrap().remove(0).rows
    }

    async fn unclear(&self, texts: &[&str]) -> Error {
        match self.write(texts).await {
            Err(Fault::Other(error)) => {
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.to_chain());
                error
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn made(client: &D1Client) -> Target {
    match client.create(&CreateDatabase::new("mt_a")).await.unwrap() {
        Creation::Created(database) => Target::new(client.clone(), database.uuid, Lane::Control),
        Creation::Exists(database) => panic!("it is there: {database:?}"),
    }
}

fn bound(sql: &str, params: &[&str]) -> RawStatement {
    let params = params.iter().map(|param| json!(param)).collect();
    RawStatement { sql: sql.to_owned(), params }
}

#[tokio::test]
async fn statements_are_answered_one_by_one_and_undone_together() {
    let site = Site::start().await;
    let statements = vec![
        bound("INSERT INTO t VALUES (?) RETURNING a, a", &["nul \0, é"]),
        bound("SELECT a FROM t WHERE 0", &[]),
    ];
    let answers = site.target.send(statements, Effect::Writes).await.unwrap();
    assert_eq!(answers[0].columns, ["a", "a"]);
    assert_eq!(answers[0].rows, [[json!("nul \0, é"), json!("nul \0, é")]]);
    assert_eq!((answers[1].columns.len(), answers[1].rows.len()), (1, 0));

    let twice = ["CREATE TABLE u (a)", "INSERT INTO t VALUES ('b')", "INSERT INTO t VALUES ('b')"];
    let Err(Fault::Statement(said)) = site.write(&twice).await else { panic!("a statement") };
    assert_eq!(said.message, "UNIQUE constraint failed: t.a");
    assert!(said.code.unwrap().starts_with("SQLITE_CONSTRAINT"));
    let rows = site.rows().await;
    assert_eq!(rows, [[json!("nul \0, é")]]);
    site.write(&["CREATE TABLE u (a)"]).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_an_unknown_outcome_whatever_it_was() {
    let site = Site::start().await;
    let mut expected = Vec::new();
    for (value, trouble, is_done) in [
        ("dropped", Trouble::Dropped, true),
        ("html", Trouble::html(504), false),
        ("internal", Trouble::internal(), false),
        ("late", Trouble::Late(Duration::from_secs(4)), true),
        ("refused", Trouble::Refused, false),
        ("torn", Trouble::Torn, true),
        ("wrong", Trouble::WrongJson, true),
    ] {
        site.trouble(trouble, 1);
        site.unclear(&[&format!("INSERT INTO t VALUES ('{value}')")]).await;
        if is_done {
            expected.push(vec![json!(value)]);
        }
        assert_eq!(site.rows().await, expected, "{value}");
    }
    // Not done yet, but it may be.
    site.trouble(Trouble::Slow(Duration::from_secs(4)), 1);
    site.unclear(&["INSERT INTO t VALUES ('dropped')"]).await;
    // Nothing of it was sent twice: that would have violated the constraint.
    site.trouble(Trouble::FailedResult(1, "no such table: t: SQLITE_ERROR".to_owned()), 1);
    site.unclear(&["SELECT 1", "INSERT INTO t VALUES ('failed')"]).await;
    assert_eq!(site.rows().await, expected);
}

#[tokio::test]
async fn what_was_certainly_not_done_is_done_again() {
    let site = Site::start().await;
    let before = site.server.requests().of_kind(Kind::Raw);
    site.trouble(Trouble::overloaded(), 2);
    site.trouble(Trouble::too_many_requests(1), 1);
    let export = "Currently processing a long-running export.";
    site.trouble(Trouble::error(400, 7500, export), 1);
    site.write(&["INSERT INTO t VALUES ('once')"]).await.unwrap();
    assert_eq!(site.rows().await, [[json!("once")]]);
    assert_eq!(site.server.requests().of_kind(Kind::Raw) - before, 6);
}

#[tokio::test]
async fn reads_survive_what_passes() {
    let site = Site::start().await;
    site.write(&["INSERT INTO t VALUES ('a')"]).await.unwrap();
    for trouble in [
        Trouble::internal(),
        Trouble::html(504),
        Trouble::Torn,
        Trouble::Dropped,
        Trouble::Refused,
        Trouble::Late(Duration::from_secs(4)),
        Trouble::overloaded(),
        Trouble::failed_envelope(7500, "Network connection lost."),
        Trouble::FailedResult(0, "internal error; reference = x".to_owned()),
    ] {
        site.trouble(trouble, 1);
        assert_eq!(site.rows().await, [[json!("a")]]);
    }
}

#[tokio::test]
async fn a_deferred_foreign_key_may_be_why_an_outcome_is_unknown() {
    let site = Site::start().await;
    let tables = ["CREATE TABLE p (a PRIMARY KEY)", "CREATE TABLE c (a REFERENCES p)"];
    site.write(&tables).await.unwrap();
    let orphan = ["PRAGMA defer_foreign_keys = ON", "INSERT INTO c VALUES (1)"];
    let error = site.unclear(&orphan).await;
    assert!(error.to_chain().contains("a deferred foreign key violated"), "{}", error.to_chain());
    let count = vec![bound("SELECT COUNT(*) FROM c", &[])];
    let answers = site.target.send(count, Effect::Reads).await.unwrap();
    assert_eq!(answers[0].rows, [[json!(0)]]);
}

#[tokio::test]
async fn a_database_made_anew_is_not_reached_by_its_old_id() {
    let site = Site::start().await;
    let old = site.client.database_by_name("mt_a").await.unwrap().unwrap();
    site.client.delete(&old.uuid).await.unwrap();
    let anew = made(&site.client).await;
    let Err(Fault::Other(error)) = site.write(&["SELECT 1"]).await else { panic!("it is gone") };
    assert_eq!(error.kind(), ErrorKind::TenantNotFound, "{}", error.to_chain());
    let tables = vec![bound("SELECT name FROM sqlite_schema WHERE name = 't'", &[])];
    assert!(anew.send(tables, Effect::Reads).await.unwrap()[0].rows.is_empty());
}

#[tokio::test]
async fn a_killed_engine_loses_no_answer_silently() {
    let site = Site::start().await;
    site.write(&["INSERT INTO t VALUES ('a')"]).await.unwrap();
    site.server.workerd().kill().unwrap();
    let Err(Fault::Other(error)) = site.write(&["INSERT INTO t VALUES ('b')"]).await else {
        panic!("nobody answered")
    };
    let kinds = [ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
    assert!(kinds.contains(&error.kind()), "{}", error.to_chain());
    site.server.workerd().restart().await.unwrap();
    assert_eq!(site.rows().await[0], [json!("a")]);
}
