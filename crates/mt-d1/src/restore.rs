//! Putting a copy in the place of a tenant's database.
//!
//! The copy goes to a new database of the next generation, in requests of a few megabytes of rows;
//! a small one is one request. Its stamp comes with the last of them, so that half a copy is never
//! taken for a whole one. Six requests more find, make, look at and remove databases.

mod arrival;
mod cells;
mod modules;
mod order;
mod plan;
mod references;
mod rehearsal;
mod replacement;
mod stand_ins;
mod steps;

use mt_core::{
    BackupManifest, DatabaseFactory as _, DatabaseName, Error, ErrorKind, Placement,
    RestoreOptions, Result, Stamp, TenantId,
};
use mt_remote::Look;
use mt_sqlite_copy::{ENCODING, ScratchFile, on_thread, receive_stamped};
use rusqlite::Connection;
use tokio::io::AsyncRead;

use self::{
    arrival::Arrival,
    plan::{Plan, unread},
    replacement::{Old, Replacement, withdraw_new},
};
use crate::{D1Factory, NAME, budget::Lane, place::Place, raw::RawStatement};

/// How many bytes of rows go in one request. What the service takes is not documented; they are
/// written twice as long at most, and it has 30 seconds for them.
const STEP_BYTES: usize = 4 * 1024 * 1024;

pub(crate) async fn put_back(
    factory: &D1Factory,
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
    // What the service would not take is refused before anything is made.
    let (copy, plan) = on_thread(move || {
        let plan = Plan::new(&Connection::open(copy.path()).map_err(unread)?)?;
        Ok((copy, plan))
    })
    .await?;

    if let Present::Remains(place) = present {
        factory.delete(&place).await?;
    }
    let arrival = Arrival { factory, tenant, before: &before, replaces };
    let new = arrival.make(&factory.name(tenant, &next), &stamp).await?;
    // Should this process die from here on, its remains can be told from somebody else's database.
    let arriving = new.to_arriving(&before);
    let placements = &factory.context.placements;
    if let Err(error) = placements.compare_and_set(tenant, &before, &arriving).await
        && placements.get(tenant).await?.as_ref() != Some(&arriving)
    {
        withdraw_new(&factory.client, &factory.context, tenant, &new).await;
        return Err(error);
    }
    let before = arriving;
    let arrival = Arrival { factory, tenant, before: &before, replaces };
    if let Err(error) = arrival.fill(&new, copy, plan, &stamp).await {
        withdraw_new(&factory.client, &factory.context, tenant, &new).await;
        return Err(error);
    }

    let replacement = async {
        let revoked = factory.handles.revoke(tenant, wait).await?;
        let lock = factory.locks.exclusive(tenant, wait).await?;
        let old = match replaces {
            true => factory.client.database_by_name(name.as_str()).await?,
            false => None,
        };
        Ok((revoked, lock, old))
    };
    let (revoked, lock, old) = match replacement.await {
        Ok(taken_over) => taken_over,
        Err(error) => {
            withdraw_new(&factory.client, &factory.context, tenant, &new).await;
            return Err(error);
        }
    };
    factory.places.forget(&name);
    let old = old.map(|database| {
        let place = Place::new(before.generation, &database);
        Old { driver: factory.driver(&place, Lane::Control), place }
    });
    let replacement = Replacement {
        client: factory.client.clone(),
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

fn reading(sql: impl Into<String>) -> RawStatement {
    RawStatement { sql: sql.into(), params: Vec::new() }
}

/// Looks whether a copy could be put back here; answers it again.
///
/// # Errors
/// `Unsupported`: the service would not take it, or not all of it.
pub(crate) async fn require_restorable(copy: ScratchFile) -> Result<ScratchFile> {
    on_thread(move || {
        Plan::new(&Connection::open(copy.path()).map_err(unread)?).map_err(|error| {
            let message = "the database cannot be copied so that the copy could be put back here";
            Error::new(error.kind(), message).with_source(error)
        })?;
        Ok(copy)
    })
    .await
}

/// What there is under the tenant's name.
enum Present {
    Nothing,
    /// What a restore that died left of a database for a tenant that had none: nothing to replace.
    Remains(Place),
    Database,
}

impl Present {
    async fn find(factory: &D1Factory, name: &DatabaseName, placement: &Placement) -> Result<Self> {
        let Some(database) = factory.client.database_by_name(name.as_str()).await? else {
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

#[cfg(test)]
mod tests;
