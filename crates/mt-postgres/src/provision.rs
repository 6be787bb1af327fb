//! Making tenants' databases.
//!
//! A database is made under a name of its own, finished, and then renamed to the tenant's together
//! with its comment, in one transaction. So there is never a half-made one under a tenant's name,
//! and of those who come at once one is first.

use mt_core::{Connection, DatabaseName, ErrorKind, Placement, Result, Stamp, TenantId};

use crate::{
    PostgresFactory,
    admin::ident,
    comment::Comment,
    connect,
    error::{DUPLICATE_DATABASE, Error, NO_DATABASE, NO_ROLE, OLDEST, WRONG_STATE},
    furnish,
    look::{self, Look},
    names::{Identity, Part},
    place::Place,
};

/// What became of the wish to give a database a tenant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Done,
    /// There is one of that name already.
    Exists,
    /// There is no database to give it to.
    Nothing,
}

impl PostgresFactory {
    /// Adopts the tenant's database, claims one that was made in advance, or makes it.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        let version = self.admin.version().await?;
        // What is not known is tried.
        if (1..OLDEST).contains(&version) {
            return Err(Error::Old(version).into());
        }
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        loop {
            let mut claim = self.claim_spare(tenant, &placement, &name).await?;
            if claim != Claim::Done
                && let Some(place) = self.find(&name).await?
            {
                return self.adopt(tenant, &placement, place).await;
            }
            if claim == Claim::Nothing {
                claim = self.create(tenant, &placement, &name).await?;
            }
            match claim {
                Claim::Done => return Ok(()),
                Claim::Exists => {}
                Claim::Nothing => return Err(Error::Lost.into()),
            }
        }
    }

    /// Accepts a database that is already there, if it is this tenant's, or empty and nobody's.
    async fn adopt(&self, tenant: &TenantId, placement: &Placement, place: Place) -> Result<()> {
        let no = |why| mt_core::Error::from(place.taken(why));
        let taken = |source: mt_core::Error| no("its stamp says so").with_source(source);
        let is_ours = place.comment.is_some();
        if !place.is_open || place.is_half_dropped {
            return self.reopen(tenant, placement, place).await;
        }
        if is_ours {
            let (stamp, _) = place.stamped(tenant).map_err(taken)?;
            stamp.check(self.context.deployment, tenant, placement.generation).map_err(taken)?;
        }
        let Some(identity) = &place.identity else {
            return Err(no("its owner is not one of ours"));
        };
        let ledger = self.context.ledger();
        let look = Look::into(&self.admin, &place.name, identity, ledger).await?;
        if is_ours && look.has_stamp {
            return Ok(());
        }
        if look::has_tables(&self.admin, &place.name, identity, &look, ledger).await? {
            return Err(no("it has tables and no stamp"));
        }
        let identity = identity.clone();
        self.finish(tenant, placement, &place.name, &identity).await
    }

    /// Opens what somebody began to remove or to replace, and did not finish, or drops what nothing
    /// else can be done with.
    async fn reopen(&self, tenant: &TenantId, placement: &Placement, place: Place) -> Result<()> {
        let taken = |source: mt_core::Error| {
            let why = "it takes no connections, and its stamp says so";
            mt_core::Error::from(place.taken(why)).with_source(source)
        };
        place.check(self.context.deployment, tenant, placement.generation).map_err(taken)?;
        // Whoever is still at it is waited for, and then everything is looked at again.
        let turn = self.turn(tenant).await?;
        let names = [place.name.clone()];
        let found = Place::find(&self.admin, &self.config.database_prefix, &names).await?;
        if let Some(place) = found.into_iter().next()
            && self.placement(tenant).await? == *placement
            && let Ok(identity) = place.check(self.context.deployment, tenant, placement.generation)
        {
            if place.is_half_dropped {
                // The server may still be at it for somebody who died.
                let sql = format!("DROP DATABASE IF EXISTS {}", ident(&place.name));
                self.admin.run("remove a database that was half removed", sql).await?;
                furnish::drop_roles(&self.admin, identity).await?;
            } else if !place.is_open {
                self.allow_connections(&place.name, true).await?;
            }
        }
        drop(turn);
        Box::pin(self.make(tenant)).await
    }

    /// Stamps a database of ours that lost everything.
    async fn finish(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        database: &str,
        identity: &Identity,
    ) -> Result<()> {
        self.admin
            .run("give the database to its roles", furnish::grants(database, identity))
            .await?;
        let ledger = self.context.ledger();
        furnish::furnish(&self.admin, database, identity, ledger).await?;
        self.apply(database, identity).await?;
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        let sql = Comment::of(&stamp, self.schema()).to_statement(database)?;
        Ok(self.admin.run("stamp the database", sql).await?)
    }

    /// Makes the database, and gives it its name.
    async fn create(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        name: &DatabaseName,
    ) -> Result<Claim> {
        self.sweep_if_due().await;
        let identity = Identity::new(&self.config.database_prefix);
        let claimed: Result<Claim> = async {
            self.make_spare(&identity).await?;
            self.admin.until_left(&identity.spare()).await?;
            let before = Comment::spare(self.context.deployment);
            Ok(self.claim(tenant, placement, name, &identity, &before).await?)
        }
        .await;
        if !matches!(claimed, Ok(Claim::Done)) {
            self.discard(&identity).await;
        }
        claimed
    }

    /// Makes a database that is nobody's yet, with its roles and the context's schema.
    ///
    /// What is done to it may be lost until something waited for the disk, and the server may have
    /// crashed since. So it is done together with the mark, and whoever goes on asks for the mark in
    /// his own transaction.
    pub(crate) async fn make_spare(&self, identity: &Identity) -> Result<()> {
        furnish::make_roles(&self.admin, identity).await?;
        if self.context.template.is_some() {
            return self.copy_template(identity).await;
        }
        let owner = identity.role(Part::Owner);
        self.create_database(identity, "template0", &owner).await?;
        self.admin.run_ahead("give the database to its roles", &self.mark(identity)?).await?;
        let ledger = self.context.ledger();
        Ok(furnish::furnish(&self.admin, &identity.spare(), identity, ledger).await?)
    }

    async fn copy_template(&self, identity: &Identity) -> Result<()> {
        let owner = identity.role(Part::Owner);
        let template = self.template().await?;
        match self.create_database(identity, &template, &owner).await {
            // Somebody removed it, or began to.
            Err(error) if [NO_DATABASE, WRONG_STATE].iter().any(|code| error.is(code)) => {
                self.forget_template().await;
                let template = self.template().await?;
                self.create_database(identity, &template, &owner).await?;
            }
            created => created?,
        }
        let (mark, ledger) = (self.mark(identity)?, self.context.ledger());
        Ok(furnish::take_over(&self.admin, &mark, identity, ledger).await?)
    }

    /// The statements that mark a new database as being made, and give it to its roles.
    pub(crate) fn mark(&self, identity: &Identity) -> Result<String, Error> {
        let spare = identity.spare();
        let mark = Comment::spare(self.context.deployment).to_statement(&spare)?;
        Ok(format!("{mark};{}", furnish::grants(&spare, identity)))
    }

    /// Makes a database under a name of its own.
    pub(crate) async fn create_database(
        &self,
        identity: &Identity,
        template: &str,
        owner: &str,
    ) -> Result<(), Error> {
        let spare = ident(&identity.spare());
        // The other strategy makes the server write everything out: measured three times as slow.
        let create = format!(
            "CREATE DATABASE {spare} OWNER {} TEMPLATE {} STRATEGY wal_log",
            ident(owner),
            ident(template)
        );
        match self.admin.run("make a database", create).await {
            // Its roles were made just before.
            Err(error) if error.is(NO_ROLE) => Err(Error::Lost),
            made => made,
        }
    }

    /// Brings a database that is laid out and empty to the context's schema.
    pub(crate) async fn apply(&self, database: &str, identity: &Identity) -> Result<()> {
        let Some(schema) = &self.context.template else { return Ok(()) };
        let _entrance = self.admin.entrance().await?;
        let connection =
            connect::maintain(&self.admin, database, identity, "provision", &self.config).await?;
        let connection = Connection::from(connection);
        let applied = schema.apply(&connection).await;
        drop(connection.close().await);
        applied
    }

    /// Gives a finished database, whose comment is `before`, its name and its stamp.
    pub(crate) async fn claim(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        name: &DatabaseName,
        identity: &Identity,
        before: &Comment,
    ) -> Result<Claim, Error> {
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        let stamped = Comment::of(&stamp, self.schema()).to_statement(name.as_str())?;
        let expected = before.to_guard(&identity.spare())?;
        let (spare, name) = (ident(&identity.spare()), ident(name.as_str()));
        let sql = format!("{expected};ALTER DATABASE {spare} RENAME TO {name};{stamped}");
        match self.admin.run("give the database its name", sql).await {
            Ok(()) => Ok(Claim::Done),
            Err(error) if error.is(NO_DATABASE) => Ok(Claim::Nothing),
            Err(error) if DUPLICATE_DATABASE.iter().any(|code| error.is(code)) => Ok(Claim::Exists),
            Err(error) => Err(error),
        }
    }

    /// Removes a database that nobody needs, and its roles.
    pub(crate) async fn discard(&self, identity: &Identity) {
        let sql = format!("DROP DATABASE IF EXISTS {}", ident(&identity.spare()));
        let mut removed = self.admin.run("remove a database that is not needed", sql).await;
        if removed.is_ok() {
            removed = furnish::drop_roles(&self.admin, identity).await;
        }
        if let Err(error) = removed {
            let error = mt_core::Error::from(error);
            tracing::warn!(error = %error.to_chain(), database = identity.spare(), "left behind");
        }
    }

    pub(crate) async fn allow_connections(&self, database: &str, allow: bool) -> Result<()> {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allow}", ident(database));
        Ok(self.admin.run("open or close a database", sql).await?)
    }

    /// The placement of a tenant that has one.
    pub(crate) async fn placement(&self, tenant: &TenantId) -> Result<Placement> {
        self.context.placements.get(tenant).await?.ok_or_else(not_placed)
    }

    /// The name of the tenant's current database, there or not.
    pub(crate) fn name(&self, tenant: &TenantId, placement: &Placement) -> DatabaseName {
        placement.database.clone().unwrap_or_else(|| {
            crate::names::RULES.encode(&self.config.database_prefix, tenant, placement.generation)
        })
    }

    pub(crate) async fn find(&self, name: &DatabaseName) -> Result<Option<Place>> {
        let names = [name.as_str().to_owned()];
        let found = Place::find(&self.admin, &self.config.database_prefix, &names).await?;
        Ok(found.into_iter().next())
    }
}

pub(crate) fn not_placed() -> mt_core::Error {
    mt_core::Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
}
