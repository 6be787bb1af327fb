//! Transactions of theirs and of ours on one database.

use std::sync::Mutex;

use libsql::TransactionBehavior;
use mt_core::DataAdapters;
use sea_orm::{
    ConnectionTrait, DbBackend, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionSession as _, TransactionTrait as _,
};

use super::{
    Both,
    raw::{self, Raw},
};

const READ: &str = "SELECT value FROM counter";
const WRITE: &str = "UPDATE counter SET value = ?";

fn statement(sql: &str, values: impl IntoIterator<Item = sea_orm::Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

async fn make_counter(data: &DataAdapters) {
    for sql in ["CREATE TABLE counter (value INTEGER NOT NULL)", "INSERT INTO counter VALUES (0)"] {
        data.execute_unprepared(sql).await.unwrap();
    }
}

async fn begin(data: &DataAdapters) -> impl ConnectionTrait + sea_orm::TransactionSession {
    let mode = Some(SqliteTransactionMode::Immediate);
    let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
    data.begin_with_options(options).await.unwrap()
}

async fn value(db: &impl ConnectionTrait) -> i64 {
    let row = db.query_one_raw(statement(READ, [])).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

async fn their_value(transaction: &libsql::Transaction) -> i64 {
    let mut rows = transaction.query(READ, ()).await.unwrap();
    let value = rows.next().await.unwrap().unwrap().get(0).unwrap();
    assert!(rows.next().await.unwrap().is_none());
    value
}

async fn add_one(data: &DataAdapters) {
    let transaction = begin(data).await;
    let next = value(&transaction).await + 1;
    transaction.execute_raw(statement(WRITE, [next.into()])).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn they_add_one(connection: &libsql::Connection) {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate).await;
    let transaction = begun.unwrap();
    let next = their_value(&transaction).await + 1;
    transaction.execute(WRITE, [next]).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn ours_waits_for_theirs() {
    let Both { site: _site, ours, theirs, .. } = Both::open().await;
    make_counter(&ours).await;
    let order = Mutex::new(Vec::new());
    let say = |what| order.lock().unwrap().push(what);
    let transaction =
        theirs.transaction_with_behavior(TransactionBehavior::Immediate).await.unwrap();
    let they = async {
        for next in 1..=20 {
            transaction.execute(WRITE, [next]).await.unwrap();
        }
        assert_eq!(their_value(&transaction).await, 20);
        say("their commit");
        transaction.commit().await.unwrap();
    };
    let we = async {
        let transaction = begin(&ours).await;
        say("our begin");
        assert_eq!(value(&transaction).await, 20);
        transaction.commit().await.unwrap();
    };
    tokio::join!(we, they);
    assert_eq!(*order.lock().unwrap(), ["their commit", "our begin"]);
}

#[tokio::test]
async fn theirs_waits_for_ours() {
    let Both { site: _site, ours, theirs, .. } = Both::open().await;
    make_counter(&ours).await;
    let order = Mutex::new(Vec::new());
    let say = |what| order.lock().unwrap().push(what);
    let transaction = begin(&ours).await;
    let we = async {
        for next in 1..=20_i64 {
            transaction.execute_raw(statement(WRITE, [next.into()])).await.unwrap();
        }
        assert_eq!(value(&transaction).await, 20);
        say("our commit");
        transaction.commit().await.unwrap();
    };
    let they = async {
        let begun = theirs.transaction_with_behavior(TransactionBehavior::Immediate).await;
        say("their begin");
        let transaction = begun.unwrap();
        assert_eq!(their_value(&transaction).await, 20);
        transaction.commit().await.unwrap();
    };
    tokio::join!(they, we);
    assert_eq!(*order.lock().unwrap(), ["our commit", "their begin"]);
}

#[tokio::test]
async fn no_addition_is_lost_between_them() {
    const EACH: i64 = 15;
    let Both { site: _site, ours, theirs, .. } = Both::open().await;
    make_counter(&ours).await;
    let we = async {
        for _ in 0..EACH {
            add_one(&ours).await;
        }
    };
    let they = async {
        for _ in 0..EACH {
            they_add_one(&theirs).await;
        }
    };
    tokio::join!(we, they);
    theirs.reset().await;
    assert_eq!(raw::query(&theirs, READ).await, [[Raw::Integer(2 * EACH)]]);
}
