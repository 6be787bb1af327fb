//! Two engines in one process: two installations, each with tenants of the same names.

use mt_control::RestoreAs;
use mt_core::{ErrorKind, TenantState};
use mt_tests::Installation;

use crate::{
    support::{NOTES, runner, tenant},
    turso_support::{Cloud, listed, note, notes},
};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_one_name_on_two_engines_are_two_tenants() {
    let cloud = Cloud::start().await;
    let files = Installation::new().unwrap();
    let remote = cloud.open(runner([NOTES])).await;
    let local = files.open_with(runner([NOTES]), |isolation| isolation).await.unwrap();
    let both = [("turso", &remote), ("sqlite", &local)];
    let ids = ["acme", "globex"].map(tenant);

    for (provider, tenants) in both {
        for id in &ids {
            assert_eq!(tenants.provision(id).await.unwrap().provider, provider);
        }
    }
    let pairs = both.iter().flat_map(|each| ids.iter().map(move |id| (each, id)));
    let writes = pairs.map(async |((provider, tenants), id)| {
        let data = tenants.get_adapters(id).await.unwrap();
        for number in 0..5 {
            note(&data, &format!("{number} of {id} on {provider}")).await;
        }
    });
    futures_util::future::join_all(writes).await;
    for (provider, tenants) in both {
        for id in &ids {
            let expected: Vec<_> = (0..5).map(|n| format!("{n} of {id} on {provider}")).collect();
            assert_eq!(notes(tenants, id).await, expected);
        }
    }

    // What happens to one happens to no other of its name.
    let acme = &ids[0];
    local.suspend(acme).await.unwrap();
    assert_eq!(notes(&remote, acme).await.len(), 5);
    local.activate(acme).await.unwrap();
    remote.deprovision(acme).await.unwrap();
    assert_eq!(notes(&local, acme).await.len(), 5);
    let gone = remote.get_adapters(acme).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::TenantNotFound);
    assert_eq!(listed(&cloud.stranger()).await, ["tenant-globex"]);
    assert_eq!(local.catalog().get(acme).await.unwrap().state, TenantState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_from_one_engine_to_the_other_and_back() {
    let cloud = Cloud::start().await;
    let files = Installation::new().unwrap();
    let remote = cloud.open(runner([NOTES])).await;
    let local = files.open_with(runner([NOTES]), |isolation| isolation).await.unwrap();
    let acme = tenant("acme");
    local.provision(&acme).await.unwrap();
    note(&local.get_adapters(&acme).await.unwrap(), "in a file").await;
    local.suspend(&acme).await.unwrap();
    let there = cloud.path().join("there.tar");
    local.backup(&acme, &there).await.unwrap();

    let moved = remote.restore(&acme, &there, RestoreAs::New(acme.clone())).await.unwrap();
    assert_eq!((moved.state, moved.provider.as_str()), (TenantState::Active, "turso"));
    note(&remote.get_adapters(&acme).await.unwrap(), "on a server").await;
    let back = cloud.path().join("back.tar");
    remote.backup(&acme, &back).await.unwrap();

    // Not over the one that is there: whose rows it would lose, nobody said.
    let refused = local.restore(&acme, &back, RestoreAs::New(acme.clone())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantExists);
    local.deprovision(&acme).await.unwrap();
    local.restore(&acme, &back, RestoreAs::New(acme.clone())).await.unwrap();
    assert_eq!(notes(&local, &acme).await, ["in a file", "on a server"]);
    assert_eq!(notes(&remote, &acme).await, ["in a file", "on a server"]);
}
