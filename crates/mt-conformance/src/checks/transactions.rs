use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mt_core::{DataAdapters, DataTransaction, ErrorKind, TenantId};
use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, Statement, TransactionError, TransactionSession as _,
    TransactionTrait as _,
};

use crate::{
    fault::{Doing as _, Fault, Outcome, ensure, expect_refusal},
    probe::{self, row},
    trial::Trial,
};

/// A tenant with the row 1, and a handle; or `None` where there are no transactions, after seeing
/// that they are refused.
async fn start(trial: &Trial<'_>, label: &str) -> Outcome<Option<(TenantId, DataAdapters)>> {
    let tenant = trial.provisioned(label).await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "before").await.doing("insert")?;
    if trial.capabilities().transactions {
        return Ok(Some((tenant, data)));
    }
    expect_refusal(data.begin().await, ErrorKind::Unsupported, "begin")?;
    let ran = Arc::new(AtomicBool::new(false));
    let closure_ran = Arc::clone(&ran);
    let answer = data
        .transaction(|transaction| {
            Box::pin(async move {
                closure_ran.store(true, Ordering::SeqCst);
                probe::insert(transaction, 2, "unsupported").await
            })
        })
        .await;
    match answer {
        Err(TransactionError::Connection(error)) => {
            expect_refusal::<()>(Err(error), ErrorKind::Unsupported, "transaction")?;
        }
        other => return Err(Fault::new(format!("an unsupported transaction answered {other:?}"))),
    }
    ensure!(!ran.load(Ordering::SeqCst), "the closure of an unsupported transaction was run");
    trial.expect_rows(&tenant, &[row(1, "before")], "after an unsupported transaction").await?;
    Ok(None)
}

pub(crate) async fn a_commit_lasts(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "commit").await? else { return Ok(()) };
    let transaction = data.begin().await.doing("begin")?;
    probe::insert(&transaction, 2, "committed").await.doing("insert in a transaction")?;
    let inside = probe::rows(&transaction).await.doing("select in a transaction")?.len();
    ensure!(inside == 2, "a transaction sees {inside} rows, its own not among them");
    transaction.commit().await.doing("commit")?;
    let expected = [row(1, "before"), row(2, "committed")];
    trial.expect_rows(&tenant, &expected, "after a commit").await?;

    let answer = data
        .transaction::<_, i64, DbErr>(|transaction| {
            Box::pin(async move {
                let backend = probe::backend(transaction);
                let statement = probe::returning_insertion(backend, 3, "closure");
                let returned = transaction.query_one_raw(statement).await?;
                returned.map_or(Ok(0), |row| row.try_get("", "id"))
            })
        })
        .await;
    ensure!(matches!(answer, Ok(3)), "a transaction whose closure answers 3 answered {answer:?}");
    let expected = [row(1, "before"), row(2, "committed"), row(3, "closure")];
    trial.expect_rows(&tenant, &expected, "after a transaction by closure").await
}

pub(crate) async fn an_open_transaction_is_seen_by_nobody_else(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "unseen").await? else { return Ok(()) };
    let other = trial.open(&tenant).await?;
    let transaction = data.begin().await.doing("begin")?;
    probe::insert(&transaction, 2, "open").await.doing("insert in a transaction")?;
    let before = [row(1, "before")];
    for (name, seen) in [
        ("another handle", probe::rows(&other).await),
        ("the same handle", probe::rows(&data).await),
        ("a read handle", probe::rows(&data.read()).await),
    ] {
        let seen = seen.doing(&format!("a select of {name} beside a transaction"))?;
        ensure!(seen == before, "{name} sees rows of an open transaction: {seen:?}");
    }
    transaction.rollback().await.doing("rollback")?;
    trial.expect_rows(&tenant, &before, "after a rollback").await
}

pub(crate) async fn a_rollback_leaves_nothing(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "rollback").await? else { return Ok(()) };
    let transaction = data.begin().await.doing("begin")?;
    probe::insert(&transaction, 2, "gone").await.doing("insert in a transaction")?;
    transaction.execute_unprepared("DELETE FROM mt_probe WHERE id = 1").await.doing("delete")?;
    transaction.rollback().await.doing("rollback")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after a rollback").await?;
    probe::insert(&data, 2, "after").await.doing("insert after a rollback")?;
    let expected = [row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after a rollback and an insert").await
}

pub(crate) async fn a_dropped_transaction_leaves_nothing(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "dropped").await? else { return Ok(()) };
    // More often than a pool has connections.
    for id in 2..20 {
        let transaction = data.begin().await.doing("begin after a dropped transaction")?;
        probe::insert(&transaction, id, "gone").await.doing("insert in a transaction")?;
        drop(transaction);
    }
    probe::insert(&data, 2, "after").await.doing("insert after dropped transactions")?;
    let expected = [row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after dropped transactions").await
}

