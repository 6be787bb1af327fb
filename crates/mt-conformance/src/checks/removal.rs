use std::time::Duration;

use futures_util::StreamExt as _;
use mt_core::{DataAdapters, ErrorKind, Result, Step, TenantId};
use sea_orm::{
    ConnectionTrait as _, StreamTrait as _, TransactionSession as _, TransactionTrait as _,
};
use tokio::task::JoinHandle;

use crate::{
    checks::lifecycle::{CANCEL_AFTER, cancel},
    fault::{Doing as _, Fault, Outcome, Told as _, ensure, expect_kind, expect_refusal},
    probe::{self, row},
    trial::{Trial, patiently, within},
};

pub(crate) async fn deprovision_removes_the_database(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("removed").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "old").await.doing("insert")?;
    drop(data);
    let name = trial.factory().describe(&tenant).await.doing("describe")?.name;
    trial.factory().deprovision(&tenant).await.doing("deprovision")?;
    trial.expect_absent(&tenant).await?;
    let listed = trial.listed().await?;
    ensure!(listed.iter().all(|entry| entry.name != name), "list still has {name}");

    trial.factory().provision(&tenant).await.doing("provision after deprovision")?;
    let data = trial.open(&tenant).await?;
    if let Ok(rows) = probe::rows(&data).await {
        return Err(Fault::new(format!("a new database has the old one's table, with {rows:?}")));
    }
    drop(data);
    trial.create(&tenant, &[probe::table()]).await?;
    trial.expect_rows(&tenant, &[], "after deprovision and provision").await
}

pub(crate) async fn deprovision_twice_is_fine(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.tenant("twice")?;
    let factory = trial.factory();
    factory.deprovision(&tenant).await.doing("deprovision of a tenant that never was")?;
    trial.expect_absent(&tenant).await?;
    factory.provision(&tenant).await.doing("provision")?;
    for _ in 0..2 {
        factory.deprovision(&tenant).await.doing("deprovision")?;
        trial.expect_absent(&tenant).await?;
    }
    Ok(())
}

pub(crate) async fn deprovision_revokes_open_handles(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("revoked").await?;
    let handles = [trial.open(&tenant).await?, trial.open(&tenant).await?];
    let read = handles[0].read();
    probe::insert(&handles[0], 1, "old").await.doing("insert")?;
    probe::rows(&read).await.doing("reading")?;
    trial.factory().deprovision(&tenant).await.doing("deprovision with idle handles")?;
    // The same name again, so that a handle that was not revoked would find a database.
    trial.provision(&tenant).await?;
    for data in &handles {
        expect_revoked(&data.clone()).await?;
    }
    let seen = probe::rows(&read).await;
    expect_refusal(seen, ErrorKind::TenantNotActive, "a select through a revoked read handle")?;
    trial.expect_rows(&tenant, &[], "in the tenant's next database").await
}

/// Fails unless every door of `data` is closed.
pub(crate) async fn expect_revoked(data: &DataAdapters) -> Outcome {
    let shut = ErrorKind::TenantNotActive;
    let backend = probe::backend(data);
    ensure!(data.is_revoked(), "a handle of before does not say that it is revoked");
    expect_refusal(probe::insert(data, 7, "late").await, shut, "insert through a revoked handle")?;
    expect_refusal(probe::rows(data).await, shut, "select through a revoked handle")?;
    let batch = data.batch([probe::insertion(backend, 8, "late")]).await;
    expect_refusal(batch, shut, "batch through a revoked handle")?;
    let guarded = data.batch([Step::changes(probe::insertion(backend, 9, "late"), 1)]).await;
    expect_refusal(guarded, shut, "batch with a guard through a revoked handle")?;
    let text = data.execute_unprepared("DELETE FROM mt_probe").await;
    expect_refusal(text, shut, "unprepared text through a revoked handle")?;
    let stream = data.stream_raw(backend.build(&probe::selection())).await;
    expect_refusal(stream, shut, "stream through a revoked handle")?;
    expect_refusal(data.begin().await, shut, "begin through a revoked handle")?;
    expect_refusal(data.ping().await, shut, "ping through a revoked handle")
}

