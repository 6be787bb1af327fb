//! One catalog with tenants of two providers, and programs that run with one of them each.

use mt_control::{
    AccessControl, Catalog, DatabaseIsolation, MigrateAll, MultiTenancy, MultiTenancyBuilder,
    Outcome, RestoreAs,
};
use mt_core::{Error, ErrorKind, TenantState};
use mt_migration::Runner;
use mt_sqlite::SqliteFactory;

use crate::{
    support::{NOTES, runner, sql, tenant},
    turso_support::{Cloud, listed, note, notes},
};

/// A program that runs with `sqlite` on the catalog of `cloud`.
async fn local(cloud: &Cloud, schema: Runner) -> MultiTenancy {
    local_with(cloud, schema, |builder| builder).await
}

async fn local_with(
    cloud: &Cloud,
    schema: Runner,
    settings: impl FnOnce(MultiTenancyBuilder) -> MultiTenancyBuilder,
) -> MultiTenancy {
    let catalog = Catalog::open(cloud.path().join("control.db")).await.unwrap();
    let factory = SqliteFactory::builder()
        .with_directory(cloud.path().join("tenants"))
        .with_context(catalog.context(&schema))
        .build()
        .unwrap();
    let builder = MultiTenancy::builder().with_catalog(catalog).with_schema(schema);
    let builder = builder.with_database_isolation(DatabaseIsolation::new(factory));
    settings(builder).build().await.unwrap()
}

async fn both(cloud: &Cloud) -> (MultiTenancy, MultiTenancy) {
    (cloud.open(runner([NOTES])).await, local(cloud, runner([NOTES])).await)
}

/// No file of a tenant was made.
fn assert_no_files(cloud: &Cloud) {
    let made = std::fs::read_dir(cloud.path().join("tenants"));
    let names: Vec<_> = made.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, Vec::<std::path::PathBuf>::new());
}

fn assert_refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
    for word in ["`acme`", "kept by `turso`", "runs with `sqlite`"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_another_provider_is_not_deprovisioned() {
    let cloud = Cloud::start().await;
    let (remote, local) = both(&cloud).await;
    let acme = tenant("acme");
    let before = remote.provision(&acme).await.unwrap();
    let copy = cloud.path().join("acme.tar");

    assert_refused(&local.deprovision(&acme).await.unwrap_err());
    assert_refused(&local.provision(&acme).await.unwrap_err());
    assert_refused(&local.suspend(&acme).await.unwrap_err());
    assert_refused(&local.activate(&acme).await.unwrap_err());
    assert_refused(&local.backup(&acme, &copy).await.unwrap_err());

    assert!(!copy.exists());
    assert_no_files(&cloud);
    assert_eq!(local.catalog().get(&acme).await.unwrap(), before);
    assert_eq!(listed(&cloud.stranger()).await, ["tenant-acme"]);
    remote.deprovision(&acme).await.unwrap();
    assert!(listed(&cloud.stranger()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_another_provider_is_not_restored_in_place() {
    let cloud = Cloud::start().await;
    let (remote, local) = both(&cloud).await;
    let acme = tenant("acme");
    remote.provision(&acme).await.unwrap();
    let copy = cloud.path().join("acme.tar");
    remote.backup(&acme, &copy).await.unwrap();
    note(&remote.get_adapters(&acme).await.unwrap(), "after the backup").await;
    let before = remote.catalog().get(&acme).await.unwrap();

    assert_refused(&local.restore(&acme, &copy, RestoreAs::Same).await.unwrap_err());
    let again = local.restore(&acme, &copy, RestoreAs::New(acme.clone())).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::TenantExists);

    assert_no_files(&cloud);
    assert_eq!(local.catalog().get(&acme).await.unwrap(), before);
    assert_eq!(notes(&remote, &acme).await, ["after the backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_another_provider_is_shown_and_not_served() {
    let cloud = Cloud::start().await;
    let (remote, local) = both(&cloud).await;
    let acme = tenant("acme");
    let record = remote.provision(&acme).await.unwrap();

    assert_refused(&local.get_adapters(&acme).await.unwrap_err());
    // What was looked up a moment ago is no way in either.
    assert_refused(&local.get_adapters(&acme).await.unwrap_err());
    let status = local.status(&acme).await.unwrap();
    assert!(status.database.is_none() && status.schema.is_none());
    assert!(status.fault.unwrap().contains("kept by `turso`"));
    assert_eq!(local.list().await.unwrap(), [record]);
    assert_no_files(&cloud);
    note(&remote.get_adapters(&acme).await.unwrap(), "served where it is").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_all_skips_tenants_of_another_provider() {
    let cloud = Cloud::start().await;
    let (remote, before) = both(&cloud).await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let there = remote.provision(&acme).await.unwrap();
    before.provision(&globex).await.unwrap();

    let schema = runner([NOTES, sql("m2_tags", "CREATE TABLE tags (id INTEGER PRIMARY KEY)")]);
    let after = local(&cloud, schema).await;
    for options in [
        MigrateAll::default().with_dry_run(true),
        MigrateAll::default(),
        MigrateAll::default().with_verify(true),
    ] {
        let report = after.migrate_all(options).await.unwrap();
        assert_eq!(report.failed().count(), 0);
        let [skipped, done] = report.tenants.as_slice() else { panic!("{report:?}") };
        assert_eq!((&skipped.tenant, &done.tenant), (&acme, &globex));
        let Outcome::Skipped { reason } = &skipped.outcome else { panic!("{skipped:?}") };
        assert!(reason.contains("`turso`") && reason.contains("`sqlite`"), "{reason}");
        assert!(!matches!(done.outcome, Outcome::Skipped { .. }), "{done:?}");
    }
    assert_eq!(after.catalog().get(&acme).await.unwrap(), there);
    let version = after.catalog().get(&globex).await.unwrap().schema_version;
    assert_eq!(version.as_deref(), Some("m2_tags"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_within_one_catalog() {
    let cloud = Cloud::start().await;
    let (remote, local) = both(&cloud).await;
    let acme = tenant("acme");
    local.provision(&acme).await.unwrap();
    note(&local.get_adapters(&acme).await.unwrap(), "in a file").await;
    let copy = cloud.path().join("acme.tar");
    local.backup(&acme, &copy).await.unwrap();
    local.deprovision(&acme).await.unwrap();

    let moved = remote.restore(&acme, &copy, RestoreAs::New(acme.clone())).await.unwrap();
    assert_eq!((moved.state, moved.provider.as_str()), (TenantState::Active, "turso"));
    assert_eq!(notes(&remote, &acme).await, ["in a file"]);
    assert_refused(&local.get_adapters(&acme).await.unwrap_err());

    // And to nowhere, and anew.
    remote.deprovision(&acme).await.unwrap();
    assert_eq!(local.provision(&acme).await.unwrap().provider, "sqlite");
    assert!(notes(&local, &acme).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_tenant_of_another_provider_is_in_nobodys_way() {
    let cloud = Cloud::start().await;
    let remote = cloud.open(runner([NOTES])).await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    remote.provision(&acme).await.unwrap();
    let access = AccessControl { main_tenant_id: acme.clone() };
    let main_is_there = |builder: MultiTenancyBuilder| builder.with_access_control(access);
    let local = local_with(&cloud, runner([NOTES]), main_is_there).await;
    assert_eq!(local.provision(&globex).await.unwrap().provider, "sqlite");
    assert_refused(&local.get_adapters(&acme).await.unwrap_err());
    assert_eq!(listed(&cloud.stranger()).await, ["tenant-acme"]);
}
