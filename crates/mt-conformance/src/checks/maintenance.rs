use std::time::Duration;

use futures_util::future::BoxFuture;
use mt_core::{ErrorKind, MaintenanceMode, RestoreOptions, TenantId};
use sea_orm::ConnectionTrait as _;

use crate::{
    checks::{
        backup::{copy, restore},
        removal::expect_revoked,
    },
    fault::{Doing as _, Fault, Outcome, Told as _, ensure, expect_kind},
    probe::{self, row},
    trial::Trial,
};

/// How long a call that should be kept out is watched. One that waits is as good as one that
/// answers `InUse`, and cannot be told from it any sooner.
const WATCHED: Duration = Duration::from_secs(3);

pub(crate) async fn maintenance_changes_the_schema(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.tenant("maintained")?;
    trial.factory().provision(&tenant).await.doing("provision")?;
    let names = ["mt_probe_first", "mt_probe_second"];
    for (&mode, name) in trial.maintenance_modes().iter().zip(names) {
        let maintenance = trial.factory().maintain(&tenant, mode).await.doing("maintain")?;
        let stamp = maintenance.stamp().clone();
        let connection = maintenance.connection();
        let statement = connection.backend().build(&probe::table_called(name));
        let made = probe::execute(connection, statement).await;
        maintenance.close().await;
        made.doing("CREATE TABLE in maintenance")?;
        ensure!(stamp.tenant == tenant, "maintenance carries the stamp of {}", stamp.tenant);

        let data = trial.open(&tenant).await?;
        ensure!(stamp == *data.stamp(), "maintenance tells {stamp:?}, {data:?} another stamp");
        let insert = format!("INSERT INTO {name} (id, note) VALUES (1, 'a')");
        data.execute_unprepared(&insert).await.doing("insert into a table made in maintenance")?;
        data.close(Duration::from_secs(30)).await.doing("closing a handle")?;
    }
    Ok(())
}

pub(crate) async fn maintenance_keeps_deprovision_and_restore_out(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("busy").await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    data.close(Duration::from_secs(30)).await.doing("closing a handle")?;
    let capabilities = trial.capabilities();
    if capabilities.backup && capabilities.restore {
        let taken = copy(trial, &tenant).await?;
        let call = restore(trial.factory(), &tenant, &taken, RestoreOptions::default());
        stays_out(trial, &tenant, "restore", Box::pin(call)).await?;
        trial.expect_rows(&tenant, &[row(1, "kept")], "after restore met maintenance").await?;
    }
    let call = trial.factory().deprovision(&tenant);
    if stays_out(trial, &tenant, "deprovision", call).await? {
        return trial.expect_absent(&tenant).await;
    }
    trial.expect_rows(&tenant, &[row(1, "kept")], "after deprovision answered InUse").await
}

/// Runs `call` while `tenant` is in maintenance. It answers `InUse`, or waits for the end of the
/// maintenance and then succeeds: `true`.
async fn stays_out(
    trial: &Trial<'_>,
    tenant: &TenantId,
    name: &str,
    mut call: BoxFuture<'_, mt_core::Result<()>>,
) -> Outcome<bool> {
    let maintenance =
        trial.factory().maintain(tenant, MaintenanceMode::Shared).await.doing("maintain")?;
    let early = tokio::time::timeout(WATCHED, &mut call).await;
    let connection = maintenance.connection();
    let select = connection.backend().build(&probe::selection());
    let read = connection.query(select).await;
    maintenance.close().await;
    let rows = read.doing(&format!("a select in maintenance after {name} was tried"))?.len();
    ensure!(rows == 1, "in maintenance, {rows} of 1 rows are left after {name} was tried");
    match early {
        Ok(Ok(())) => Err(Fault::new(format!("{name} succeeded during maintenance"))),
        Ok(Err(error)) if error.kind() == ErrorKind::InUse => Ok(false),
        Ok(Err(error)) => {
            Err(Fault::new(format!("{name} during maintenance failed with {}", error.told())))
        }
        Err(_waits) => match call.await {
            Err(error) if error.kind() != ErrorKind::InUse => {
                Err(Fault::new(format!("{name} after maintenance failed with {}", error.told())))
            }
            answer => Ok(answer.is_ok()),
        },
    }
}

pub(crate) async fn exclusive_maintenance_keeps_others_out(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("alone").await?;
    let factory = trial.factory();
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    match factory.maintain(&tenant, MaintenanceMode::Exclusive).await {
        answer if !trial.capabilities().exclusive_maintenance => {
            expect_kind(answer, ErrorKind::Unsupported, "exclusive maintenance")?;
            ensure!(!data.is_revoked(), "unsupported exclusive maintenance revoked a handle");
        }
        Err(error) if error.kind() == ErrorKind::InUse => {
            ensure!(error.is_transient(), "InUse says that it is not transient");
        }
        Err(error) => {
            return Err(Fault::new(format!("exclusive maintenance failed with {}", error.told())));
        }
        Ok(maintenance) => {
            let revoked = expect_revoked(&data).await;
            let opened = factory.get_adapters(&tenant).await;
            let second = factory.maintain(&tenant, MaintenanceMode::Shared).await;
            maintenance.close().await;
            revoked?;
            expect_kind(opened, ErrorKind::InUse, "get_adapters during exclusive maintenance")?;
            expect_kind(second, ErrorKind::InUse, "maintain during exclusive maintenance")?;
        }
    }
    drop(data);
    trial.expect_rows(&tenant, &[row(1, "kept")], "after exclusive maintenance").await
}
