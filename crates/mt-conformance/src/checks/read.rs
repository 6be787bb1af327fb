use std::time::Duration;

use futures_util::StreamExt as _;
use mt_core::{Error, ErrorKind, ReadAdapters, ReadOnly};
use sea_orm::{
    AccessMode, ConnectionTrait as _, DbBackend, DbErr, Statement, StreamTrait as _,
    TransactionSession as _, TransactionTrait as _,
};

use crate::{
    fault::{Doing as _, Fault, Outcome, Told as _, ensure, expect_refusal},
    probe::{self, row},
    trial::{Trial, within},
};

pub(crate) async fn a_read_handle_sees_committed_rows(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("reading").await?;
    let data = trial.open(&tenant).await?;
    let read = data.read();
    ensure!(*read.tenant() == tenant, "the read handle carries {}", read.tenant());
    for id in 1..=3 {
        probe::insert(&data, id, "a").await.doing("insert")?;
        // A replica may be behind for a moment.
        let arrived = async {
            loop {
                let rows = probe::rows(&read).await.doing("a select of a read handle")?;
                if rows.last() == Some(&row(id, "a")) {
                    return Outcome::Ok(());
                }
            }
        };
        within(Duration::from_secs(30), arrived).await.map_err(|fault| {
            Fault::new(format!("a committed row is not seen by the read handle: {fault}"))
        })??;
    }
    Ok(())
}

/// Each would change the row 1, or add something.
const WRITES: [&str; 7] = [
    "INSERT INTO mt_probe (id, note) VALUES (2, 'written')",
    "UPDATE mt_probe SET note = 'written'",
    "DELETE FROM mt_probe",
    "WITH a AS (SELECT 2 AS id) INSERT INTO mt_probe (id, note) SELECT id, 'written' FROM a",
    "CREATE TABLE mt_probe_written (id INTEGER)",
    "DROP TABLE mt_probe",
    "INSERT INTO mt_probe (id, note) VALUES (2, 'written') RETURNING id",
];

/// Attempts to take the guard off; they may be refused or do nothing.
const UNLOCKS_SQLITE: [&str; 2] = ["PRAGMA query_only = OFF", "PRAGMA writable_schema = ON"];
const UNLOCKS_POSTGRES: [&str; 3] = [
    "SET default_transaction_read_only = off",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET transaction_read_only = off",
];

pub(crate) async fn a_read_handle_refuses_writes(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("readonly").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    let read = data.read();
    let enforced_by = trial.capabilities().read_only;
    for text in WRITES {
        expect_no_write(&read, text, enforced_by).await?;
    }
    let hidden = "SELECT 1; INSERT INTO mt_probe (id, note) VALUES (3, 'written')";
    let run = read.execute_unprepared(hidden).await.map(drop);
    expect_refused_by(enforced_by, run, &format!("`{hidden}` on a read handle"))?;

    let unlocks: &[&str] = match probe::backend(&read) {
        DbBackend::Postgres => &UNLOCKS_POSTGRES,
        _ => &UNLOCKS_SQLITE,
    };
    for unlock in unlocks {
        drop(read.execute_unprepared(unlock).await);
        // Whichever connection of a pool it was done on.
        for _ in 0..8 {
            let run = read.execute_unprepared(WRITES[0]).await;
            ensure!(run.is_err(), "a read handle writes after `{unlock}`");
        }
    }
    trial.expect_rows(&tenant, &[row(1, "kept")], "after writes to a read handle").await?;
    let made = data.execute_unprepared("SELECT id FROM mt_probe_written").await;
    ensure!(made.is_err(), "a read handle created a table");
    probe::insert(&data, 2, "after").await.doing("insert beside a read handle")
}

async fn expect_no_write(read: &ReadAdapters, text: &str, by: ReadOnly) -> Outcome {
    let statement = || Statement::from_string(probe::backend(read), text);
    let what = |door: &str| format!("`{text}` through {door} of a read handle");
    let unprepared = read.execute_unprepared(text).await.map(drop);
    expect_refused_by(by, unprepared, &what("execute_unprepared"))?;
    expect_refused_by(by, read.execute_raw(statement()).await.map(drop), &what("execute"))?;
    expect_refused_by(by, read.query_one_raw(statement()).await.map(drop), &what("query_one"))?;
    expect_refused_by(by, read.query_all_raw(statement()).await.map(drop), &what("query_all"))?;
    let streamed = match read.stream_raw(statement()).await {
        Ok(mut stream) => stream.next().await.map_or(Ok(()), |first| first.map(drop)),
        Err(error) => Err(error),
    };
    expect_refused_by(by, streamed, &what("stream"))
}

/// Fails unless whoever the capability names has refused a write.
pub(crate) fn expect_refused_by(by: ReadOnly, got: Result<(), DbErr>, what: &str) -> Outcome {
    match by {
        ReadOnly::Handle => expect_refusal(got, ErrorKind::Unsupported, what),
        _ => match got {
            Ok(()) => Err(Fault::new(format!("{what} succeeded"))),
            // A driver tells of the engine's refusals by errors of ours, of this kind.
            Err(error)
                if Error::in_db_err(&error).is_some_and(|e| e.kind() != ErrorKind::Statement) =>
            {
                Err(Fault::new(format!(
                    "{what} was refused by the handle, not by the engine: {}",
                    error.told()
                )))
            }
            Err(_) => Ok(()),
        },
    }
}

pub(crate) async fn a_read_transaction_refuses_writes(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("readtx").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    let read = data.read();
    let capabilities = trial.capabilities();
    if !capabilities.transactions {
        return expect_refusal(read.begin().await, ErrorKind::Unsupported, "begin");
    }
    for mode in [None, Some(AccessMode::ReadOnly), Some(AccessMode::ReadWrite)] {
        let transaction = match read.begin_with_config(None, mode).await {
            Ok(transaction) => transaction,
            // To refuse the transaction itself is as good.
            Err(_) if mode == Some(AccessMode::ReadWrite) => continue,
            Err(error) => {
                let told = error.told();
                return Err(Fault::new(format!("begin on a read handle failed with {told}")));
            }
        };
        let seen = probe::rows(&transaction).await.doing("a select in a read transaction")?;
        ensure!(seen == [row(1, "kept")], "a read transaction sees {seen:?}");
        let run = transaction.execute_unprepared(WRITES[0]).await.map(drop);
        let what = format!("an insert in a read handle's transaction of mode {mode:?}");
        expect_refused_by(capabilities.read_only, run, &what)?;
        // Whether it ends well is of no concern; what it leaves is.
        drop(transaction.commit().await);
        trial.expect_rows(&tenant, &[row(1, "kept")], "after a read handle's transaction").await?;
    }
    let refused = read
        .transaction::<_, (), DbErr>(|transaction| {
            Box::pin(async move { probe::insert(transaction, 2, "written").await })
        })
        .await;
    ensure!(refused.is_err(), "an insert in a read handle's transaction succeeded");
    trial.expect_rows(&tenant, &[row(1, "kept")], "after a read handle's transaction").await
}
