//! States of a tenant's database that the service itself keeps, and its own dump.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use mt_core::{DeploymentId, Driver, Error, ErrorKind, Generation, Result, TenantId};
use mt_remote::Look;
use tokio::io::AsyncWrite;

use crate::{
    D1Factory,
    api::{Bookmark, D1Client, PointInTime},
    budget::Lane,
    factory::told,
};

impl D1Factory {
    /// The state that the tenant's database is in now, for [`D1Factory::restore_in_place`].
    ///
    /// The service keeps states for 30 days (7 on the free plan), and no longer than the database:
    /// [`restore`](mt_core::DatabaseFactory::restore) and `deprovision` end its history. Cost: one
    /// request.
    ///
    /// # Errors
    /// `TenantNotFound`; `Unavailable`.
    pub async fn bookmark(&self, tenant: &TenantId) -> Result<Bookmark> {
        told(tenant, self.bookmark_of(tenant, None).await)
    }

    /// The state that the tenant's database was in at `time`, or right before.
    ///
    /// # Errors
    /// As [`D1Factory::bookmark`]; and the service's, where it keeps no state of that time.
    pub async fn bookmark_at(&self, tenant: &TenantId, time: DateTime<Utc>) -> Result<Bookmark> {
        told(tenant, self.bookmark_of(tenant, Some(time)).await)
    }

    /// Takes the tenant's database back to `point`, in place, and answers the bookmark that takes
    /// that back.
    ///
    /// - Handles of this process are revoked and drained first, as by
    ///   [`restore`](mt_core::DatabaseFactory::restore); the service cancels what others run. What
    ///   others write from then on is written to the state that was gone back to.
    /// - The stamp is checked before and after. A state from before the database was the tenant's,
    ///   or of another generation, is gone back from at once.
    /// - **The schema is the one of that time.** Migrate the tenant afterwards; until then the
    ///   catalog's version of it is wrong (`--verify` corrects it).
    /// - Cancelling does not end it once it has begun.
    ///
    /// Cost: four requests. The service allows 10 in 10 minutes for a database.
    ///
    /// # Errors
    /// | kind | when | transient |
    /// |---|---|---|
    /// | `ForeignDatabase` | the database is not this tenant's; or was not at `point`, and is as it was before | no |
    /// | `InUse` | a transaction or a backup still uses it; nothing was done | yes |
    /// | `OutcomeUnknown` | the answer was lost; the error names the bookmark that takes it back | no |
    pub async fn restore_in_place(
        &self,
        tenant: &TenantId,
        point: &PointInTime,
    ) -> Result<Bookmark> {
        told(tenant, self.go_back(tenant, point).await)
    }

    /// Writes the service's own dump of the tenant's database to `sink`, as SQL text, and tells how
    /// many bytes it has.
    ///
    /// For what reads such dumps. It is no [`backup`](mt_core::DatabaseFactory::backup): the
    /// database answers nobody while it is made, databases with virtual tables are refused, and
    /// integers beyond 2^53 are not exact in it.
    ///
    /// # Errors
    /// As [`D1Client::export`]; `ForeignDatabase`: the database is not this tenant's.
    pub async fn export(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let exported = async {
            let _lock = self.locks.shared(tenant, self.config.drain_timeout()).await?;
            let place = self.locate(tenant).await?;
            let (stamp, _) = self.look_at(&place).await?.stamped(tenant)?;
            stamp.check(self.context.deployment, tenant, place.generation)?;
            self.client.export(&place.uuid, sink).await
        };
        told(tenant, exported.await)
    }

    async fn bookmark_of(
        &self,
        tenant: &TenantId,
        time: Option<DateTime<Utc>>,
    ) -> Result<Bookmark> {
        let place = self.locate(tenant).await?;
        self.forgetting(&place, self.client.bookmark(&place.uuid, time).await)
    }

    async fn go_back(&self, tenant: &TenantId, point: &PointInTime) -> Result<Bookmark> {
        let wait = self.config.drain_timeout();
        let turn = self.restores.exclusive(tenant, wait).await?;
        let revoked = self.handles.revoke(tenant, wait).await?;
        let lock = self.locks.exclusive(tenant, wait).await?;
        let place = self.locate(tenant).await?;
        let going = Going {
            client: self.client.clone(),
            driver: self.driver(&place, Lane::Control),
            uuid: Arc::clone(&place.uuid),
            deployment: self.context.deployment,
            tenant: tenant.clone(),
            generation: place.generation,
        };
        let point = point.clone();
        // A task of its own: whoever asked may give up, but the stamp is looked at.
        let gone = tokio::spawn(async move {
            let gone = going.run(&point).await;
            drop((turn, lock, revoked));
            gone
        });
        let gone = gone
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "a task ended early").with_source(e))?;
        self.forgetting(&place, gone)
    }
}

/// A database on its way back.
struct Going {
    client: D1Client,
    driver: Arc<dyn Driver>,
    uuid: Arc<str>,
    deployment: DeploymentId,
    tenant: TenantId,
    generation: Generation,
}

impl Going {
    async fn run(&self, point: &PointInTime) -> Result<Bookmark> {
        self.require_own().await?;
        // Asked for beforehand, because the answer that tells it may be lost.
        let before = self.client.bookmark(&self.uuid, None).await?;
        let restored = self.client.restore_to(&self.uuid, point).await;
        let previous = match &restored {
            Ok(previous) => previous.clone(),
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => before,
            Err(_) => return restored,
        };
        if let Err(error) = self.require_own().await {
            // What is not known to be another's stays; the bookmark tells how to take it back.
            if error.kind() != ErrorKind::ForeignDatabase && error.kind() != ErrorKind::Corrupt {
                return Err(told_way(ErrorKind::OutcomeUnknown, &previous).with_source(error));
            }
            return Err(self.take_back(previous, error).await);
        }
        restored.map_err(|e| told_way(e.kind(), &previous).with_source(e))
    }

    async fn require_own(&self) -> Result<()> {
        let (stamp, _) = Look::at(&*self.driver, None).await?.stamped(&self.tenant)?;
        stamp.check(self.deployment, &self.tenant, self.generation)
    }

    /// Takes back what led to somebody else's state.
    async fn take_back(&self, previous: Bookmark, error: Error) -> Error {
        let point = PointInTime::Bookmark(previous.clone());
        let taken_back = async {
            self.client.restore_to(&self.uuid, &point).await?;
            self.require_own().await
        };
        match taken_back.await {
            Ok(()) => {
                let message = "the database was not this tenant's at that time; it is as it was";
                Error::new(ErrorKind::ForeignDatabase, message).with_source(error)
            }
            Err(second) => {
                let message = format!(
                    "the database was not this tenant's at that time, and could not be taken back; its state before has the bookmark `{}`: {}",
                    previous.0,
                    second.to_chain()
                );
                Error::new(error.kind(), message).with_source(error)
            }
        }
    }
}

fn told_way(kind: ErrorKind, previous: &Bookmark) -> Error {
    let message = format!(
        "whether the database was taken back is not known; its state before has the bookmark `{}`",
        previous.0
    );
    Error::new(kind, message)
}
