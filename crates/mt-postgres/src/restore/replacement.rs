use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use mt_core::{
    DatabaseName, ErrorKind, FactoryContext, Generation, Placement, Result, Revoked, SchemaRecord,
    Stamp, TenantId,
};

use super::arrival::{NewDatabase, drop_database};
use crate::{
    admin::{Admin, ident},
    comment::Comment,
    error::{DUPLICATE_DATABASE, Error, NO_DATABASE},
    names::RULES,
    place::Place,
    remove::{allow, empty},
    turn::Turn,
};

/// How long a server is waited for that is to let a tenant in again.
const RECOVERY: Duration = Duration::from_secs(120);

/// A verified database on its way into the place of a tenant's.
pub(super) struct Replacement {
    pub(super) admin: Admin,
    pub(super) context: FactoryContext,
    pub(super) prefix: String,
    pub(super) drain: Duration,
    pub(super) tenant: TenantId,
    pub(super) before: Placement,
    pub(super) after: Placement,
    pub(super) from: DatabaseName,
    pub(super) to: DatabaseName,
    /// There is a database to be replaced, and not only a tenant without one.
    pub(super) replaces: bool,
    pub(super) new: NewDatabase,
    /// The copy's schema version.
    pub(super) version: Option<String>,
    pub(super) revoked: Revoked,
    pub(super) turn: Turn,
}

impl Replacement {
    pub(super) async fn run(mut self) -> Result<()> {
        let switched = match self.claim().await {
            Ok(old) => self.switch(old.as_ref()).await,
            Err(error) => Err(Switch::Refused(error)),
        };
        if switched.is_ok() {
            self.remove_earlier().await;
        }
        let Self { new, revoked, turn, .. } = self;
        let done = match switched {
            Ok(()) => {
                new.keep();
                Ok(())
            }
            Err(Switch::Refused(error)) => {
                new.discard().await;
                Err(error)
            }
            // Both stay: the placement names one of them, and the next restore or removal finds the
            // other.
            Err(Switch::Unknown(error)) => {
                new.keep();
                let message = "whether the tenant's database was replaced is not known";
                Err(mt_core::Error::new(error.kind(), message).with_source(error))
            }
        };
        drop((revoked, turn));
        done
    }

