//! Many reads one after the other: the stream that is kept for them is seen by nobody.

use std::time::Duration;

use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_turso::TursoFactory;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};

use crate::support::{builder, context, execute, factory, kind_of, server, tenant};

async fn opened(factory: &TursoFactory) -> DataAdapters {
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    data
}

async fn read(data: &DataAdapters) -> Result<i64, DbErr> {
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) FROM t");
    let row = data.query_one_raw(count).await?;
    row.map_or(Ok(-1), |row| row.try_get_by_index(0))
}

async fn read_many(data: &DataAdapters) {
    for _ in 0..60 {
        read(data).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_serves_many_and_is_closed_when_they_pause() {
    let server = server().await;
    let data = opened(&factory(&server, &context())).await;
    let before = server.requests().total();
    read_many(&data).await;
    assert_eq!(server.requests().total() - before, 60);
    // Its end is one request more, and the only one.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while server.requests().total() - before < 61 {
        assert!(std::time::Instant::now() < deadline, "the stream is not closed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(read(&data).await.unwrap(), 1);
    assert_eq!(server.requests().total() - before, 63);
}

#[tokio::test]
async fn what_was_written_is_read_at_once() {
    let server = server().await;
    let data = opened(&factory(&server, &context())).await;
    read_many(&data).await;
    for n in 1..=20 {
        execute(&data, &format!("INSERT INTO t VALUES ({n})")).await.unwrap();
        assert_eq!(read(&data).await.unwrap(), n);
    }
    // A column that is new to the stream.
    execute(&data, "ALTER TABLE t ADD COLUMN more TEXT").await.unwrap();
    let more = Statement::from_string(DbBackend::Sqlite, "SELECT more FROM t");
    assert_eq!(data.query_all_raw(more).await.unwrap().len(), 20);
    let tasks = (0..8).map(|_| {
        let data = data.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                assert_eq!(read(&data).await.unwrap(), 20);
            }
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }
}

#[tokio::test]
async fn a_block_a_removal_and_a_restart_end_it() {
    let server = server().await;
    let (context, other) = (context(), context());
    let factory = factory(&server, &context);
    let data = opened(&factory).await;
    let acme = tenant("acme");

    read_many(&data).await;
    factory.suspend(&acme).await.unwrap();
    assert_eq!(kind_of(&read(&data).await.unwrap_err()), ErrorKind::TenantNotActive);
    factory.activate(&acme).await.unwrap();

    read_many(&data).await;
    server.sqld().kill().unwrap();
    assert_eq!(kind_of(&read(&data).await.unwrap_err()), ErrorKind::Unavailable);
    server.sqld().restart().await.unwrap();

    read_many(&data).await;
    factory.platform().delete_database("tenant-acme").await.unwrap();
    builder(&server, &other).build().unwrap().provision(&acme).await.unwrap();
    assert_eq!(kind_of(&read(&data).await.unwrap_err()), ErrorKind::ForeignDatabase);
}
