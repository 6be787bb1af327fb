//! A database that has the schema already, to be copied for each new one.
//!
//! One for each schema of a deployment. Nobody can connect to it: a copy is refused while somebody is
//! in what is copied. What is in it belongs to a role of its own, and the database itself to whoever
//! administers, so that in a copy everything of that role can be given to the copy's owner at once.

use mt_core::{Result, SchemaRecord};
use sha2::{Digest as _, Sha256};

use crate::{
    PostgresFactory,
    admin::{self, Admin, ident, set_role},
    comment::Comment,
    error::{DUPLICATE_DATABASE, Error},
    furnish,
    names::{Identity, Part},
    place::Place,
};

impl PostgresFactory {
    /// The context's schema, as it is recorded of a database that has it.
    pub(crate) fn schema(&self) -> SchemaRecord {
        self.context.template.as_ref().map_or_else(SchemaRecord::default, |t| t.record())
    }

    /// The template of the context's schema, made if it is not there. One makes it, all others of
    /// this process wait.
    pub(crate) async fn template(&self) -> Result<String> {
        let mut known = self.template.lock().await;
        if let Some(template) = &*known {
            return Ok(template.clone());
        }
        let name = self.template_name();
        while !self.has_template(&name).await? {
            self.make_template(&name).await?;
        }
        *known = Some(name.clone());
        Ok(name)
    }

    /// Forgets a template that somebody removed.
    pub(crate) async fn forget_template(&self) {
        *self.template.lock().await = None;
    }

    fn template_name(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.context.deployment.to_string());
        let schema = self.context.template.as_ref();
        for text in schema.iter().flat_map(|schema| [schema.fingerprint(), schema.ledger()]) {
            hash.update([0]);
            hash.update(text);
        }
        let hash = format!("{:x}", hash.finalize());
        format!("{}--t-{}", self.config.database_prefix, &hash[..32])
    }

    async fn has_template(&self, name: &str) -> Result<bool> {
        let prefix = &self.config.database_prefix;
        let found = Place::find(&self.admin, prefix, &[name.to_owned()]).await?;
        let Some(place) = found.into_iter().next() else { return Ok(false) };
        if place.is_half_dropped {
            let sql = format!("DROP DATABASE IF EXISTS {}", ident(name));
            self.admin.run("remove a template that was half removed", sql).await?;
            return Ok(false);
        }
        let comment =
            place.comment.as_ref().filter(|comment| comment.is_of(self.context.deployment));
        if comment.and_then(|comment| comment.template(prefix)).is_some() {
            return Ok(true);
        }
        Err(Error::NoTemplate(place.name).into())
    }

    /// Makes it under a name of its own first; of two who do, one's is not needed.
    async fn make_template(&self, name: &str) -> Result<()> {
        let identity = Identity::new(&self.config.database_prefix);
        let made = self.finish_template(&identity, name).await;
        if !matches!(made, Ok(true)) {
            self.discard(&identity).await;
        }
        made.map(drop)
    }

    async fn finish_template(&self, identity: &Identity, name: &str) -> Result<bool> {
        let admin = &self.admin;
        furnish::make_roles(admin, identity).await?;
        self.create_database(identity, "template0", &identity.role(Part::Owner)).await?;
        let database = identity.spare();
        admin.run("give the database to its roles", self.mark(identity)?).await?;
        furnish::lay_out(admin, &database, identity, self.context.ledger()).await?;
        self.apply(&database, identity).await?;
        pack(admin, &database, identity).await?;
        let comment = Comment::of_template(self.context.deployment, identity, self.schema());
        let comment = comment.to_statement(name)?;
        let roles = Part::ALL.map(|part| ident(&identity.role(part))).join(", ");
        let (database, name) = (ident(&database), ident(name));
        let sql = format!(
            "ALTER DATABASE {database} OWNER TO CURRENT_USER;\
             ALTER DATABASE {database} ALLOW_CONNECTIONS false;\
             REVOKE ALL ON DATABASE {database} FROM {roles};\
             ALTER DATABASE {database} RENAME TO {name};\
             {comment}"
        );
        match admin.run("finish the template", sql).await {
            Ok(()) => Ok(true),
            Err(error) if DUPLICATE_DATABASE.iter().any(|code| error.is(code)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes everything in the database anew, without gaps: each tenant's is a copy of it, block by
/// block.
async fn pack(admin: &Admin, database: &str, identity: &Identity) -> Result<()> {
    let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
    // It leaves out what belongs to the server, and would tell of each of them.
    let quiet = set_role(identity, Part::Owner) + ";SET client_min_messages = error";
    let mut packed = Ok(());
    for sql in [quiet, "VACUUM (FULL, FREEZE, ANALYZE)".to_owned()] {
        if packed.is_ok() {
            packed = admin::run(&mut inside.connection, "pack the template", sql).await;
        }
    }
    inside.close().await;
    Ok(packed?)
}
