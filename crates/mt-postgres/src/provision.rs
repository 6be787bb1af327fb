//! Making tenants' databases.
//!
//! A database is made under a name of its own, finished, and then renamed to the tenant's together
//! with its comment, in one transaction. So there is never a half-made one under a tenant's name,
//! and of those who come at once one is first.

use mt_core::{DatabaseName, ErrorKind, Placement, Result, Stamp, TenantId};

use crate::{
    PostgresFactory,
    admin::{ident, literal},
    comment::Comment,
    connect,
    error::{DUPLICATE_DATABASE, Error},
    furnish,
    look::Look,
    names::Identity,
    place::Place,
    sweep,
};

impl PostgresFactory {
    /// Adopts the tenant's database, or makes it.
    pub(crate) async fn make(&self, tenant: &TenantId) -> Result<()> {
        let placement = self.placement(tenant).await?;
        let name = self.name(tenant, &placement);
        loop {
            if let Some(place) = self.find(&name).await? {
                return self.adopt(tenant, &placement, place).await;
            }
            if self.create(tenant, &placement, &name).await? {
                return Ok(());
            }
        }
    }

    /// Accepts a database that is already there, if it is this tenant's, or empty and nobody's.
    async fn adopt(&self, tenant: &TenantId, placement: &Placement, place: Place) -> Result<()> {
        let taken = |source: mt_core::Error| {
            mt_core::Error::from(Error::Taken("its stamp says so")).with_source(source)
        };
        let is_ours = place.comment.is_some();
        if is_ours {
            let (stamp, _) = place.stamped(tenant).map_err(taken)?;
            stamp.check(self.context.deployment, tenant, placement.generation).map_err(taken)?;
        }
        if !place.is_open {
            if !is_ours {
                return Err(Error::Taken("it takes no connections").into());
            }
            // Somebody began to remove it, and did not finish.
            self.allow_connections(&place.name, true).await?;
        }
        let Some(identity) = &place.identity else {
            return Err(Error::Taken("its owner is not one of ours").into());
        };
        let look = Look::into(&self.admin, &place.name, identity, self.context.ledger()).await?;
        match look {
            Look { has_stamp: true, .. } if is_ours => Ok(()),
            Look { has_tables: true, .. } => Err(Error::Taken("it has tables and no stamp").into()),
            Look { .. } => {
                let identity = identity.clone();
                self.finish(tenant, placement, &place.name, &identity).await
            }
        }
    }

    /// Stamps a database of ours that lost everything.
    async fn finish(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        database: &str,
        identity: &Identity,
    ) -> Result<()> {
        self.fill(tenant, database, identity).await?;
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        let comment = literal(&Comment::of(&stamp).to_text()?);
        let sql = format!("COMMENT ON DATABASE {} IS {comment}", ident(database));
        Ok(self.admin.run("stamp the database", sql).await?)
    }

    /// Makes the database; `false`: there is one by now, and the caller looks whose it is.
    async fn create(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        name: &DatabaseName,
    ) -> Result<bool> {
        if self.sweeps.is_due() {
            let (prefix, deployment) = (&self.config.database_prefix, self.context.deployment);
            if let Err(error) = sweep::sweep(&self.admin, prefix, deployment).await {
                let error = mt_core::Error::from(error);
                tracing::warn!(error = %error.to_chain(), "something left behind stays there");
            }
        }
        let identity = Identity::new(&self.config.database_prefix);
        let claimed = match self.make_spare(tenant, &identity).await {
            Ok(()) => self.claim(tenant, placement, name, &identity).await,
            Err(error) => Err(error),
        };
        if !matches!(claimed, Ok(true)) {
            self.discard(&identity).await;
        }
        claimed
    }

    /// Makes a database that is nobody's yet, with its roles and the context's schema.
    async fn make_spare(&self, tenant: &TenantId, identity: &Identity) -> Result<()> {
        furnish::make_roles(&self.admin, identity, &self.passwords).await?;
        let spare = identity.spare();
        let owner = identity.role(crate::names::Part::Owner);
        let create = format!(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' STRATEGY wal_log",
            ident(&spare),
            ident(&owner)
        );
        self.admin.run("make a database", create).await?;
        let comment = Comment::spare(self.context.deployment).to_text()?;
        let sql = format!("COMMENT ON DATABASE {} IS {}", ident(&spare), literal(&comment));
        self.admin.run("mark a new database", sql).await?;
        self.fill(tenant, &spare, identity).await
    }

    /// Gives a database its rights, what a handle expects in it, and the context's schema.
    async fn fill(&self, tenant: &TenantId, database: &str, identity: &Identity) -> Result<()> {
        furnish::grant(&self.admin, database, identity).await?;
        furnish::furnish(&self.admin, database, identity, self.context.ledger()).await?;
        if self.context.template.is_none() {
            return Ok(());
        }
        let place = Place {
            name: database.to_owned(),
            identity: Some(identity.clone()),
            comment: None,
            is_open: true,
        };
        let _entrance = self.admin.entrance().await?;
        let connection =
            connect::maintain(&self.admin, &place, identity, tenant, &self.config).await?;
        furnish::apply(&self.context, connection.into()).await
    }

    /// Gives a finished database its name and its stamp; `false`: there is one of that name.
    async fn claim(
        &self,
        tenant: &TenantId,
        placement: &Placement,
        name: &DatabaseName,
        identity: &Identity,
    ) -> Result<bool> {
        let stamp = Stamp::new(self.context.deployment, tenant, placement.generation);
        let comment = literal(&Comment::of(&stamp).to_text()?);
        let (spare, name) = (ident(&identity.spare()), ident(name.as_str()));
        let sql = format!(
            "ALTER DATABASE {spare} RENAME TO {name}; COMMENT ON DATABASE {name} IS {comment}"
        );
        match self.admin.run("give the database its name", sql).await {
            Ok(()) => Ok(true),
            Err(error) if DUPLICATE_DATABASE.iter().any(|code| error.is(code)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a database that nobody needs, and its roles.
    async fn discard(&self, identity: &Identity) {
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
        self.context.placements.get(tenant).await?.ok_or_else(|| {
            mt_core::Error::new(ErrorKind::TenantNotFound, "no placement is known of the tenant")
        })
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
