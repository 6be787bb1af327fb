//! From the service to a file and back.

use futures_util::TryStreamExt as _;
use mt_core::{DataAdapters, DatabaseFactory, RestoreOptions, TenantId};
use mt_turso::{Authorization, Expiration, TokenScope};
use sea_orm::ConnectionTrait as _;

use super::{
    Both, Site,
    columns::{assert_samples, read, samples},
    raw,
};
use crate::support::tenant;

async fn with_samples(factory: &dyn DatabaseFactory, tenant: &TenantId) -> DataAdapters {
    factory.provision(tenant).await.unwrap();
    let data = factory.get_adapters(tenant).await.unwrap();
    raw::write_samples(&data).await;
    data
}

/// Takes a copy of the tenant's database in `from` and makes it the one in `to`.
async fn carry(from: &dyn DatabaseFactory, to: &dyn DatabaseFactory, tenant: &TenantId) {
    let mut copy = Vec::new();
    let manifest = from.backup(tenant, &mut copy).await.unwrap();
    assert_eq!(manifest.rows["every_column"], samples().len() as u64);
    to.restore(tenant, &manifest, &mut &*copy, RestoreOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_file_has_what_a_backup_of_the_service_has() {
    let site = Site::start().await;
    let (turso, sqlite, tenant) = (site.turso(), site.sqlite(), tenant("acme"));
    let data = with_samples(&turso, &tenant).await;
    assert_samples(&read(&data).await, "on the service");
    carry(&turso, &sqlite, &tenant).await;
    assert_samples(&read(&sqlite.get_adapters(&tenant).await.unwrap()).await, "in the file");
}

#[tokio::test]
async fn the_service_has_what_a_backup_of_a_file_has() {
    let site = Site::start().await;
    let (turso, sqlite, tenant) = (site.turso(), site.sqlite(), tenant("acme"));
    let data = with_samples(&sqlite, &tenant).await;
    assert_samples(&read(&data).await, "in the file");
    carry(&sqlite, &turso, &tenant).await;
    assert_samples(&read(&turso.get_adapters(&tenant).await.unwrap()).await, "on the service");
    let theirs = turso.native_client(&tenant).await.unwrap().connect().unwrap();
    let found = raw::query(&theirs, &raw::select()).await;
    assert_eq!(found.len(), samples().len());
}

#[tokio::test]
async fn a_file_made_of_a_dump_is_the_tenants() {
    let both = Both::open().await;
    let Both { site, factory, tenant, ours, .. } = &both;
    raw::write_samples(ours).await;
    // sqld 0.24.32 dumps such text as it is, and SQLite reads no SQL with a NUL in it: what backups
    // are for.
    let without_nul = "DELETE FROM every_column WHERE instr(text, char(0)) > 0";
    ours.execute_unprepared(without_nul).await.unwrap();
    let expected = read(ours).await;
    assert_eq!(expected.len(), samples().len() - 2);

    let platform = factory.platform();
    let database = format!("tenant-{tenant}");
    let hostname = platform.database(&database).await.unwrap().unwrap().hostname;
    let scope = TokenScope::Database(&database);
    let expiration = Expiration::After(std::time::Duration::from_secs(3_600));
    let token = platform.mint_token(scope, Authorization::ReadOnly, expiration).await.unwrap();
    let pieces = platform.dump(&hostname, &token).await.unwrap();
    let dump: Vec<_> = pieces.try_collect().await.unwrap();
    let dump = String::from_utf8(dump.concat()).unwrap();

    let sqlite = site.sqlite();
    let path = sqlite.database_path(tenant).await.unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(&dump).unwrap();
    file.close().unwrap();
    assert_eq!(read(&sqlite.get_adapters(tenant).await.unwrap()).await, expected);
}
