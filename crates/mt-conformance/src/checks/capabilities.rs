use futures_util::{StreamExt as _, TryStreamExt as _};
use mt_core::{Capabilities, Connection, DataAdapters, ErrorKind, MaintenanceMode, TenantId};
use sea_orm::{
    ConnectionTrait as _, DbBackend, Statement, StreamTrait as _, TransactionOptions,
    TransactionSession as _, TransactionTrait as _, Value,
};

use crate::{
    checks::{
        backup::{backup_is_missing, copy, made_up, restore, restore_is_missing},
        read::expect_refused_by,
    },
    fault::{Doing as _, Fault, Outcome, ensure, expect_kind, expect_refusal},
    probe::{self, row},
    trial::Trial,
};

pub(crate) async fn capabilities_are_true(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("capable").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "before").await.doing("insert")?;
    let capabilities = trial.capabilities();
    ensure!(capabilities == trial.capabilities(), "the capabilities change from call to call");

    transactions(&capabilities, &data).await?;
    streaming(&capabilities, &data).await?;
    let read = data.read().execute_unprepared("DELETE FROM mt_probe").await.map(drop);
    expect_refused_by(capabilities.read_only, read, "a delete on a read handle")?;
    limits(&capabilities, &data).await?;
    transactional_ddl(trial, &tenant).await?;
    exclusive_maintenance(trial, &tenant, &data).await?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after trying statements").await?;
    backup_and_restore(trial, &tenant, &data).await?;
    suspend(trial, &tenant).await?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after trying every capability").await
}

async fn transactions(capabilities: &Capabilities, data: &DataAdapters) -> Outcome {
    if !capabilities.transactions {
        ensure!(!capabilities.savepoints, "savepoints are claimed without transactions");
        return expect_refusal(data.begin().await, ErrorKind::Unsupported, "begin");
    }
    let outer = data.begin().await.doing("begin")?;
    let inner = outer.begin().await;
    if capabilities.savepoints {
        let inner = inner.doing("begin in a transaction")?;
        probe::insert(&inner, 2, "gone").await.doing("insert in a savepoint")?;
        inner.rollback().await.doing("rollback of a savepoint")?;
    } else {
        expect_refusal(inner, ErrorKind::Unsupported, "begin in a transaction")?;
    }
    outer.commit().await.doing("commit")
}

/// The row that cannot be computed, far behind the first.
const FAULTY: i64 = 20_000;

/// A stream of rows of which a late one fails: row by row the first arrives before that is known.
async fn streaming(capabilities: &Capabilities, data: &DataAdapters) -> Outcome {
    let backend = probe::backend(data);
    let late_fault = match backend {
        DbBackend::Postgres => format!("1 / ({FAULTY} - i)"),
        // The one integer without a positive counterpart.
        _ => format!("abs(CASE WHEN i = {FAULTY} THEN -9223372036854775807 - 1 ELSE i END)"),
    };
    let text = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * {FAULTY}) \
         SELECT {late_fault} AS id FROM n"
    );
    let rows = async {
        let stream = data.stream_raw(Statement::from_string(backend, text)).await?;
        Ok::<_, sea_orm::DbErr>(stream.map_ok(drop).collect::<Vec<_>>().await)
    };
    let (arrived, failed) = match rows.await {
        Ok(rows) => {
            (rows.iter().filter(|row| row.is_ok()).count(), rows.iter().any(Result::is_err))
        }
        Err(_) => (0, true),
    };
    ensure!(failed, "a stream with a row that cannot be computed delivered {arrived} rows");
    ensure!(
        capabilities.streaming == (arrived > 0),
        "streaming is said to be {}, and {arrived} rows arrived before a row that fails",
        capabilities.streaming
    );
    Ok(())
}

/// What `None` promises of [`Capabilities::max_bound_parameters`].
const PARAMETERS: u32 = 32_766;
/// What `None` promises of [`Capabilities::max_statement_bytes`].
const STATEMENT_BYTES: u64 = 1_000_000;

async fn limits(capabilities: &Capabilities, data: &DataAdapters) -> Outcome {
    let backend = probe::backend(data);
    let parameters = capabilities.max_bound_parameters.unwrap_or(PARAMETERS);
    let marks: Vec<String> = (1..=parameters)
        .map(|number| match backend {
            DbBackend::Postgres => format!("${number}"),
            _ => "?".to_owned(),
        })
        .collect();
    let text = format!("SELECT COUNT(*) AS n FROM mt_probe WHERE id IN ({})", marks.join(", "));
    let values = (1..=parameters).map(|number| Value::from(i64::from(number)));
    let found = data
        .query_one_raw(Statement::from_sql_and_values(backend, text, values))
        .await
        .doing(&format!("a statement of {parameters} parameters"))?;
    let found = found.map(|row| row.try_get::<i64>("", "n")).transpose().doing("decoding")?;
    ensure!(found == Some(1), "a statement of {parameters} parameters counts {found:?} rows");

    let bytes = capabilities.max_statement_bytes.unwrap_or(STATEMENT_BYTES);
    let (before, after) = ("SELECT LENGTH('", "') AS n");
    let fixed = before.len() + after.len();
    let Some(padding) = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_sub(fixed))
    else {
        return Err(Fault::new(format!("max_statement_bytes is {bytes}")));
    };
    let text = format!("{before}{}{after}", "x".repeat(padding));
    let found = data
        .query_one_raw(Statement::from_string(backend, text))
        .await
        .doing(&format!("a statement of {bytes} bytes"))?;
    let length = found.map(|row| row.try_get::<i32>("", "n")).transpose().doing("decoding")?;
    let length = length.and_then(|length| usize::try_from(length).ok());
    ensure!(length == Some(padding), "a text of {padding} bytes arrived as {length:?}");
    Ok(())
}

