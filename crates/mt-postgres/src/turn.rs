//! Who replaces or removes a tenant's databases, of all processes: one after the other.

use mt_core::{Generation, Placement, Result, TenantId};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};

use crate::{
    PostgresFactory,
    admin::dial,
    error::{Error, LOCK_NOT_AVAILABLE},
};

/// A turn, until it is dropped and its session ends with it: the lock is the session's.
#[derive(Debug)]
pub(crate) struct Turn {
    session: PgConnection,
}

impl Turn {
    /// Whether it is still ours: somebody may have ended the session, or the server itself.
    ///
    /// # Errors
    /// `Unavailable`: it is not.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        self.session
            .ping()
            .await
            .map_err(Error::server("keep others away from the tenant's database"))
    }
}

impl PostgresFactory {
    /// Waits for a turn.
    ///
    /// # Errors
    /// `InUse`: others took longer than the time to drain.
    pub(crate) async fn turn(&self, tenant: &TenantId) -> Result<Turn> {
        let first = self.name(tenant, &Placement::derived(Generation::FIRST));
        let digest = Sha256::digest(first.as_str());
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        let wait = self.config.drain_timeout_ms.clamp(1, i32::MAX.unsigned_abs().into());
        let settings =
            [("lock_timeout", wait.to_string()), ("idle_session_timeout", "0".to_owned())];
        // Not one of the pool: whoever has the turn needs those.
        let options = self.admin.server().clone().options(settings);
        let session = dial(&options, self.config.acquire_timeout()).await;
        let session = session.map_err(Error::server("connect to the server"))?;
        let mut turn = Turn { session };
        let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(i64::from_be_bytes(key));
        match lock.execute(&mut turn.session).await.map_err(Error::server("wait for others")) {
            Ok(_) => Ok(turn),
            Err(error) if error.is(LOCK_NOT_AVAILABLE) => Err(Error::Busy(tenant.clone()).into()),
            Err(error) => Err(error.into()),
        }
    }
}
