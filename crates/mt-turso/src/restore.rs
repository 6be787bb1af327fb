//! Putting a copy in the place of a tenant's database.

mod arrival;
mod replacement;

use std::sync::Arc;

use mt_core::{
    BackupManifest, DatabaseFactory as _, DatabaseName, Error, ErrorKind, Placement,
    RestoreOptions, Result, Stamp, TenantId,
};
use mt_remote::Look;
use mt_sqlite_copy::{ENCODING, on_thread, receive_stamped, standardized};
use tokio::io::AsyncRead;

use self::{
    arrival::Arrival,
    replacement::{Old, Replacement, withdraw_new},
};
use crate::{NAME, TursoFactory, place::Place};

pub(crate) async fn put_back(
    factory: &TursoFactory,
    tenant: &TenantId,
    manifest: &BackupManifest,
    source: &mut (dyn AsyncRead + Send + Unpin),
    options: RestoreOptions,
) -> Result<()> {
    if !factory.capabilities().restore {
        let what = "restore without a placement store that can change; give the factory one";
        return Err(Error::unsupported(NAME, what));
    }
    manifest.check(NAME, ENCODING, factory.context.deployment, tenant, options)?;
    let wait = factory.config.drain_timeout();
    // One after the other: they use the same name, and the second would take the first one's new
    // database for a leftover. The tenant is in use until the copy has arrived, so this is another
    // lock than the one that keeps users out.
    let turn = factory.restores.exclusive(tenant, wait).await?;
    let before = factory.placement(tenant).await?;
    let name = factory.name(tenant, &before);
    let present = Present::find(factory, &name, &before).await?;
    let replaces = matches!(present, Present::Database);
    let next = match replaces {
        true => Placement::derived(before.generation.next()),
        false => before.clone(),
    };
    let stamp = Stamp::new(factory.context.deployment, tenant, next.generation);
    let copy = receive_stamped(manifest, source, &stamp).await?;
    let copy = on_thread(move || standardized(copy)).await?;

    if let Present::Remains(place) = present {
        factory.remove(&place).await?;
    }
    let arrival = Arrival { factory, tenant, before: &before, replaces };
    let new = arrival.make(&factory.name(tenant, &next), &stamp).await?;
    // Should this process die from here on, its remains can be told from somebody else's database.
    let arriving = new.to_arriving(&before);
    let placements = &factory.context.placements;
    if let Err(error) = placements.compare_and_set(tenant, &before, &arriving).await
        && placements.get(tenant).await?.as_ref() != Some(&arriving)
    {
        withdraw_new(&factory.platform, &factory.context, tenant, &new).await;
        return Err(error);
    }
    let before = arriving;
    let arrival = Arrival { factory, tenant, before: &before, replaces };
    if let Err(error) = arrival.fill(&new, &copy, &stamp, manifest).await {
        withdraw_new(&factory.platform, &factory.context, tenant, &new).await;
        return Err(error);
    }
    drop(copy);

    let replacement = async {
        let revoked = factory.handles.revoke(tenant, wait).await?;
        let lock = factory.locks.exclusive(tenant, wait).await?;
        let old = match replaces {
            true => factory.platform.database(name.as_str()).await?,
            false => None,
        };
        let old = old.map(|database| Old::new(factory, &before, &database)).transpose()?;
        Ok((revoked, lock, old))
    };
    let (revoked, lock, old) = match replacement.await {
        Ok(taken_over) => taken_over,
        Err(error) => {
            withdraw_new(&factory.platform, &factory.context, tenant, &new).await;
            return Err(error);
        }
    };
    factory.places.forget(&name);
    let replacement = Replacement {
        platform: factory.platform.clone(),
        tokens: Arc::clone(&factory.tokens),
        context: factory.context.clone(),
        tenant: tenant.clone(),
        after: new.to_placement(&before),
        before,
        old,
        new,
        revoked,
        lock,
        turn,
    };
    // A task of its own: whoever asked may give up, but nobody is let in until it is done.
    let done = tokio::spawn(replacement.run()).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, "a task ended early").with_source(e))?
}

/// What there is under the tenant's name.
enum Present {
    Nothing,
    /// What a restore that died left of a database for a tenant that had none: nothing to replace.
    Remains(Place),
    Database,
}

impl Present {
    async fn find(
        factory: &TursoFactory,
        name: &DatabaseName,
        placement: &Placement,
    ) -> Result<Self> {
        let Some(database) = factory.platform.database(name.as_str()).await? else {
            return Ok(Self::Nothing);
        };
        let place = Place::new(placement.generation, &database);
        if place.is_arriving(placement)
            && matches!(factory.look_at(&place).await?, Look::Empty | Look::Unstamped)
        {
            return Ok(Self::Remains(place));
        }
        Ok(Self::Database)
    }
}

fn changed() -> Error {
    let message =
        "the tenant's database changed while the copy was on its way; nothing was replaced";
    Error::new(ErrorKind::Conflict, message)
}
