//! Taking tenants' databases away: from those who use them, and for good.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use mt_core::{ErrorKind, Generation, Placement, Result, TenantId};
use sqlx::Row as _;

use crate::{
    PostgresFactory,
    admin::{Admin, ident},
    error::{Error, NO_DATABASE, OBJECT_IN_USE, WRONG_STATE},
    furnish,
    names::{Identity, Part},
    place::Place,
};

/// How often it is looked whether the last has gone.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

impl PostgresFactory {
    /// Removes every generation of the tenant's database.
    pub(crate) async fn remove_all(&self, tenant: &TenantId) -> Result<()> {
        // A restore that is about to switch would leave its database behind.
        let turn = Arc::new(self.turn(tenant).await?);
        let names = self.names_of(tenant).await?;
        let found = Place::find(&self.admin, &self.config.database_prefix, &names).await?;
        let mut places = Vec::with_capacity(found.len());
        // All are looked at before any is touched.
        for place in found {
            let (stamp, identity) = place.stamped(tenant)?;
            stamp.check(self.context.deployment, tenant, stamp.generation)?;
            let identity = identity.clone();
            places.push((place, identity));
        }
        if places.is_empty() {
            return Ok(());
        }
        let drain = self.config.drain_timeout();
        let deadline = Instant::now() + drain;
        let _revoked = self.handles.revoke(tenant, drain).await?;
        for (place, identity) in places {
            let (admin, turn) = (self.admin.clone(), Arc::clone(&turn));
            // Goes on whoever gives up, so that a database is not left closed.
            let removal = async move {
                let removed = remove(&admin, &place, &identity, deadline).await;
                drop(turn);
                removed
            };
            tokio::spawn(removal).await.map_err(Error::from)??;
        }
        Ok(())
    }

    /// The names that a tenant's databases may have: of its current generation, of those before it,
    /// and of the next.
    async fn names_of(&self, tenant: &TenantId) -> Result<Vec<String>> {
        let current = match self.placement(tenant).await {
            Ok(placement) => placement,
            // Nothing was ever placed, or the row is gone; the first database may still be there.
            Err(e) if e.kind() == ErrorKind::TenantNotFound => {
                Placement::derived(Generation::FIRST)
            }
            Err(e) => return Err(e),
        };
        let derived = (1..=current.generation.next().get()).filter_map(Generation::new);
        let mut names: BTreeSet<String> = derived
            .map(|generation| self.name(tenant, &Placement::derived(generation)))
            .map(|name| name.as_str().to_owned())
            .collect();
        names.insert(self.name(tenant, &current).as_str().to_owned());
        Ok(names.into_iter().collect())
    }

    /// Lets the tenant's roles in again: also where somebody who died while he removed or replaced
    /// the database left it closed, and with the passwords and settings that they were made with.
    pub(crate) async fn let_in(&self, tenant: &TenantId) -> Result<()> {
        // Whoever closed it and is still at it is waited for.
        let _turn = self.turn(tenant).await?;
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        let place =
            self.find(&name).await?.ok_or_else(|| Error::NoDatabase(name.as_str().to_owned()))?;
        let identity = place.check(self.context.deployment, tenant, placement.generation)?;
        if place.is_half_dropped {
            return Err(Error::HalfDropped(place.name).into());
        }
        if !place.is_open {
            self.allow_connections(&place.name, true).await?;
        }
        let mut sql = furnish::settings_of_roles(&self.admin, identity);
        sql += &furnish::grants(&place.name, identity);
        Ok(self.admin.run("let the tenant in again", sql).await?)
    }

    /// Takes the tenant's roles the right to connect.
    pub(crate) async fn keep_out(&self, tenant: &TenantId) -> Result<()> {
        let _turn = self.turn(tenant).await?;
        let (place, identity) = self.ours(tenant).await?;
        let [_, runtime, reader, _] = Part::ALL.map(|part| ident(&identity.role(part)));
        let database = ident(&place.name);
        let sql = format!("REVOKE CONNECT ON DATABASE {database} FROM {runtime}, {reader}");
        self.admin.run("keep the tenant out", sql).await?;
        end_sessions(&self.admin, &place.name, &identity, Sessions::All).await?;
        Ok(())
    }
}

/// Which of a tenant's sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    All,
    /// Those without an open transaction.
    Idle,
}

/// Ends sessions of the tenant's roles; tells how many sessions of anybody there were.
async fn end_sessions(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    which: Sessions,
) -> Result<i64, Error> {
    let roles = [Part::Runtime, Part::Reader].map(|part| identity.role(part));
    // Every row is looked at: what stands in a FILTER is run for the rows that pass.
    let sql = "SELECT count(*), count(*) FILTER (WHERE ended) FROM (\
         SELECT CASE WHEN usename = ANY($2) AND (state = 'idle' OR $3) \
           THEN pg_terminate_backend(pid) ELSE false END AS ended \
         FROM pg_stat_activity \
         WHERE datname = $1 AND (backend_type = 'client backend' OR backend_type IS NULL) \
         AND pid <> pg_backend_pid()) AS s";
    let row = sqlx::query(sql)
        .bind(database)
        .bind(&roles[..])
        .bind(which == Sessions::All)
        .fetch_one(admin.pool())
        .await;
    row.and_then(|row| row.try_get(0)).map_err(Error::server("end the tenant's sessions"))
}

/// Closes the database to everybody, waits for those who are in it, and drops it with its roles.
async fn remove(
    admin: &Admin,
    place: &Place,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Error> {
    let database = place.name.as_str();
    let is_half_dropped = match allow(admin, database, false).await {
        // The server may still be at it for somebody who died.
        Err(error) if error.is(WRONG_STATE) => true,
        closed => {
            closed?;
            place.is_half_dropped
        }
    };
    if is_half_dropped {
        // Nobody can be in it any more, and nothing else can be done with it. Whoever else drops it
        // is waited for by the server.
        return match drop_it(admin, database).await {
            Err(error) if !error.is(NO_DATABASE) => Err(error),
            _ => furnish::drop_roles(admin, identity).await,
        };
    }
    let dropped = empty_and_drop(admin, database, identity, deadline).await;
    match dropped {
        Ok(()) => {}
        Err(error) if error.is(NO_DATABASE) => {}
        Err(error) => {
            // Nothing was removed: whoever is in it goes on.
            allow(admin, database, true).await?;
            return Err(error);
        }
    }
    furnish::drop_roles(admin, identity).await
}

async fn empty_and_drop(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Error> {
    loop {
        empty(admin, database, identity, deadline).await?;
        match drop_it(admin, database).await {
            Err(error) if error.is(OBJECT_IN_USE) => {}
            done => return done,
        }
        if Instant::now() >= deadline {
            return Err(Error::InUse(database.to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn drop_it(admin: &Admin, database: &str) -> Result<(), Error> {
    admin.run("remove the database", format!("DROP DATABASE {}", ident(database))).await
}

/// Waits until nobody is in a database that is closed.
pub(crate) async fn empty(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Error> {
    while end_sessions(admin, database, identity, Sessions::Idle).await? != 0 {
        if Instant::now() >= deadline {
            return Err(Error::InUse(database.to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

pub(crate) async fn allow(admin: &Admin, database: &str, allow: bool) -> Result<(), Error> {
    let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", ident(database));
    match admin.run("open or close the database", sql).await {
        Err(error) if error.is(NO_DATABASE) => Ok(()),
        done => done,
    }
}