/// Rolls back a `CREATE TABLE`, on a connection with the right to run it.
async fn transactional_ddl(trial: &Trial<'_>, tenant: &TenantId) -> Outcome {
    let capabilities = trial.capabilities();
    let opened = trial.factory().maintain(tenant, MaintenanceMode::Shared).await;
    let maintenance = opened.doing("maintain")?;
    let connection = maintenance.connection();
    let undone = if capabilities.transactions {
        undone_by_rollback(connection).await
    } else {
        undone_by_batch(connection).await
    };
    maintenance.close().await;
    let undone = undone?;
    ensure!(
        undone == capabilities.transactional_ddl,
        "transactional_ddl is said to be {}, and a table made in a transaction that was undone \
         {} there",
        capabilities.transactional_ddl,
        if undone { "is not" } else { "is" }
    );
    Ok(())
}

/// Sees that it is `Unsupported` or is not; what it does is a check of its own.
async fn exclusive_maintenance(
    trial: &Trial<'_>,
    tenant: &TenantId,
    data: &DataAdapters,
) -> Outcome {
    let answer = trial.factory().maintain(tenant, MaintenanceMode::Exclusive).await;
    if !trial.capabilities().exclusive_maintenance {
        expect_kind(answer, ErrorKind::Unsupported, "exclusive maintenance")?;
        ensure!(!data.is_revoked(), "unsupported exclusive maintenance revoked a handle");
        return Ok(());
    }
    match answer {
        Ok(maintenance) => {
            maintenance.close().await;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::InUse => Ok(()),
        Err(error) => Err(error).doing("exclusive maintenance"),
    }
}

const UNDONE: &str = "mt_probe_undone";

async fn undone_by_rollback(connection: &Connection) -> Outcome<bool> {
    let statement = connection.backend().build(&probe::table_called(UNDONE));
    let refused = match connection {
        Connection::SeaOrm(connection) => {
            let transaction = connection.begin().await.doing("begin in maintenance")?;
            let run = transaction.execute_raw(statement).await;
            transaction.rollback().await.doing("rollback in maintenance")?;
            run.is_err()
        }
        Connection::Driver(driver) => {
            let begun = driver.begin(TransactionOptions::default()).await;
            let transaction = begun.doing("begin in maintenance")?;
            let run = transaction.execute(statement).await;
            transaction.rollback().await.doing("rollback in maintenance")?;
            run.is_err()
        }
    };
    // A schema change that a transaction refuses takes no part in it either.
    Ok(!refused && !has_undone(connection).await)
}

async fn undone_by_batch(connection: &Connection) -> Outcome<bool> {
    let backend = connection.backend();
    let Connection::Driver(driver) = connection else {
        return Err(Fault::new("a connection of SeaORM's own is said to have no transactions"));
    };
    let nonsense = Statement::from_string(backend, "INSERT INTO mt_probe_missing VALUES (1)");
    let batch = vec![backend.build(&probe::table_called(UNDONE)), nonsense];
    ensure!(driver.batch(batch).await.is_err(), "a batch with a failing statement succeeded");
    Ok(!has_undone(connection).await)
}

async fn has_undone(connection: &Connection) -> bool {
    let select = Statement::from_string(connection.backend(), format!("SELECT id FROM {UNDONE}"));
    connection.query(select).await.is_ok()
}

/// Takes a copy of the row 1 and puts it back, or sees that it cannot be done.
async fn backup_and_restore(trial: &Trial<'_>, tenant: &TenantId, data: &DataAdapters) -> Outcome {
    let taken = if backup_is_missing(trial, tenant).await? {
        made_up(data)
    } else {
        copy(trial, tenant).await?
    };
    if restore_is_missing(trial, tenant, &taken).await? {
        return Ok(());
    }
    if trial.capabilities().backup {
        let options = mt_core::RestoreOptions::default();
        return restore(trial.factory(), tenant, &taken, options).await.doing("restore");
    }
    Ok(())
}

async fn suspend(trial: &Trial<'_>, tenant: &TenantId) -> Outcome {
    let factory = trial.factory();
    if trial.capabilities().suspend {
        factory.suspend(tenant).await.doing("suspend")?;
        return factory.activate(tenant).await.doing("activate");
    }
    expect_kind(factory.suspend(tenant).await, ErrorKind::Unsupported, "suspend")?;
    expect_kind(factory.activate(tenant).await, ErrorKind::Unsupported, "activate").map(drop)
}
