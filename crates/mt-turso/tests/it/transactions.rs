//! Transactions over the protocol: what lasts, what does not, and what nobody can know.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_devservers::{
    Turso,
    turso::{Fault, Rule},
};
use mt_turso::{TursoConfig, TursoFactory};
use sea_orm::{
    ConnectionTrait as _, DbBackend, SqliteTransactionMode, Statement, StreamTrait as _,
    TransactionOptions, TransactionSession as _, TransactionTrait as _,
};

use crate::support::{context, count, execute, kind_of, server, tenant};

async fn opened(server: &Turso) -> DataAdapters {
    opened_with(server, Duration::from_millis(4500)).await
}

/// With so much time for a transaction.
async fn opened_with(server: &Turso, limit: Duration) -> DataAdapters {
    let mut config = TursoConfig::default();
    config.transaction_timeout_ms = u64::try_from(limit.as_millis()).unwrap();
    let factory = TursoFactory::builder()
        .with_config(config)
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
        .with_context(context())
        .build()
        .unwrap();
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    data
}

#[tokio::test]
async fn a_commit_lost_on_its_way_is_unknown() {
    let server = server().await;
    let data = opened(&server).await;
    for (lost, id, lasts) in [(Fault::Dropped, 1, true), (Fault::Refused, 2, false)] {
        let transaction = data.begin().await.unwrap();
        execute(&transaction, &format!("INSERT INTO t VALUES ({id})")).await.unwrap();
        let before = count_of(&server);
        let hits = server.data_faults().add(Rule::new(lost).path("pipeline").times(1));
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::OutcomeUnknown, "{error}");
        // Once: a commit is never repeated.
        assert_eq!((hits.count(), count_of(&server) - before), (1, 1));
        server.data_faults().clear();
        let row =
            Statement::from_string(DbBackend::Sqlite, format!("SELECT id FROM t WHERE id = {id}"));
        // Where it was lost before it arrived, the server still holds the lock for a moment.
        assert_eq!(data.query_one_raw(row).await.unwrap().is_some(), lasts);
    }
}

fn count_of(server: &Turso) -> u64 {
    server.requests().count("POST", "pipeline")
}

#[tokio::test]
async fn a_commit_that_may_have_arrived_before_is_unknown() {
    let server = server().await;
    let data = opened(&server).await;
    let faults = [
        // A proxy sends it twice: the second is for a stream that the first has closed.
        (Fault::Repeated, 1, true),
        (Fault::error(404, "stream not found"), 2, false),
        (Fault::error(503, "upstream reset before headers"), 3, false),
    ];
    for (fault, id, lasts) in faults {
        let transaction = data.begin().await.unwrap();
        execute(&transaction, &format!("INSERT INTO t VALUES ({id})")).await.unwrap();
        server.data_faults().add(Rule::new(fault).path("pipeline").times(1));
        let error = transaction.commit().await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::OutcomeUnknown, "{error}");
        server.data_faults().clear();
        assert_eq!(ids(&data).await.contains(&id), lasts, "{id}");
    }
}

#[tokio::test]
async fn a_begin_whose_answer_is_lost_is_not_repeated() {
    let server = server().await;
    let data = opened(&server).await;
    // A second one would wait for the lock of the first.
    let hits = server.data_faults().add(Rule::new(Fault::Dropped).path("pipeline"));
    let error = data.begin().await.map(drop).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    assert_eq!(hits.count(), 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_not_repeated() {
    let server = server().await;
    let data = opened(&server).await;
    let proxy = [502, 503].map(Fault::html);
    for lost in [Fault::Dropped, Fault::Torn, Fault::WrongJson].into_iter().chain(proxy) {
        let hits = server.data_faults().add(Rule::new(lost.clone()).times(1));
        let error = execute(&data, "INSERT INTO t DEFAULT VALUES").await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::OutcomeUnknown, "{lost:?}: {error}");
        assert_eq!(hits.count(), 1, "{lost:?}");
        server.data_faults().clear();
    }
    // The pages of HTML came instead of the statement.
    assert_eq!(count(&data, "t").await, 3);
    // This says that it was not looked at.
    server.data_faults().add(Rule::new(Fault::too_many_requests(1)).times(1));
    let error = execute(&data, "INSERT INTO t DEFAULT VALUES").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_is_asked_again() {
    let server = server().await;
    let data = opened(&server).await;
    for lost in [Fault::Dropped, Fault::Torn, Fault::Refused, Fault::html(502)] {
        let hits = server.data_faults().add(Rule::new(lost).times(1));
        assert_eq!(count(&data, "t").await, 0);
        assert_eq!(hits.count(), 1);
        server.data_faults().clear();
    }
    let hits = server.data_faults().add(Rule::new(Fault::Dropped));
    let row = Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) FROM t");
    let error = data.query_one_raw(row).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable);
    assert_eq!(hits.count(), 2);
}

