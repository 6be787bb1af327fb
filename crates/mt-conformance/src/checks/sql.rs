use futures_util::{StreamExt as _, future::try_join_all};
use mt_core::{DataAdapters, ErrorKind};
use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, SqlErr, Statement, StreamTrait as _,
    TransactionTrait as _,
};

use crate::{
    fault::{Doing as _, Fault, Outcome, Told as _, ensure, expect_refusal},
    probe::{self, row},
    trial::Trial,
};

pub(crate) async fn an_acknowledged_write_lasts(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("writes").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    let done = data.execute_raw(probe::insertion(backend, 1, "a")).await.doing("insert")?;
    ensure!(done.rows_affected() == 1, "an insert affected {} rows", done.rows_affected());
    let returned = data
        .query_one_raw(probe::returning_insertion(backend, 2, "b"))
        .await
        .doing("an insert that returns")?;
    let id = returned.map(|row| row.try_get::<i64>("", "id")).transpose().doing("decoding")?;
    ensure!(id == Some(2), "an insert of id 2 returned {id:?}");
    let returned = data
        .query_all_raw(probe::returning_insertion(backend, 3, "c"))
        .await
        .doing("an insert that returns")?;
    ensure!(returned.len() == 1, "an insert of one row returned {}", returned.len());
    data.execute_unprepared(
        "INSERT INTO mt_probe (id, note) VALUES (4, 'd'); \
         INSERT INTO mt_probe (id, note) VALUES (5, 'e')",
    )
    .await
    .doing("text of two statements")?;
    let expected = [row(1, "a"), row(2, "b"), row(3, "c"), row(4, "d"), row(5, "e")];
    trial.expect_rows(&tenant, &expected, "after five inserts").await?;
    let changed = Statement::from_string(backend, "UPDATE mt_probe SET note = 'z' WHERE id > 3");
    let changed = data.execute_raw(changed).await.doing("update")?.rows_affected();
    ensure!(changed == 2, "an update of two rows affected {changed}");
    let removed = Statement::from_string(backend, "DELETE FROM mt_probe WHERE id < 4");
    let removed = data.execute_raw(removed).await.doing("delete")?.rows_affected();
    ensure!(removed == 3, "a delete of three rows affected {removed}");
    trial.expect_rows(&tenant, &[row(4, "z"), row(5, "z")], "after an update and a delete").await
}

pub(crate) async fn writes_at_once_all_last(trial: &Trial<'_>) -> Outcome {
    const WRITERS: i64 = 8;
    const EACH: i64 = 5;
    let tenant = trial.provisioned("crowded").await?;
    let shared = trial.open(&tenant).await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Half of them on one handle, the others on one of their own.
        let data = if writer % 2 == 0 { shared.clone() } else { trial.open(&tenant).await? };
        writers.push(tokio::spawn(async move {
            let backend = probe::backend(&data);
            let mut acknowledged = Vec::new();
            for round in 0..EACH {
                let id = 2 * (writer * EACH + round);
                let pair = [id, id + 1].map(|id| probe::insertion(backend, id, "here"));
                if data.batch(pair).await.is_ok() {
                    acknowledged.extend([row(id, "here"), row(id + 1, "here")]);
                }
            }
            acknowledged
        }));
    }
    let mut expected = Vec::new();
    for writer in writers {
        expected.extend(writer.await.map_err(|error| Fault::new(format!("a writer: {error}")))?);
    }
    expected.sort();
    ensure!(!expected.is_empty(), "not one of {} writes at once succeeded", WRITERS * EACH);
    trial.expect_rows(&tenant, &expected, "after writes at once").await
}

pub(crate) async fn a_batch_runs_in_order_and_lasts(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("batch").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    let text = |text: &str| Statement::from_string(backend, text);
    let results = data
        .batch([
            probe::insertion(backend, 1, "a"),
            probe::insertion(backend, 2, "b"),
            // Each depends on the one before it.
            text("UPDATE mt_probe SET note = 'c' WHERE id <= 2"),
            text("DELETE FROM mt_probe WHERE id = 1 AND note = 'c'"),
        ])
        .await
        .doing("batch")?;
    let affected: Vec<u64> = results.iter().map(sea_orm::ExecResult::rows_affected).collect();
    ensure!(affected == [1, 1, 2, 1], "the results of a batch of four tell {affected:?} rows");
    let none = data.batch::<Statement>([]).await.doing("a batch of no statements")?;
    ensure!(none.is_empty(), "a batch of no statements has {} results", none.len());
    trial.expect_rows(&tenant, &[row(2, "c")], "after a batch").await
}

