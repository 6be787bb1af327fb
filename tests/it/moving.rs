//! A tenant whose database moves while it is being opened.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use mt_control::{MultiTenancy, RestoreAs};
use mt_core::{DataAdapters, DatabaseFactory, Error, ErrorKind, FactoryLayer, Result, TenantId};
use mt_sqlite::SqliteFactory;
use mt_tests::Installation;

use crate::support::{Process, add, notes, tenant};

/// Looks where the database was, once; before it answers, another process may restore the tenant.
#[derive(Debug)]
struct Late {
    inner: SqliteFactory,
    is_late: AtomicBool,
    restored_by: Option<(MultiTenancy, PathBuf)>,
}

#[async_trait]
impl FactoryLayer for Late {
    fn inner(&self) -> &dyn DatabaseFactory {
        &self.inner
    }

    async fn open(&self, tenant: &TenantId) -> Result<DataAdapters> {
        if !self.is_late.swap(false, Ordering::SeqCst) {
            return self.inner.get_adapters(tenant).await;
        }
        if let Some((other, copy)) = &self.restored_by {
            other.restore(tenant, copy, RestoreAs::Same).await?;
        }
        Err(Error::new(ErrorKind::TenantNotFound, "it was there").with_tenant(tenant))
    }

    fn forget(&self, _tenant: &TenantId) {}
}

async fn serving(
    installation: &Installation,
    restored_by: Option<(MultiTenancy, PathBuf)>,
) -> MultiTenancy {
    let late = move |inner| {
        let is_late = AtomicBool::new(true);
        Arc::new(Late { inner, is_late, restored_by }) as Arc<dyn DatabaseFactory>
    };
    Process::of(installation).wrap(late).open().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_restored_while_it_is_opened_is_found_in_its_new_place() {
    let installation = Installation::new().unwrap();
    let other = Process::of(&installation).open().await;
    let acme = tenant("acme");
    other.provision(&acme).await.unwrap();
    add(&other.get_adapters(&acme).await.unwrap(), "before the backup").await.unwrap();
    let copy = installation.path().join("acme.tar");
    other.backup(&acme, &copy).await.unwrap();

    let service = serving(&installation, Some((other, copy))).await;
    let data = service.get_adapters(&acme).await.unwrap();
    assert_eq!(notes(&data).await.unwrap(), ["before the backup"]);
    let placement = service.catalog().get(&acme).await.unwrap().placement;
    assert_eq!(data.stamp().generation, placement.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_did_not_move_stays_gone() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    Process::of(&installation).open().await.provision(&acme).await.unwrap();
    let service = serving(&installation, None).await;
    let gone = service.get_adapters(&acme).await.unwrap_err();
    assert_eq!(
        (gone.kind(), &*gone.to_string()),
        (ErrorKind::TenantNotFound, "it was there (tenant `acme`)")
    );
}
