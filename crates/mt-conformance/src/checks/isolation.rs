use futures_util::future::try_join_all;
use mt_core::{RestoreOptions, TenantId};

use crate::{
    checks::{
        backup::{copy, restore},
        lifecycle::provision_all,
        removal::expect_not_found,
    },
    fault::{Doing as _, Outcome, ensure},
    probe::{self, row},
    subject::tail,
    trial::Trial,
};

pub(crate) async fn tenants_do_not_see_each_other(trial: &Trial<'_>) -> Outcome {
    const TENANTS: usize = 6;
    const ROUNDS: i64 = 5;
    let tenants =
        (0..TENANTS).map(|_| trial.tenant("isolated")).collect::<Outcome<Vec<TenantId>>>()?;
    provision_all(trial, &tenants).await?;
    let handles = try_join_all(tenants.iter().map(|tenant| trial.open(tenant))).await?;
    // Interleaved, so that a connection that is passed on from one to the next shows.
    for id in 1..=ROUNDS {
        let writes = handles.iter().map(async |data| {
            probe::insert(data, id, data.tenant().as_str()).await.doing("insert")
        });
        try_join_all(writes).await?;
    }
    for (tenant, data) in tenants.iter().zip(&handles) {
        let expected: Vec<_> = (1..=ROUNDS).map(|id| row(id, tenant.as_str())).collect();
        for seen in [probe::rows(data).await, probe::rows(&data.read()).await] {
            let seen = seen.doing("select")?;
            ensure!(seen == expected, "the handle of {tenant} sees {seen:?}");
        }
        trial.expect_rows(tenant, &expected, &format!("of {tenant}")).await?;
    }
    Ok(())
}

pub(crate) async fn ids_that_look_alike_have_their_own_databases(trial: &Trial<'_>) -> Outcome {
    let tail = tail();
    let upper = tail.to_uppercase();
    let long = format!("{tail}{}", "l".repeat(TenantId::MAX_BYTES - tail.len() - 1));
    let ids = [
        format!("a{tail}"),
        format!("A{tail}"),
        format!("a{tail}-"),
        format!("a{tail}--"),
        format!("a{tail}_"),
        format!("a-{tail}"),
        format!("a_{tail}"),
        format!("a--{tail}"),
        format!("a-_{tail}"),
        format!("tenant_{tail}"),
        format!("tenant-{upper}x"),
        format!("tenant-{tail}X"),
        format!("tenant-{tail}x"),
        format!("a{tail}--g2"),
        format!("a{tail}--h{}", "a".repeat(26)),
        format!("{long}1"),
        format!("{long}2"),
        format!("{}1", long.to_uppercase()),
        format!("{long}-"),
    ];
    let tenants =
        ids.iter().map(|id| trial.tenant_called(id)).collect::<Outcome<Vec<TenantId>>>()?;
    provision_all(trial, &tenants).await?;
    for tenant in &tenants {
        let data = trial.open(tenant).await?;
        probe::insert(&data, 1, tenant.as_str()).await.doing("insert")?;
    }
    for tenant in &tenants {
        trial.expect_rows(tenant, &[row(1, tenant.as_str())], &format!("of {tenant}")).await?;
    }
    Ok(())
}

/// A tenant, and others whose ids look like what a codec adds to its name.
fn with_neighbours(trial: &Trial<'_>) -> Outcome<(TenantId, Vec<TenantId>)> {
    let id = format!("n{}", tail());
    let neighbours = ["--g1", "--g2", "-g2", "_2", "-wal", "-shm", "-lock", "--hg2"]
        .iter()
        .map(|suffix| trial.tenant_called(&format!("{id}{suffix}")))
        .collect::<Outcome<_>>()?;
    Ok((trial.tenant_called(&id)?, neighbours))
}

async fn write_ids(trial: &Trial<'_>, tenants: &[TenantId]) -> Outcome {
    for tenant in tenants {
        let data = trial.open(tenant).await?;
        probe::insert(&data, 1, tenant.as_str()).await.doing("insert")?;
    }
    Ok(())
}

async fn expect_ids(trial: &Trial<'_>, tenants: &[TenantId], when: &str) -> Outcome {
    for tenant in tenants {
        trial.expect_rows(tenant, &[row(1, tenant.as_str())], when).await?;
    }
    Ok(())
}

pub(crate) async fn a_neighbour_is_not_removed_with_it(trial: &Trial<'_>) -> Outcome {
    let (tenant, neighbours) = with_neighbours(trial)?;
    trial.provision(&tenant).await?;
    provision_all(trial, &neighbours).await?;
    write_ids(trial, &neighbours).await?;
    trial.factory().deprovision(&tenant).await.doing("deprovision")?;
    expect_not_found(trial, &tenant).await?;
    expect_ids(trial, &neighbours, "after its neighbour was removed").await?;

    // And the other way round.
    trial.provision(&tenant).await?;
    write_ids(trial, std::slice::from_ref(&tenant)).await?;
    for neighbour in &neighbours {
        trial.factory().deprovision(neighbour).await.doing("deprovision")?;
        expect_not_found(trial, neighbour).await?;
    }
    expect_ids(trial, &[tenant], "after its neighbours were removed").await
}

pub(crate) async fn a_later_generation_is_no_neighbours_database(trial: &Trial<'_>) -> Outcome {
    let capabilities = trial.capabilities();
    let (tenant, neighbours) = with_neighbours(trial)?;
    trial.provision(&tenant).await?;
    provision_all(trial, &neighbours).await?;
    write_ids(trial, std::slice::from_ref(&tenant)).await?;
    write_ids(trial, &neighbours).await?;
    // Without restore every generation is the first, and the neighbours' own data says it all.
    if capabilities.backup && capabilities.restore {
        for _ in 0..2 {
            let taken = copy(trial, &tenant).await?;
            let options = RestoreOptions::default();
            restore(trial.factory(), &tenant, &taken, options).await.doing("restore")?;
        }
    }
    expect_ids(trial, &neighbours, "after its neighbour was restored").await?;
    expect_ids(trial, &[tenant], "after it was restored").await
}