pub(crate) async fn a_failing_batch_leaves_nothing(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("atomic").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "before").await.doing("insert")?;
    let twice = [2, 1, 3].map(|id| probe::insertion(backend, id, "batch"));
    let nonsense = [
        probe::insertion(backend, 2, "batch"),
        Statement::from_string(backend, "INSERT INTO mt_probe_missing (id) VALUES (1)"),
    ];
    for failing in [Vec::from(twice), Vec::from(nonsense)] {
        ensure!(data.batch(failing).await.is_err(), "a batch with a failing statement succeeded");
        trial.expect_rows(&tenant, &[row(1, "before")], "after a batch that failed").await?;
    }
    let refused = [
        probe::insertion(backend, 2, "batch"),
        Statement::from_string(backend, "COMMIT"),
        Statement::from_string(backend, "INSERT INTO mt_probe_missing (id) VALUES (1)"),
    ];
    let refused = data.batch(refused).await;
    expect_refusal(refused, ErrorKind::Unsupported, "a batch with COMMIT in it")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after a batch that was refused").await?;
    probe::insert(&data, 2, "after").await.doing("insert after a batch that failed")?;
    let expected = [row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after a batch that failed and an insert").await
}

pub(crate) async fn a_stream_delivers_every_row_in_order(trial: &Trial<'_>) -> Outcome {
    const ROWS: i64 = 3_000;
    let tenant = trial.provisioned("stream").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    data.execute_raw(probe::series(backend, ROWS, "row")).await.doing("inserting many rows")?;
    let expected: Vec<i64> = (1..=ROWS).collect();
    let read = data.read();
    let select = backend.build(&probe::selection());
    let streams = [
        data.stream_raw(select.clone()).await.doing("opening a stream")?,
        read.stream_raw(select.clone()).await.doing("opening a stream of a read handle")?,
    ];
    for stream in streams {
        expect_ids(stream, &expected).await?;
    }
    if trial.capabilities().transactions {
        let transaction = data.begin().await.doing("begin")?;
        let stream = transaction.stream_raw(select).await.doing("opening a stream")?;
        expect_ids(stream, &expected).await?;
    }
    let nothing = Statement::from_string(backend, "SELECT id, note FROM mt_probe WHERE id < 0");
    let stream = data.stream_raw(nothing).await.doing("opening a stream")?;
    expect_ids(stream, &[]).await
}

async fn expect_ids(mut stream: mt_core::DataStream<'_>, expected: &[i64]) -> Outcome {
    let mut seen = Vec::with_capacity(expected.len());
    while let Some(found) = stream.next().await {
        let (id, _note) = found.and_then(|row| probe::decode(&row)).doing("reading a stream")?;
        seen.push(id);
    }
    ensure!(
        seen == expected,
        "a stream delivered {} of {} rows, the first out of place at {:?}",
        seen.len(),
        expected.len(),
        seen.iter().zip(expected).position(|(seen, expected)| seen != expected)
    );
    Ok(())
}

pub(crate) async fn a_dropped_stream_leaves_the_handle_usable(trial: &Trial<'_>) -> Outcome {
    const ROWS: i64 = 1_000;
    let tenant = trial.provisioned("midway").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    data.execute_raw(probe::series(backend, ROWS, "row")).await.doing("inserting many rows")?;
    // More often than a pool has connections.
    for id in 1..=20 {
        let select = backend.build(&probe::selection());
        let mut stream = data.stream_raw(select).await.doing("opening a stream")?;
        let first = stream.next().await;
        ensure!(matches!(first, Some(Ok(_))), "a stream began with {first:?}");
        drop(stream);
        probe::insert(&data, ROWS + id, "row").await.doing("insert after a dropped stream")?;
    }
    let rows = trial.rows(&tenant).await?.len();
    ensure!(rows == 1_020, "after streams that were dropped, a fresh handle sees {rows} rows");
    trial.factory().deprovision(&tenant).await.doing("deprovision after dropped streams")
}

pub(crate) async fn a_unique_violation_is_reported_as_one(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("unique").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "first").await.doing("insert")?;
    let second = probe::insertion(backend, 1, "second");
    let failures = [
        data.execute_raw(second.clone()).await.map(drop),
        data.query_one_raw(probe::returning_insertion(backend, 1, "second")).await.map(drop),
        data.batch([second]).await.map(drop),
    ];
    for failure in failures {
        match told_by(failure)? {
            (Some(SqlErr::UniqueConstraintViolation(_)), _) => {}
            (_, told) => {
                return Err(Fault::new(format!("the second row of a key failed with {told}")));
            }
        }
    }
    trial.expect_rows(&tenant, &[row(1, "first")], "after a unique violation").await
}