pub(crate) async fn an_error_in_a_transaction_rolls_it_back(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "failing").await? else { return Ok(()) };
    let answer = data
        .transaction::<_, (), DbErr>(|transaction| {
            Box::pin(async move {
                probe::insert(transaction, 2, "gone").await?;
                Err(DbErr::Custom("the application's own".to_owned()))
            })
        })
        .await;
    ensure!(
        matches!(answer, Err(TransactionError::Transaction(DbErr::Custom(_)))),
        "a transaction whose closure failed answered {answer:?}"
    );
    trial.expect_rows(&tenant, &[row(1, "before")], "after a closure that failed").await?;
    let answer = data
        .transaction::<_, (), DbErr>(|transaction| {
            Box::pin(async move {
                probe::insert(transaction, 2, "gone").await?;
                probe::insert(transaction, 1, "twice").await
            })
        })
        .await;
    ensure!(answer.is_err(), "a transaction whose statement failed succeeded");
    trial.expect_rows(&tenant, &[row(1, "before")], "after a statement that failed").await
}

pub(crate) async fn a_transaction_ended_by_the_engine_is_over(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "ended").await? else { return Ok(()) };
    // What makes the engine end it: SQLite must be told, PostgreSQL does so on any fault.
    let text = match probe::backend(&data) {
        DbBackend::Sqlite => "INSERT OR ROLLBACK INTO mt_probe (id, note) VALUES (1, 'twice')",
        _ => "INSERT INTO mt_probe (id, note) VALUES (1, 'twice')",
    };
    for goes_on in [true, false] {
        let transaction = data.begin().await.doing("begin")?;
        probe::insert(&transaction, 2, "gone").await.doing("insert in a transaction")?;
        ensure!(transaction.execute_unprepared(text).await.is_err(), "`{text}` succeeded");
        if goes_on {
            let alone = probe::insert(&transaction, 3, "alone").await;
            ensure!(alone.is_err(), "an insert succeeded in a transaction that is over");
        }
        let committed = transaction.commit().await;
        ensure!(committed.is_err(), "the commit of a transaction that is over succeeded");
        trial.expect_rows(&tenant, &[row(1, "before")], "after the engine ended it").await?;
    }
    probe::insert(&data, 2, "after").await.doing("insert after the engine ended one")?;
    let mut expected = vec![row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after the engine ended one and an insert").await?;

    // Whoever uses the same connection next, and rolls back, leaves nothing open either.
    let statement = Statement::from_string(probe::backend(&data), text);
    for id in 3..8 {
        let ended = data.batch(vec![statement.clone()]).await;
        ensure!(ended.is_err(), "a batch of `{text}` succeeded");
        let next = data.begin().await.doing("begin after the engine ended one")?;
        probe::insert(&next, 9, "gone").await.doing("insert in a transaction")?;
        next.rollback().await.doing("rollback after the engine ended one")?;
        probe::insert(&data, id, "kept").await.doing("insert after a rollback")?;
        expected.push(row(id, "kept"));
        trial.expect_rows(&tenant, &expected, "after a rollback and an insert").await?;
    }
    Ok(())
}

pub(crate) async fn a_savepoint_is_rolled_back_alone(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data)) = start(trial, "savepoint").await? else { return Ok(()) };
    let outer = data.begin().await.doing("begin")?;
    probe::insert(&outer, 2, "outer").await.doing("insert in a transaction")?;
    let mut expected = vec![row(1, "before"), row(2, "outer")];
    if trial.capabilities().savepoints {
        nest(&outer).await?;
        expected.extend([row(5, "kept"), row(6, "outer")]);
    } else {
        let inner = outer.begin().await;
        expect_refusal(inner, ErrorKind::Unsupported, "begin in a transaction")?;
    }
    outer.commit().await.doing("commit of the outer transaction")?;
    trial.expect_rows(&tenant, &expected, "after transactions in a transaction").await
}

/// Rolls back one transaction in `outer`, drops one, and commits one; then goes on with `outer`.
async fn nest(outer: &DataTransaction) -> Outcome {
    let inner = outer.begin().await.doing("begin in a transaction")?;
    probe::insert(&inner, 3, "gone").await.doing("insert in a savepoint")?;
    inner.rollback().await.doing("rollback of a savepoint")?;
    let inner = outer.begin().await.doing("begin in a transaction")?;
    probe::insert(&inner, 4, "gone").await.doing("insert in a savepoint")?;
    drop(inner);
    let inner = outer.begin().await.doing("begin in a transaction")?;
    probe::insert(&inner, 5, "kept").await.doing("insert in a savepoint")?;
    inner.commit().await.doing("commit of a savepoint")?;
    probe::insert(outer, 6, "outer").await.doing("insert after savepoints")
}
