use std::sync::Arc;

use futures_util::future::try_join_all;
use mt_core::{DriverTransaction, ErrorKind};
use sea_orm::{SqliteTransactionMode, TransactionOptions};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Fault, Outcome, ensure, ensure_eq, expect_kind},
    probe::{self, row},
};

/// The table with one row. `None`: the driver has no transactions, and says so.
async fn start(subject: &DriverSubject) -> Outcome<Option<&dyn mt_core::Driver>> {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    driver.execute(probe::insertion(1, "before")).await.doing("an insert")?;
    if subject.abilities().transactions {
        return Ok(Some(driver));
    }
    let refused = driver.begin(TransactionOptions::default()).await;
    expect_kind(refused, ErrorKind::Unsupported, "begin")?;
    Ok(None)
}

async fn begin(driver: &dyn mt_core::Driver) -> Outcome<Box<dyn DriverTransaction>> {
    driver.begin(TransactionOptions::default()).await.doing("begin")
}

async fn insert(transaction: &dyn DriverTransaction, id: i64, note: &str) -> Outcome {
    let done = transaction.execute(probe::insertion(id, note)).await;
    done.doing("an insert in a transaction").map(drop)
}

/// Fails unless the table has the row `before` and `others`.
async fn expect_rows(driver: &dyn mt_core::Driver, others: &[probe::Row], when: &str) -> Outcome {
    let expected = [&[row(1, "before")], others].concat();
    ensure_eq!(probe::rows(driver).await?, expected, "what is there {when}");
    Ok(())
}

pub(crate) async fn a_commit_lasts(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let transaction = begin(driver).await?;
    insert(transaction.as_ref(), 2, "by execute").await?;
    let returning = "INSERT INTO probe VALUES (3, 'by query') RETURNING id, note";
    let rows = transaction.query(probe::sql(returning)).await.doing("a query that writes")?;
    ensure_eq!(rows.len(), 1, "the number of rows returned");
    let script = "INSERT INTO probe VALUES (4, 'by text'); INSERT INTO probe VALUES (5, 'too')";
    transaction.execute_unprepared(script).await.doing("text in a transaction")?;
    let result = transaction.execute(probe::insertion(9, "counted")).await.doing("an insert")?;
    ensure_eq!((result.rows_affected(), result.last_insert_id()), (1, 9), "the effect inside");
    ensure_eq!(probe::rows_inside(transaction.as_ref()).await?.len(), 6, "rows seen inside");
    transaction.commit().await.doing("commit")?;
    let expected = [
        row(2, "by execute"),
        row(3, "by query"),
        row(4, "by text"),
        row(5, "too"),
        row(9, "counted"),
    ];
    expect_rows(driver, &expected, "after a commit").await?;

    for mode in [SqliteTransactionMode::Deferred, SqliteTransactionMode::Exclusive] {
        let options =
            TransactionOptions { sqlite_transaction_mode: Some(mode), ..Default::default() };
        let transaction = driver.begin(options).await.doing("begin in another mode")?;
        ensure_eq!(probe::rows_inside(transaction.as_ref()).await?.len(), 6, "rows seen inside");
        transaction.commit().await.doing("commit")?;
    }
    begin(driver).await?.commit().await.doing("commit of an empty transaction")
}

pub(crate) async fn what_is_not_committed_leaves_nothing(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let transaction = begin(driver).await?;
    insert(transaction.as_ref(), 2, "gone").await?;
    transaction.execute_unprepared("DELETE FROM probe WHERE id = 1").await.doing("a delete")?;
    transaction.rollback().await.doing("rollback")?;
    expect_rows(driver, &[], "after a rollback").await?;
    for _ in 0..10 {
        let transaction = begin(driver).await?;
        insert(transaction.as_ref(), 2, "gone").await?;
        drop(transaction);
    }
    // Those that were dropped unused, too, must not be in the way of the next one.
    drop(begin(driver).await?);
    driver.execute(probe::insertion(3, "after")).await.doing("an insert after dropped ones")?;
    expect_rows(driver, &[row(3, "after")], "after dropped transactions").await
}

pub(crate) async fn an_open_transaction_is_seen_by_nobody_else(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let transaction = begin(driver).await?;
    insert(transaction.as_ref(), 2, "open").await?;
    expect_rows(driver, &[], "outside of an open transaction").await?;
    ensure_eq!(probe::rows_inside(transaction.as_ref()).await?.len(), 2, "rows seen inside");
    transaction.commit().await.doing("commit")?;
    expect_rows(driver, &[row(2, "open")], "after the commit").await
}

pub(crate) async fn transactions_at_once_lose_no_update(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let setup = "CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)";
    driver.execute_unprepared(setup).await.doing("making a counter")?;
    let task = || {
        let driver = Arc::clone(subject.driver());
        async move {
            for _ in 0..5 {
                let transaction = begin(driver.as_ref()).await?;
                let read = transaction.query(probe::sql("SELECT n FROM counter")).await;
                let read = read.doing("reading the counter")?;
                let first = read.first().ok_or_else(|| Fault::new("the counter is gone"))?;
                let n: i64 = first.try_get("", "n").doing("decoding the counter")?;
                let write = probe::bound("UPDATE counter SET n = ?", [(n + 1).into()]);
                transaction.execute(write).await.doing("writing the counter")?;
                transaction.commit().await.doing("commit")?;
            }
            Ok(())
        }
    };
    let tasks = (0..4).map(|_| {
        let task = tokio::spawn(task());
        async move { task.await.map_err(|e| Fault::new(format!("a task ended: {e}")))? }
    });
    try_join_all(tasks).await?;
    let counter = probe::one(driver, probe::sql("SELECT n FROM counter")).await?;
    let n: i64 = counter.try_get("", "n").doing("decoding the counter")?;
    ensure_eq!(n, 20, "the counter");
    Ok(())
}