#[tokio::test]
async fn a_transaction_that_took_too_long_never_writes() {
    let server = server().await;
    let data = opened(&server).await;
    let slow = data.begin().await.unwrap();
    execute(&slow, "INSERT INTO t VALUES (1)").await.unwrap();
    // Somebody waits for the lock, so the server would take it away after five seconds; ours is
    // given back before that.
    let other = {
        let data = data.clone();
        tokio::spawn(async move {
            let waited = std::time::Instant::now();
            execute(&data, "INSERT INTO t VALUES (2)").await.unwrap();
            waited.elapsed()
        })
    };
    let waited = other.await.unwrap();
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    let error = execute(&slow, "INSERT INTO t VALUES (3)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    let error = slow.commit().await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    assert_eq!(ids(&data).await, [2]);
}

#[tokio::test]
async fn what_is_idle_for_long_goes_on_as_if_nothing_had_been() {
    let server = server().await;
    let data = opened(&server).await;
    // A reader that was left half way, a query and a transaction: nothing of them is kept open.
    assert_eq!(count(&data, "t").await, 0);
    let open = data.begin().await.unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(count(&data, "t").await, 1);
    let error = execute(&open, "INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable);
    open.rollback().await.unwrap();
    assert_eq!(ids(&data).await, [1]);
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let server = server().await;
    let data = opened(&server).await;
    execute(&data, "INSERT INTO t VALUES (0)").await.unwrap();
    execute(&data, "CREATE TABLE n (value INTEGER NOT NULL)").await.unwrap();
    execute(&data, "INSERT INTO n VALUES (0)").await.unwrap();
    let writer = |data: DataAdapters| async move {
        for _ in 0..15 {
            let transaction = data.begin().await.unwrap();
            let select = Statement::from_string(DbBackend::Sqlite, "SELECT value FROM n");
            let row = transaction.query_one_raw(select).await.unwrap().unwrap();
            let value: i64 = row.try_get("", "value").unwrap();
            execute(&transaction, &format!("UPDATE n SET value = {}", value + 1)).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
    futures_util::future::join_all((0..8).map(|_| writer(data.clone()))).await;
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT value FROM n");
    let row = data.query_one_raw(select).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "value").unwrap(), 8 * 15);
}

#[tokio::test]
async fn a_deferred_transaction_that_loses_the_lock_says_so() {
    let server = server().await;
    let data = opened(&server).await;
    let deferred = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
        ..TransactionOptions::default()
    };
    let late = data.begin_with_options(deferred).await.unwrap();
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) FROM t");
    late.query_one_raw(select).await.unwrap();
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    let error = execute(&late, "INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    late.rollback().await.unwrap();
    assert_eq!(ids(&data).await, [1]);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_lock_behind() {
    let server = server().await;
    let data = opened(&server).await;
    for moment in [0, 1, 2, 5, 10, 20] {
        let abandoned = async {
            let transaction = data.begin().await.unwrap();
            execute(&transaction, "INSERT INTO t VALUES (1)").await.unwrap();
            execute(&transaction, "INSERT INTO t VALUES (2)").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::time::timeout(Duration::from_millis(moment), abandoned).await.unwrap_err();
        // Waits for a lock that is left behind until the server takes it away.
        let began = std::time::Instant::now();
        execute(&data, "INSERT INTO t VALUES (9)").await.unwrap();
        execute(&data, "DELETE FROM t WHERE id = 9").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{moment} ms: {:?}", began.elapsed());
    }
    assert_eq!(count(&data, "t").await, 0);
}

/// How long a write takes: what holds the lock makes it wait until the server takes it away.
async fn wait_of_a_writer(data: &DataAdapters) -> Duration {
    let began = std::time::Instant::now();
    execute(data, "INSERT INTO t VALUES (9)").await.unwrap();
    execute(data, "DELETE FROM t WHERE id = 9").await.unwrap();
    began.elapsed()
}

#[tokio::test]
async fn an_end_or_a_query_that_is_given_up_leaves_no_lock_behind() {
    const SLOW: Duration = Duration::from_millis(300);
    const PATIENCE: Duration = Duration::from_millis(50);
    let server = server().await;
    let data = opened(&server).await;
    for route in ["pipeline", "cursor"] {
        let transaction = data.begin().await.unwrap();
        execute(&transaction, "INSERT INTO t VALUES (1)").await.unwrap();
        let hits = server.data_faults().add(Rule::new(Fault::Slow(SLOW)).path(route).times(1));
        let given_up = async {
            if route == "pipeline" {
                transaction.rollback().await.unwrap();
            } else {
                transaction.stream_raw(select("SELECT * FROM t")).await.unwrap().next().await;
            }
        };
        tokio::time::timeout(PATIENCE, given_up).await.unwrap_err();
        assert_eq!(hits.count(), 1);
        let waited = wait_of_a_writer(&data).await;
        assert!(waited < Duration::from_secs(3), "{route}: {waited:?}");
    }
    assert_eq!(count(&data, "t").await, 0);
}

/// More than is ever on its way at once.
const MUCH: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
                    SELECT hex(randomblob(4000)) FROM n";

#[tokio::test]
async fn a_reader_that_stops_half_way_holds_nobody_up_for_ever() {
    const LIMIT: Duration = Duration::from_secs(1);
    let server = server().await;
    let data = opened_with(&server, LIMIT).await;

    let transaction = data.begin().await.unwrap();
    execute(&transaction, "INSERT INTO t VALUES (1)").await.unwrap();
    let mut rows = transaction.stream_raw(select(MUCH)).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    let error = within(execute(&transaction, "INSERT INTO t VALUES (2)")).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    // The lock is given back although the rows are still held, and they do not seem to be all.
    assert!(wait_of_a_writer(&data).await < Duration::from_secs(3));
    let error = within(rows.try_collect::<Vec<_>>()).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");

    for commits in [true, false] {
        let outer = data.begin().await.unwrap();
        let inner = outer.begin().await.unwrap();
        execute(&inner, "INSERT INTO t VALUES (3)").await.unwrap();
        let mut rows = inner.stream_raw(select(MUCH)).await.unwrap();
        rows.try_next().await.unwrap().unwrap();
        // The inner one is open, so either rolls back, which waits for the reader.
        let end = async { if commits { outer.commit().await } else { outer.rollback().await } };
        within(end).await.unwrap_err();
        assert!(wait_of_a_writer(&data).await < Duration::from_secs(3));
        let error = within(rows.try_collect::<Vec<_>>()).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(ids(&data).await, [0_i64; 0]);
}

/// What must not take until the test's own end.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(15), future).await.expect("it goes on for ever")
}

#[tokio::test]
async fn a_transaction_has_all_of_its_time_after_it_got_the_lock() {
    let server = server().await;
    let data = opened_with(&server, Duration::from_millis(1500)).await;
    let writer = |id: i32, data: DataAdapters| async move {
        let transaction = data.begin().await.unwrap();
        // Together they take longer than each of them may.
        tokio::time::sleep(Duration::from_millis(700)).await;
        execute(&transaction, &format!("INSERT INTO t VALUES ({id})")).await.unwrap();
        transaction.commit().await.unwrap();
    };
    futures_util::future::join_all((1..=4).map(|id| writer(id, data.clone()))).await;
    assert_eq!(ids(&data).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_write_whose_answer_is_too_large_takes_its_transaction_with_it() {
    let server = server().await;
    let data = opened(&server).await;
    let transaction = data.begin().await.unwrap();
    execute(&transaction, "INSERT INTO t VALUES (100)").await.unwrap();
    // Over the 10 MB that one answer may have.
    let insert = "INSERT INTO t SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]') \
                  RETURNING id, randomblob(1000000)";
    let error = transaction.query_all_raw(select(insert)).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{error}");
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
    assert!(wait_of_a_writer(&data).await < Duration::from_secs(3));
    assert_eq!(ids(&data).await, [0_i64; 0]);
}

fn select(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

async fn ids(data: &DataAdapters) -> Vec<i64> {
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT id FROM t ORDER BY id");
    let rows = data.query_all_raw(select).await.unwrap();
    rows.iter().map(|row| row.try_get("", "id").unwrap()).collect()
}