    /// Gives the new database its name and its stamp; answers what it is to replace.
    async fn claim(&mut self) -> Result<Option<Place>> {
        // While the copy was received somebody may have restored, removed or provisioned the tenant.
        let now = self.context.placements.get(&self.tenant).await?;
        let old = self.find(&self.from).await?;
        if now.as_ref() != Some(&self.before) || old.is_some() != self.replaces {
            return Err(Error::Changed.into());
        }
        if let Some(old) = &old {
            self.require_own(old)?;
            self.clear().await?;
        }
        let stamp = Stamp::new(self.context.deployment, &self.tenant, self.after.generation);
        // Which migrations made it what it is, is known once somebody looks.
        let schema = SchemaRecord { version: self.version.clone(), fingerprint: None };
        let stamped = Comment::of(&stamp, schema).to_statement(self.to.as_str())?;
        let (spare, name) = (ident(&self.new.name), ident(self.to.as_str()));
        let sql = format!("ALTER DATABASE {spare} RENAME TO {name}; {stamped}");
        match self.admin.run("give the new database its name", sql).await {
            Ok(()) => {}
            // It may also have been taken for one that was left behind.
            Err(error)
                if DUPLICATE_DATABASE.iter().any(|code| error.is(code))
                    || error.is(NO_DATABASE) =>
            {
                return Err(Error::Changed.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.to.as_str().clone_into(&mut self.new.name);
        Ok(old)
    }

    /// Removes what a restore that died left under the next name. Whoever else is at it waits for
    /// this one's turn to end.
    async fn clear(&self) -> Result<()> {
        let Some(left) = self.find(&self.to).await? else { return Ok(()) };
        self.require_own(&left).map_err(|source| {
            mt_core::Error::from(left.taken("its stamp says so")).with_source(source)
        })?;
        let (_, identity) = left.stamped(&self.tenant)?;
        Ok(drop_database(&self.admin, &left.name, identity).await?)
    }

    fn require_own(&self, place: &Place) -> Result<()> {
        let (stamp, _) = place.stamped(&self.tenant)?;
        stamp.check(self.context.deployment, &self.tenant, stamp.generation)
    }

    async fn find(&self, name: &DatabaseName) -> Result<Option<Place>> {
        let names = [name.as_str().to_owned()];
        Ok(Place::find(&self.admin, &self.prefix, &names).await?.into_iter().next())
    }

    /// Makes the new database the tenant's, while nobody can write to the old one.
    async fn switch(&mut self, old: Option<&Place>) -> Result<(), Switch> {
        let Some(old) = old else { return Ok(()) };
        let switched = match self.fence(old).await {
            Ok(()) => self.set_placement().await,
            Err(error) => Err(Switch::Refused(error)),
        };
        if switched.is_err()
            && old.is_open
            && let Err(error) = self.open_again(&old.name).await
        {
            let error = mt_core::Error::from(error);
            tracing::warn!(tenant = %self.tenant, database = old.name, error = %error.to_chain(), "a database that was not replaced stays closed; `activate` opens it");
        }
        switched
    }

    /// Closes the old database and waits for those who are in it.
    async fn fence(&mut self, old: &Place) -> Result<()> {
        let (_, identity) = old.stamped(&self.tenant)?;
        allow(&self.admin, &old.name, false).await?;
        let deadline = Instant::now() + self.drain;
        empty(&self.admin, &old.name, identity, deadline).await?;
        // Whoever had the turn meanwhile may have opened it.
        Ok(self.turn.check().await?)
    }

    /// Opens it also where the server is down and takes its time to come back.
    async fn open_again(&self, database: &str) -> Result<(), Error> {
        let open = || allow(&self.admin, database, true);
        let backoff = ExponentialBuilder::default()
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .with_total_delay(Some(RECOVERY));
        let is_down = |error: &Error| error.kind() == ErrorKind::Unavailable;
        open.retry(backoff).when(is_down).await
    }

    /// Removes the databases of all earlier generations: also of a restore that died after it had
    /// switched. The tenant has its restored database; that something of another is left changes
    /// nothing.
    async fn remove_earlier(&self) {
        let earlier = (1..self.after.generation.get()).filter_map(Generation::new);
        let mut names: Vec<String> = earlier
            .map(|generation| RULES.encode(&self.prefix, &self.tenant, generation))
            .map(|name| name.as_str().to_owned())
            .collect();
        if self.replaces {
            names.push(self.from.as_str().to_owned());
        }
        names.retain(|name| name != self.to.as_str());
        let removed = async {
            for place in Place::find(&self.admin, &self.prefix, &names).await? {
                if let Some(identity) = &place.identity
                    && self.require_own(&place).is_ok()
                {
                    drop_database(&self.admin, &place.name, identity).await?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = removed.await {
            let error = mt_core::Error::from(error);
            tracing::warn!(tenant = %self.tenant, error = %error.to_chain(), "a database that is no longer the tenant's is left behind");
        }
    }

    async fn set_placement(&self) -> Result<(), Switch> {
        let placements = &self.context.placements;
        let Err(error) = placements.compare_and_set(&self.tenant, &self.before, &self.after).await
        else {
            return Ok(());
        };
        let refusals = [ErrorKind::Conflict, ErrorKind::TenantNotFound, ErrorKind::Unsupported];
        // The store may have switched and lost its answer.
        match placements.get(&self.tenant).await {
            Ok(Some(now)) if now == self.after => Ok(()),
            // It may be on its way: a second one waits behind it, and has an answer.
            Ok(Some(now)) if now == self.before && !refusals.contains(&error.kind()) => {
                match placements.compare_and_set(&self.tenant, &self.before, &self.after).await {
                    Ok(()) => Ok(()),
                    Err(_) => match placements.get(&self.tenant).await {
                        Ok(Some(now)) if now == self.after => Ok(()),
                        _ => Err(Switch::Unknown(error)),
                    },
                }
            }
            Ok(Some(now)) if now == self.before => Err(Switch::Refused(error)),
            _ if refusals.contains(&error.kind()) => Err(Switch::Refused(error)),
            _ => Err(Switch::Unknown(error)),
        }
    }
}

/// Why a placement was not switched.
enum Switch {
    /// It is as it was.
    Refused(mt_core::Error),
    /// It may have been.
    Unknown(mt_core::Error),
}
