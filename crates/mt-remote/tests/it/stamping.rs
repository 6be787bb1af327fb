//! A stamp that goes in front of the first write.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use mt_core::{DeploymentId, Driver as _, Generation, Stamp, TenantId};
use mt_remote::{Decoder, RemoteDriver, Stamping};
use sea_orm::{DbBackend, Statement};

use crate::local::Local;

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

/// How many stamps are in the database, and `None` before their table is there.
async fn stamps(stamping: &Stamping) -> Option<usize> {
    let stamps = stamping.stream(statement("SELECT tenant FROM _mt_tenant"));
    stamps.try_collect::<Vec<_>>().await.ok().map(|rows| rows.len())
}

#[tokio::test]
async fn a_stream_that_writes_stamps_first() {
    let folder = tempfile::tempdir().unwrap();
    let driver = RemoteDriver::new(Local::open(&folder.path().join("db")), Decoder::new(1));
    let tenant = TenantId::new("acme").unwrap();
    let stamp = Stamp::new(DeploymentId::random(), &tenant, Generation::FIRST);
    let stamping = Stamping::new(Arc::new(driver), &stamp, None);

    let mut reading = stamping.stream(statement("SELECT 1"));
    assert!(reading.next().await.unwrap().is_ok());
    drop(reading);
    assert_eq!(stamps(&stamping).await, None);

    let mut writing = stamping.stream(statement("CREATE TABLE t (id)"));
    assert!(writing.next().await.is_none());
    drop(writing);
    assert_eq!(stamps(&stamping).await, Some(1));
}