pub(crate) async fn deprovision_waits_for_open_transactions(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("draining").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "before").await.doing("insert")?;
    if !trial.capabilities().transactions {
        return expect_refusal(data.begin().await, ErrorKind::Unsupported, "begin");
    }
    let transaction = data.begin().await.doing("begin")?;
    probe::insert(&transaction, 2, "during").await.doing("insert in a transaction")?;

    let removal = remove_in_background(trial, &tenant);
    wait_until_begun(&data, &removal).await?;
    // Time for a removal that does not wait to come to its end.
    for _ in 0..50 {
        drop(probe::rows(&transaction).await);
        tokio::task::yield_now().await;
    }
    let ended_before = removal.is_finished();
    let committed = transaction.commit().await;
    drop(data);
    match joined(removal).await? {
        Ok(()) if ended_before => {
            Err(Fault::new("deprovision removed the database under an open transaction"))
        }
        Ok(()) => trial.expect_absent(&tenant).await,
        Err(error) if error.kind() == ErrorKind::InUse => {
            let mut expected = vec![row(1, "before")];
            if committed.is_ok() {
                expected.push(row(2, "during"));
            }
            trial.expect_rows(&tenant, &expected, "after deprovision answered InUse").await
        }
        Err(error) => Err(Fault::new(format!("deprovision failed with {}", error.told()))),
    }
}

pub(crate) async fn deprovision_waits_for_open_streams(trial: &Trial<'_>) -> Outcome {
    const ROWS: i64 = 2_000;
    let tenant = trial.provisioned("streaming").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    data.execute_raw(probe::series(backend, ROWS, "row")).await.doing("inserting many rows")?;
    let mut stream =
        data.stream_raw(backend.build(&probe::selection())).await.doing("opening a stream")?;
    let first = stream.next().await;
    ensure!(matches!(first, Some(Ok(_))), "a stream over {ROWS} rows began with {first:?}");

    let removal = remove_in_background(trial, &tenant);
    wait_until_begun(&data, &removal).await?;
    let mut seen = 1;
    while let Some(Ok(_)) = stream.next().await {
        seen += 1;
    }
    let ended_before = removal.is_finished();
    drop(stream);
    drop(data);
    match joined(removal).await? {
        Ok(()) if ended_before => {
            Err(Fault::new("deprovision removed the database under an open stream"))
        }
        Ok(()) => {
            ensure!(seen == ROWS, "the stream that deprovision waited for ended after {seen} rows");
            trial.expect_absent(&tenant).await
        }
        Err(error) if error.kind() == ErrorKind::InUse => {
            let rows = trial.rows(&tenant).await?.len();
            ensure!(
                rows == 2_000,
                "deprovision answered InUse, and {rows} of {ROWS} rows are left"
            );
            Ok(())
        }
        Err(error) => Err(Fault::new(format!("deprovision failed with {}", error.told()))),
    }
}

pub(crate) async fn deprovision_finishes_a_cancelled_one(trial: &Trial<'_>) -> Outcome {
    for limit in CANCEL_AFTER {
        let tenant = trial.provisioned("cancelled").await?;
        cancel(limit, trial.factory().deprovision(&tenant)).await.doing("deprovision")?;
        patiently(|| trial.factory().deprovision(&tenant))
            .await
            .doing("deprovision after a cancelled one")?;
        trial.expect_absent(&tenant).await?;
    }
    Ok(())
}

fn remove_in_background(trial: &Trial<'_>, tenant: &TenantId) -> JoinHandle<Result<()>> {
    let (factory, tenant) = (trial.shared(), tenant.clone());
    tokio::spawn(async move { factory.deprovision(&tenant).await })
}

async fn joined(task: JoinHandle<Result<()>>) -> Outcome<Result<()>> {
    task.await.map_err(|error| Fault::new(format!("deprovision: {error}")))
}

/// Waits until what `task` does has reached `data`, or is over.
async fn wait_until_begun(data: &DataAdapters, task: &JoinHandle<Result<()>>) -> Outcome {
    let begun = async {
        while !data.is_revoked() && !task.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    within(Duration::from_secs(30), begun).await.map_err(|fault| {
        Fault::new(format!("deprovision neither revoked an open handle nor answered: {fault}"))
    })
}

/// Fails unless the tenant's database is gone to everybody who asks for it.
pub(crate) async fn expect_not_found(trial: &Trial<'_>, tenant: &TenantId) -> Outcome {
    let opened = trial.factory().get_adapters(tenant).await;
    expect_kind(opened, ErrorKind::TenantNotFound, "get_adapters").map(drop)
}