pub(crate) async fn a_foreign_key_violation_is_reported_as_one(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("keys").await?;
    trial.create(&tenant, &[probe::child_table()]).await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "parent").await.doing("insert")?;
    data.execute_raw(probe::child_insertion(backend, 1, 1)).await.doing("inserting a child")?;
    let parent = Statement::from_string(backend, "DELETE FROM mt_probe WHERE id = 1");
    let failures = [
        data.execute_raw(probe::child_insertion(backend, 2, 99)).await.map(drop),
        data.batch([probe::child_insertion(backend, 3, 99)]).await.map(drop),
        data.execute_raw(parent).await.map(drop),
    ];
    for failure in failures {
        match told_by(failure)? {
            (Some(SqlErr::ForeignKeyConstraintViolation(_)), _) => {}
            (_, told) => {
                return Err(Fault::new(format!("a child without a parent failed with {told}")));
            }
        }
    }
    trial.expect_rows(&tenant, &[row(1, "parent")], "after a foreign key violation").await
}

fn told_by(failure: Result<(), DbErr>) -> Outcome<(Option<SqlErr>, String)> {
    match failure {
        Ok(()) => Err(Fault::new("a statement that breaks a constraint succeeded")),
        Err(error) => Ok((error.sql_err(), error.told())),
    }
}

/// What no handle runs. None of it would leave anything behind outside the database.
const OUTSIDE: [&str; 13] = [
    "DELETE FROM _mt_tenant",
    "SELECT 1; DROP TABLE \"_mt_tenant\"",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "RELEASE a",
    "SELECT 1; COMMIT",
    "/* ; */ begin",
    "START TRANSACTION",
    "END",
    "SELECT 1; CREATE TEMPORARY TABLE mt_probe (id INTEGER)",
    "SELECT 1 \0; COMMIT",
];

const OUTSIDE_POSTGRES: [&str; 2] = ["SET search_path = pg_temp", "SELECT 1; SET ROLE none"];

const OUTSIDE_SQLITE: [&str; 8] = [
    "ATTACH ':memory:' AS other",
    "attach database ':memory:' as other",
    "SELECT ';'; ATTACH ':memory:' AS other",
    "DETACH other",
    "VACUUM INTO '/nowhere/mt-probe'",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA query_only = ON",
    "PRAGMA main.journal_mode(DELETE)",
];

pub(crate) async fn statements_that_reach_outside_are_refused(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("outside").await?;
    trial.create(&tenant, &[probe::child_table()]).await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    let dialect: &[&str] =
        if backend == DbBackend::Sqlite { &OUTSIDE_SQLITE } else { &OUTSIDE_POSTGRES };
    for text in OUTSIDE.iter().chain(dialect) {
        expect_refused(&data, text).await?;
    }
    if trial.capabilities().transactions {
        let transaction = data.begin().await.doing("begin")?;
        for text in OUTSIDE.iter().chain(dialect) {
            let what = format!("`{text}` in a transaction");
            let run = transaction.execute_unprepared(text).await;
            expect_refusal(run, ErrorKind::Unsupported, &what)?;
        }
    }
    // On every connection of a pool the foreign keys are still enforced, and nothing is open.
    let orphans = try_join_all((1..=8).map(async |id| {
        let orphan = data.execute_raw(probe::child_insertion(backend, id, 99)).await;
        Ok::<_, Fault>(orphan.is_ok())
    }))
    .await?;
    ensure!(!orphans.contains(&true), "foreign keys are off after a pragma that was refused");
    trial.expect_rows(&tenant, &[row(1, "kept")], "after refused statements").await
}

async fn expect_refused(data: &DataAdapters, text: &str) -> Outcome {
    let kind = ErrorKind::Unsupported;
    let backend = probe::backend(data);
    let statement = || Statement::from_string(backend, text);
    let what = |door: &str| format!("`{text}` through {door}");
    let unprepared = data.execute_unprepared(text).await;
    expect_refusal(unprepared, kind, &what("execute_unprepared"))?;
    expect_refusal(data.execute_raw(statement()).await, kind, &what("execute"))?;
    expect_refusal(data.query_one_raw(statement()).await, kind, &what("query_one"))?;
    expect_refusal(data.query_all_raw(statement()).await, kind, &what("query_all"))?;
    expect_refusal(data.stream_raw(statement()).await, kind, &what("stream"))?;
    expect_refusal(data.batch([statement()]).await, kind, &what("batch"))?;
    let read = data.read();
    expect_refusal(read.execute_unprepared(text).await, kind, &what("a read handle"))
}
