use std::time::Duration;

use futures_util::TryStreamExt as _;
use mt_core::{BackupManifest, DatabaseName, Error, ErrorKind, Placement, Result, Stamp, TenantId};
use mt_remote::{Command, Look, Part, Value};
use mt_sqlite_copy::ScratchFile;
use tokio::time::{Instant, sleep};

use super::changed;
use crate::{
    TursoFactory,
    place::Place,
    platform::{Authorization, Seed},
    provision::taken,
};

/// How long to wait until a database that was just made is asked again to take the copy.
const READY_RETRY: Duration = Duration::from_millis(150);

/// A copy on its way to the service, while the tenant still has what it has.
pub(super) struct Arrival<'r> {
    pub(super) factory: &'r TursoFactory,
    pub(super) tenant: &'r TenantId,
    pub(super) before: &'r Placement,
    /// There is a database to be replaced, and not only a tenant without one.
    pub(super) replaces: bool,
}

impl Arrival<'_> {
    /// Makes the database that the copy is uploaded to.
    pub(super) async fn make(&self, name: &DatabaseName, stamp: &Stamp) -> Result<Place> {
        let factory = self.factory;
        for _ in 0..2 {
            let (place, created) =
                factory.create(name, stamp.generation, Some(Seed::Upload)).await?;
            if created {
                return Ok(place);
            }
            self.clear(&place).await?;
        }
        Err(changed())
    }

    /// Removes what a restore that died left under the new name, or a request of ours whose answer
    /// was lost made.
    async fn clear(&self, place: &Place) -> Result<()> {
        let factory = self.factory;
        let look = factory.look_when_ready(place).await?;
        if look == Look::Unstamped && !place.is_arriving(self.before) {
            return Err(taken(Stamp::missing(self.tenant)));
        }
        if let Look::Stamped { stamp, .. } = look {
            let own = stamp.check(factory.context.deployment, self.tenant, stamp.generation);
            own.map_err(taken)?;
        }
        // Without one to be replaced, this is the tenant's current one: somebody has just made it.
        // And what another restore has switched to meanwhile is no leftover.
        if !self.replaces || factory.placement(self.tenant).await? != *self.before {
            return Err(changed());
        }
        // The service deletes by name, and other processes restore as well.
        match factory.platform.database(place.name.as_str()).await? {
            Some(found) if found.id == place.id => factory.remove(place).await,
            Some(_) => Err(changed()),
            None => Ok(()),
        }
    }

    /// Uploads the copy and compares what the service made of it with what it should be.
    pub(super) async fn fill(
        &self,
        place: &Place,
        copy: &ScratchFile,
        stamp: &Stamp,
        manifest: &BackupManifest,
    ) -> Result<()> {
        let uploaded = self.upload(place, copy).await;
        match uploaded {
            // Only the answer was lost, or the upload: what is there tells.
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown => {
                self.require_arrived(place, stamp).await.map_err(|seen| e.with_source(seen))?;
            }
            uploaded => {
                uploaded?;
                self.require_arrived(place, stamp).await?;
            }
        }
        self.compare(place, manifest).await
    }

    async fn require_arrived(&self, place: &Place, stamp: &Stamp) -> Result<()> {
        let (found, _) = self.factory.look_when_ready(place).await?.stamped(self.tenant)?;
        found.check(stamp.deployment, &stamp.tenant, stamp.generation)
    }

    async fn upload(&self, place: &Place, copy: &ScratchFile) -> Result<()> {
        let factory = self.factory;
        let reading = |e: std::io::Error| {
            Error::new(ErrorKind::Internal, "the received copy cannot be read").with_source(e)
        };
        let deadline = Instant::now() + factory.config.ready_timeout();
        loop {
            let file = tokio::fs::File::open(copy.path()).await.map_err(reading)?;
            let length = file.metadata().await.map_err(reading)?.len();
            let (name, id) = (place.name.as_str(), &place.id);
            let token = factory.tokens.get(name, id, Authorization::FullAccess).await?;
            match factory.platform.upload(&place.hostname, &token, file, length).await {
                // Its server does not know of it yet.
                Err(e) if e.kind() == ErrorKind::TenantNotFound && Instant::now() < deadline => {
                    sleep(READY_RETRY).await;
                }
                uploaded => return uploaded,
            }
        }
    }

    /// Counts the rows, one table after the other: each answer is within the time for a request.
    async fn compare(&self, place: &Place, manifest: &BackupManifest) -> Result<()> {
        let count = |table: &String| {
            Command::new(format!("SELECT COUNT(*) FROM \"{}\"", table.replace('"', "\"\"")))
        };
        let hrana = self.factory.hrana(place, Authorization::FullAccess)?;
        let mut parts = hrana.snapshot(manifest.rows.keys().map(count).collect());
        let mut counts = vec![None; manifest.rows.len()];
        while let Some((table, part)) = parts.try_next().await? {
            if let Part::Row(row) = part {
                counts[table] = row.into_iter().next();
            }
        }
        for ((table, expected), found) in manifest.rows.iter().zip(counts) {
            let is_same = matches!(found, Some(Value::Integer(n)) if n.unsigned_abs() == *expected);
            if !is_same {
                let message = format!(
                    "the service took the copy over with other rows in `{table}` than {expected}: {found:?}"
                );
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        }
        Ok(())
    }
}