pub(crate) async fn a_transaction_ended_by_the_engine_is_over(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let ends = "INSERT OR ROLLBACK INTO probe VALUES (1, 'twice')";
    for goes_on in [true, false] {
        let transaction = begin(driver).await?;
        insert(transaction.as_ref(), 2, "gone").await?;
        ensure!(transaction.execute(probe::sql(ends)).await.is_err(), "`{ends}` succeeded");
        if goes_on {
            let alone = transaction.execute(probe::insertion(3, "alone")).await;
            ensure!(alone.is_err(), "an insert succeeded in a transaction that is over");
            let alone = transaction.execute_unprepared("INSERT INTO probe VALUES (4, 'a')").await;
            ensure!(alone.is_err(), "text was run in a transaction that is over");
            ensure!(transaction.begin().await.is_err(), "a transaction that is over was nested");
        }
        let committed = transaction.commit().await;
        ensure!(committed.is_err(), "the commit of a transaction that is over succeeded");
        expect_rows(driver, &[], "after the engine ended a transaction").await?;
    }
    driver.execute(probe::insertion(2, "after")).await.doing("an insert afterwards")?;
    expect_rows(driver, &[row(2, "after")], "after an insert").await
}

pub(crate) async fn a_failed_statement_leaves_the_transaction(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let transaction = begin(driver).await?;
    insert(transaction.as_ref(), 2, "kept").await?;
    for text in ["INSERT INTO probe VALUES (1, 'twice')", "SELECT * FROM missing", "no SQL"] {
        let failed = transaction.execute(probe::sql(text)).await;
        ensure!(failed.is_err(), "`{text}` succeeded in a transaction");
        let failed = transaction.query(probe::sql(text)).await;
        ensure!(failed.is_err(), "`{text}` succeeded in a transaction");
    }
    insert(transaction.as_ref(), 3, "kept too").await?;
    transaction.commit().await.doing("commit after statements that failed")?;
    expect_rows(driver, &[row(2, "kept"), row(3, "kept too")], "after the commit").await
}

pub(crate) async fn nested_transactions_end_alone(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    let outer = begin(driver).await?;
    if !subject.abilities().savepoints {
        expect_kind(outer.begin().await, ErrorKind::Unsupported, "begin in a transaction")?;
        return outer.rollback().await.doing("rollback");
    }
    insert(outer.as_ref(), 2, "outer").await?;
    let inner = outer.begin().await.doing("begin in a transaction")?;
    insert(inner.as_ref(), 3, "rolled back").await?;
    inner.rollback().await.doing("rollback of a nested transaction")?;
    let inner = outer.begin().await.doing("begin in a transaction")?;
    insert(inner.as_ref(), 3, "dropped").await?;
    let innermost = inner.begin().await.doing("begin in a nested transaction")?;
    insert(innermost.as_ref(), 4, "dropped too").await?;
    innermost.commit().await.doing("commit of the innermost transaction")?;
    drop(inner);
    ensure_eq!(probe::rows_inside(outer.as_ref()).await?.len(), 2, "rows after a drop");
    let inner = outer.begin().await.doing("begin in a transaction")?;
    insert(inner.as_ref(), 3, "kept").await?;
    let innermost = inner.begin().await.doing("begin in a nested transaction")?;
    insert(innermost.as_ref(), 4, "dropped").await?;
    drop(innermost);
    insert(inner.as_ref(), 4, "after a drop").await?;
    inner.commit().await.doing("commit of a nested transaction")?;
    let inner = outer.begin().await.doing("begin in a transaction")?;
    insert(inner.as_ref(), 5, "dropped before the commit").await?;
    drop(inner);
    outer.commit().await.doing("commit of the outer transaction")?;
    let expected = [row(2, "outer"), row(3, "kept"), row(4, "after a drop")];
    expect_rows(driver, &expected, "after nested transactions").await
}

pub(crate) async fn an_outer_commit_takes_nested_ones_back(subject: &DriverSubject) -> Outcome {
    let Some(driver) = start(subject).await? else { return Ok(()) };
    if !subject.abilities().savepoints {
        return Ok(());
    }
    let outer = begin(driver).await?;
    let middle = outer.begin().await.doing("begin in a transaction")?;
    insert(middle.as_ref(), 2, "kept").await?;
    let inner = middle.begin().await.doing("begin in a nested transaction")?;
    insert(inner.as_ref(), 3, "gone").await?;
    middle.commit().await.doing("commit around an open transaction")?;
    let late = inner.execute(probe::insertion(3, "late")).await;
    ensure!(late.is_err(), "an insert succeeded in a transaction that was taken back");
    ensure!(inner.commit().await.is_err(), "a transaction that was taken back was committed");

    let inner = outer.begin().await.doing("begin in a transaction")?;
    insert(inner.as_ref(), 4, "gone").await?;
    outer.commit().await.doing("commit around an open transaction")?;
    let late = inner.execute(probe::insertion(4, "late")).await;
    ensure!(late.is_err(), "an insert succeeded after the transaction around it had ended");
    ensure!(inner.commit().await.is_err(), "a transaction was committed after the one around it");
    expect_rows(driver, &[row(2, "kept")], "after the commit").await
}
