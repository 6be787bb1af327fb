//! A service that goes away and comes back, and answers that are lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_d1::{D1Config, D1Factory};
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use sea_orm::{ConnectionTrait as _, DbErr};

use crate::support::{context, count, execute, kind_of, requests, select, server, tenant};

/// Gives up soon.
fn hasty(server: &D1) -> D1Factory {
    let mut config = D1Config::default();
    config.request_timeout_ms = 2_000;
    config.operation_timeout_ms = 2_000;
    config.requests_per_window = 1_000_000;
    config.api_url = server.api_url();
    config.account_id = server.account_id().to_owned();
    config.api_token = server.api_token().to_owned();
    D1Factory::builder().with_config(config).with_context(context()).build().unwrap()
}

async fn opened(server: &D1) -> DataAdapters {
    let factory = hasty(server);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    data
}

async fn read(data: &DataAdapters) -> Result<i64, DbErr> {
    let row = data.query_one_raw(select("SELECT COUNT(*) FROM t")).await?;
    row.map_or(Ok(-1), |row| row.try_get_by_index(0))
}

#[tokio::test]
async fn a_server_that_was_killed_is_used_again_when_it_is_back() {
    let server = server().await;
    let data = opened(&server).await;
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();

    server.workerd().kill().unwrap();
    let error = read(&data).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    let error = execute(&data, "INSERT INTO t VALUES (2)").await.unwrap_err();
    let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
    assert!(kinds.contains(&kind_of(&error)), "{error}");

    server.workerd().restart().await.unwrap();
    assert_eq!(count(&data, "t").await, 1);
    execute(&data, "INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(count(&data, "t").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_the_server_died_is_there() {
    let server = server().await;
    let data = opened(&server).await;
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (data, stop, next) = (data.clone(), Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let id = next.fetch_add(1, Ordering::SeqCst);
                    match execute(&data, &format!("INSERT INTO t VALUES ({id})")).await {
                        Ok(()) => acknowledged.push(id),
                        Err(error) => {
                            let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
                            assert!(kinds.contains(&kind_of(&error)), "{error}");
                        }
                    }
                }
                acknowledged
            })
        })
        .collect();
    let reached = async |id: i64| {
        while next.load(Ordering::SeqCst) < id {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    reached(40).await;
    server.workerd().kill().unwrap();
    server.workerd().restart().await.unwrap();
    let so_far = next.load(Ordering::SeqCst);
    reached(so_far + 40).await;
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let rows = data.query_all_raw(select("SELECT id FROM t")).await.unwrap();
    let stored: Vec<i64> = rows.iter().map(|row| row.try_get("", "id").unwrap()).collect();
    assert!(acknowledged.iter().all(|id| stored.contains(id)));
    assert!(acknowledged.iter().any(|id| *id >= so_far), "nothing was written afterwards");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_to_whoever_wrote_and_asked_for_again_by_whoever_read() {
    let server = server().await;
    let data = opened(&server).await;
    read(&data).await.unwrap();
    let mut written = 0;
    for fault in
        [Fault::Dropped, Fault::Torn, Fault::WrongJson, Fault::Late(Duration::from_secs(60))]
    {
        let rule = || Rule::new(fault.clone()).kind(Kind::Raw).times(1);
        server.faults().add(rule());
        let insert = format!("INSERT INTO t VALUES ({written})");
        let (counts, outcome) = requests(&server, [Kind::Raw], execute(&data, &insert)).await;
        let error = outcome.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::OutcomeUnknown, "{fault:?}: {error}");
        // Nobody asked twice.
        assert_eq!(counts, [1], "{fault:?}");
        server.faults().clear();
        written += 1;
        assert_eq!(read(&data).await.unwrap(), written, "{fault:?}");
    }
    for fault in [Fault::Dropped, Fault::Torn, Fault::Refused, Fault::html(504), Fault::internal()]
    {
        let hits = server.faults().add(Rule::new(fault.clone()).kind(Kind::Raw).times(1));
        assert_eq!(read(&data).await.unwrap(), written, "{fault:?}");
        assert_eq!(hits.count(), 1);
        server.faults().clear();
    }
    server.faults().add(Rule::new(Fault::Dropped).kind(Kind::Raw));
    let error = read(&data).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    let batch = data.batch(vec![select("INSERT INTO t VALUES (100)")]).await.unwrap_err();
    assert_eq!(kind_of(&batch), ErrorKind::OutcomeUnknown, "{batch}");
}

#[tokio::test]
async fn a_success_that_says_failure_is_a_failure() {
    let server = server().await;
    let data = opened(&server).await;
    let words = "no such table: t: SQLITE_ERROR";
    for (fault, kind) in [
        (Fault::failed_envelope(7500, words), ErrorKind::Statement),
        // With one of its statements failed in a success, the service has not kept its word.
        (Fault::FailedResult(0, words.to_owned()), ErrorKind::OutcomeUnknown),
    ] {
        server.faults().add(Rule::new(fault.clone()).kind(Kind::Raw).times(1));
        let error = execute(&data, "INSERT INTO t VALUES (1)").await.unwrap_err();
        assert_eq!(kind_of(&error), kind, "{fault:?}: {error}");
    }
    assert_eq!(count(&data, "t").await, 0);
}

#[tokio::test]
async fn one_request_for_each_statement_and_each_batch() {
    let server = server().await;
    let data = opened(&server).await;
    // The columns of a query are learned once.
    assert_eq!(read(&data).await.unwrap(), 0);
    let (counts, read) = requests(&server, [Kind::Raw], read(&data)).await;
    assert_eq!((counts, read.unwrap()), ([1], 0));
    let insert = execute(&data, "INSERT INTO t (id) VALUES (1)");
    let (counts, done) = requests(&server, [Kind::Raw], insert).await;
    done.unwrap();
    assert_eq!(counts, [1]);
    let batch = data.batch(vec![select("DELETE FROM t"), select("INSERT INTO t VALUES (2)")]);
    let (counts, done) = requests(&server, [Kind::Raw], batch).await;
    assert_eq!(done.unwrap().len(), 2);
    assert_eq!(counts, [1]);
}
