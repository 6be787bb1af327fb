use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sea_orm::{DbErr, QueryResult, TransactionOptions};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Outcome, ensure, ensure_eq},
    probe,
};

const ROWS: i64 = 5_000;

/// Fails unless `stream` has all rows, in order.
async fn expect_all(stream: impl Stream<Item = Result<QueryResult, DbErr>> + Unpin) -> Outcome {
    let mut stream = stream;
    let mut next = 1;
    while let Some(row) = stream.try_next().await.doing("a stream")? {
        let seen = probe::decode(&row).doing("reading a row of a stream")?;
        ensure_eq!(seen, probe::row(next, &format!("note {next}")), "row {next} of a stream");
        next += 1;
    }
    ensure_eq!(next - 1, ROWS, "the number of rows of a stream");
    Ok(())
}

pub(crate) async fn a_stream_delivers_every_row_in_order(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let empty = driver.stream(probe::selection()).try_next().await.doing("an empty stream")?;
    ensure!(empty.is_none(), "a stream of no rows has one");
    if subject.abilities().transactions {
        let transaction = driver.begin(TransactionOptions::default()).await.doing("begin")?;
        transaction.execute(probe::series(ROWS)).await.doing("inserting rows")?;
        expect_all(transaction.stream(probe::selection())).await?;
        transaction.commit().await.doing("commit")?;
    } else {
        driver.execute(probe::series(ROWS)).await.doing("inserting rows")?;
    }
    expect_all(driver.stream(probe::selection())).await?;
    let one = probe::bound("SELECT id, note FROM probe WHERE id = ?", [7.into()]);
    let found: Vec<_> = driver.stream(one).try_collect().await.doing("a stream of one")?;
    ensure_eq!(found.len(), 1, "the number of rows of a stream with a parameter");
    Ok(())
}

pub(crate) async fn a_dropped_stream_leaves_the_driver_usable(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    driver.execute(probe::series(ROWS)).await.doing("inserting rows")?;
    for taken in [0, 1, 300, 2_500] {
        let stream = driver.stream(probe::selection());
        let some: Vec<_> = stream.take(taken).try_collect().await.doing("a stream")?;
        ensure_eq!(some.len(), taken, "the number of rows taken of a stream");
        let id = ROWS + 1 + i64::try_from(taken).unwrap_or_default();
        driver.execute(probe::insertion(id, &format!("{taken}"))).await.doing("an insert")?;
    }
    if subject.abilities().transactions {
        let transaction = driver.begin(TransactionOptions::default()).await.doing("begin")?;
        let stream = transaction.stream(probe::selection());
        let some: Vec<_> = stream.take(10).try_collect().await.doing("a stream")?;
        ensure_eq!(some.len(), 10, "the number of rows taken of a stream");
        let insert = probe::insertion(-1, "after a dropped stream");
        transaction.execute(insert).await.doing("an insert after a dropped stream")?;
        transaction.commit().await.doing("commit after a dropped stream")?;
        let text = "SELECT id FROM probe WHERE id = -1";
        probe::one(driver, probe::sql(text)).await?;
    }
    Ok(())
}

pub(crate) async fn an_error_ends_a_stream(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    // The last row cannot be computed: there is no such positive number.
    let text = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                SELECT CASE WHEN i < 3000 THEN i ELSE abs(-9223372036854775807 - 1) END AS i FROM n";
    let mut stream = driver.stream(probe::sql(text));
    let mut delivered = 0_i64;
    let error = loop {
        match stream.next().await {
            Some(Ok(row)) => {
                delivered += 1;
                let seen: i64 = row.try_get("", "i").doing("reading a row of a stream")?;
                ensure_eq!(seen, delivered, "a row of a stream");
            }
            Some(Err(error)) => break error,
            None => {
                ensure!(false, "a stream with an error in it ended after {delivered} rows");
            }
        }
    };
    let words = "integer overflow";
    ensure!(error.to_string().contains(words), "the error of a stream is `{error}`, not `{words}`");
    if subject.abilities().streaming {
        ensure_eq!(delivered, 2_999, "the number of rows before the error");
    }
    let after = stream.next().await;
    ensure!(
        after.is_none(),
        "a stream went on after its error: {:?}",
        after.map(|row| row.is_ok())
    );
    drop(stream);
    driver.ping().await.doing("ping after a stream that failed")
}
