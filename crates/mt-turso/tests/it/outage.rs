//! A server that goes away and comes back, streams that are sent elsewhere, answers of any size.

use futures_util::TryStreamExt as _;
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_devservers::{
    Turso,
    turso::{Fault, Rule},
};
use sea_orm::{
    ConnectionTrait as _, DbBackend, Statement, StreamTrait as _, TransactionSession as _,
    TransactionTrait as _,
};

use crate::support::{context, count, execute, factory, kind_of, server, tenant};

async fn opened(server: &Turso) -> DataAdapters {
    let factory = factory(server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)").await.unwrap();
    data
}

#[tokio::test]
async fn a_server_that_was_killed_is_used_again_when_it_is_back() {
    let server = server().await;
    let data = opened(&server).await;
    execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap();
    let open = data.begin().await.unwrap();
    execute(&open, "INSERT INTO t (id) VALUES (2)").await.unwrap();

    server.sqld().kill().unwrap();
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) FROM t");
    let error = data.query_one_raw(select).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    assert!(open.commit().await.is_err());

    server.sqld().restart().await.unwrap();
    assert_eq!(count(&data, "t").await, 1);
    execute(&data, "INSERT INTO t (id) VALUES (3)").await.unwrap();
    assert_eq!(count(&data, "t").await, 2);
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_nothing_was_done() {
    let server = Turso::builder().direct().start().await.unwrap();
    let data = opened(&server).await;
    server.sqld().kill().unwrap();
    let error = execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap_err();
    // Perhaps it was sent on a connection that was just breaking.
    let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
    assert!(kinds.contains(&kind_of(&error)), "{error}");
    let error = execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    server.sqld().restart().await.unwrap();
    execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn a_stream_is_not_followed_to_another_service() {
    let server = server().await;
    let data = opened(&server).await;
    // To another port of this machine it is.
    let transaction = data.begin().await.unwrap();
    execute(&transaction, "INSERT INTO t (id) VALUES (1)").await.unwrap();
    transaction.commit().await.unwrap();

    for elsewhere in ["https://collector.example", "http://collector.example", "ftp://127.0.0.1"] {
        server.set_base_url(Some(elsewhere));
        let error = data.begin().await.map(drop).unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{elsewhere}: {error}");
    }
    server.set_base_url(None);
    assert_eq!(count(&data, "t").await, 1);
}

#[tokio::test]
async fn an_answer_of_any_size_is_read() {
    let server = server().await;
    let data = opened(&server).await;
    // Over the 10 MB that one answer may have.
    for id in 0..13 {
        let sql = format!("INSERT INTO t VALUES ({id}, randomblob(1000000))");
        execute(&data, &sql).await.unwrap();
    }
    let select = || Statement::from_string(DbBackend::Sqlite, "SELECT id, b FROM t ORDER BY id");
    let rows = data.query_all_raw(select()).await.unwrap();
    assert_eq!(rows.len(), 13);
    let streamed = data.stream_raw(select()).await.unwrap().try_fold(0, async |n, row| {
        let blob: Vec<u8> = row.try_get("", "b")?;
        assert_eq!((row.try_get::<i64>("", "id")?, blob.len()), (n, 1_000_000));
        Ok(n + 1)
    });
    assert_eq!(streamed.await.unwrap(), 13);
    let transaction = data.begin().await.unwrap();
    assert_eq!(transaction.query_all_raw(select()).await.unwrap().len(), 13);
    // One that is left half way does not stop the transaction.
    drop(transaction.stream_raw(select()).await.unwrap().try_next().await.unwrap().unwrap());
    execute(&transaction, "DELETE FROM t WHERE id > 0").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&data, "t").await, 1);
    // A write whose answer is too large has happened, or not; nobody is told that it failed.
    let insert = "INSERT INTO t SELECT value, randomblob(1000000) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]') RETURNING b";
    let error = data.query_all_raw(Statement::from_string(DbBackend::Sqlite, insert)).await;
    assert_eq!(kind_of(&error.unwrap_err()), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn one_request_for_each_query() {
    let server = server().await;
    let data = opened(&server).await;
    let so_far = || server.requests().total();
    let before = so_far();
    assert_eq!(count(&data, "t").await, 0);
    assert_eq!(so_far() - before, 1);
    execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap();
    assert_eq!(so_far() - before, 2);
    let delete = Statement::from_string(DbBackend::Sqlite, "DELETE FROM t");
    data.batch(vec![delete.clone(), delete]).await.unwrap();
    assert_eq!(so_far() - before, 3);
}

#[tokio::test]
async fn a_server_that_mislays_a_database_for_a_moment_is_asked_again() {
    let server = server().await;
    let data = opened(&server).await;
    let missing = || Fault::error(404, "Namespace `x` doesn't exist");
    let hits = server.data_faults().add(Rule::new(missing()).times(1));
    execute(&data, "INSERT INTO t (id) VALUES (1)").await.unwrap();
    assert_eq!(hits.count(), 1);
    server.data_faults().add(Rule::new(missing()));
    let error = execute(&data, "INSERT INTO t (id) VALUES (2)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
}
