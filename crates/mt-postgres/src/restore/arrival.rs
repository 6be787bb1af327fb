//! A new database, and a copy on its way into it.

use std::process::Stdio;

use mt_core::{BackupManifest, ErrorKind, Result};
use tokio::io::AsyncRead;

use super::{archive::feed, inspection::Inspection};
use crate::{
    PostgresFactory,
    admin::{Admin, ident},
    child::Program,
    error::{Error, Result as OwnResult},
    furnish,
    libpq::Surroundings,
    login::{Login, leave},
    names::{Identity, Part},
    programs::{Found, RESTORE},
};

/// A database that is no tenant's yet. It is removed with this value.
#[derive(Debug)]
pub(super) struct NewDatabase {
    pub(super) admin: Admin,
    pub(super) identity: Identity,
    /// What it is called now.
    pub(super) name: String,
    is_kept: bool,
}

impl NewDatabase {
    /// Leaves it where it is.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }

    /// Removes it.
    pub(super) async fn discard(mut self) {
        self.is_kept = true;
        discard(&self.admin, &self.name, &self.identity).await;
    }
}

impl Drop for NewDatabase {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.is_kept {
            let (admin, name, identity) =
                (self.admin.clone(), self.name.clone(), self.identity.clone());
            runtime.spawn(async move { discard(&admin, &name, &identity).await });
        }
    }
}

async fn discard(admin: &Admin, name: &str, identity: &Identity) {
    // What came in may have made it a template, which cannot be dropped. It may also not be there.
    let sql = format!("ALTER DATABASE {} IS_TEMPLATE false", ident(name));
    admin.run("open a database to be removed", sql).await.ok();
    if let Err(error) = drop_database(admin, name, identity).await {
        let error = mt_core::Error::from(error);
        tracing::warn!(error = %error.to_chain(), database = name, "left behind");
    }
}

/// Removes a database that nobody needs, whoever is in it, and its roles.
pub(super) async fn drop_database(admin: &Admin, name: &str, identity: &Identity) -> OwnResult<()> {
    let owner = sqlx::query_scalar::<_, String>(
        "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1",
    );
    let owner = owner.bind(name).fetch_optional(admin.pool()).await;
    let owner = owner.map_err(Error::server("look at a database that is not needed"))?;
    if owner.is_some_and(|owner| owner != identity.role(Part::Owner)) {
        // Somebody else's has its name by now.
        return furnish::drop_roles(admin, identity).await;
    }
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
    admin.run("remove a database that is not needed", sql).await?;
    furnish::drop_roles(admin, identity).await
}

/// What a copy is received with.
pub(super) struct Arrival<'r> {
    pub(super) factory: &'r PostgresFactory,
    pub(super) found: &'r Found,
    pub(super) manifest: &'r BackupManifest,
}

impl Arrival<'_> {
    /// Makes a database of the copy. On error there is none.
    pub(super) async fn receive(
        &self,
        source: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<NewDatabase> {
        let identity = Identity::new(&self.factory.config.database_prefix);
        let (admin, name) = (self.factory.admin.clone(), identity.spare());
        let new = NewDatabase { admin, identity, name, is_kept: false };
        let filled = async {
            self.make(&new).await?;
            self.fill(&new, source).await
        };
        match filled.await {
            Ok(()) => Ok(new),
            Err(error) => {
                new.discard().await;
                Err(error)
            }
        }
    }

    /// Makes it as a spare is made, without a schema: that comes with the copy.
    async fn make(&self, new: &NewDatabase) -> Result<()> {
        let NewDatabase { admin, identity, name, .. } = new;
        furnish::make_roles(admin, identity).await?;
        let owner = identity.role(Part::Owner);
        self.factory.create_database(identity, "template0", &owner).await?;
        admin.run("give the database to its roles", self.factory.mark(identity)?).await?;
        // The ledger comes with the copy.
        Ok(furnish::furnish(admin, name, identity, None).await?)
    }

    async fn fill(
        &self,
        new: &NewDatabase,
        source: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<()> {
        let NewDatabase { admin, identity, name, .. } = new;
        let login = Login::to_fill(admin, identity, name).await?;
        let ledger = self.factory.context.ledger();
        // Before anything came in, so that nothing of it has a say in this session, which also tells
        // others that the database is not left behind.
        let session = login.connect(name).await?;
        let filled = async {
            let mut inspection = Inspection::begin(session, identity, &login.role).await?;
            self.run(&login, name, source).await?;
            login.close(&mut inspection.session).await?;
            inspection.check(self.manifest, ledger).await?;
            inspection.revoke().await?;
            Ok(inspection)
        };
        let inspection = match filled.await {
            Ok(inspection) => inspection,
            Err(error) => {
                // It is removed with the database.
                login.forget();
                return Err(error);
            }
        };
        leave(inspection.session).await;
        login.end_filling(name).await?;
        self.reset(new).await?;
        // What a handle expects, in the place of what may have come in under its name.
        Ok(furnish::furnish(admin, name, identity, ledger).await?)
    }

    /// Takes back what an owner can change of the database itself.
    async fn reset(&self, new: &NewDatabase) -> OwnResult<()> {
        let NewDatabase { admin, identity, name, .. } = new;
        let [_, runtime, reader, maintainer] = Part::ALL.map(|part| ident(&identity.role(part)));
        let database = ident(name);
        let sql = format!(
            "ALTER DATABASE {database} RESET ALL; \
             ALTER DATABASE {database} ALLOW_CONNECTIONS true CONNECTION LIMIT -1 IS_TEMPLATE false; \
             REVOKE ALL ON DATABASE {database} FROM {runtime}, {reader}, {maintainer};{roles}{grants}",
            roles = furnish::settings_of_roles(admin, identity),
            grants = furnish::grants(name, identity)
        );
        admin.run("reset the new database", sql).await
    }

    /// Runs `pg_restore` on what comes.
    async fn run(
        &self,
        login: &Login,
        database: &str,
        source: &mut (dyn AsyncRead + Send + Unpin),
    ) -> OwnResult<()> {
        let (server, timeout) =
            (self.factory.admin.server(), self.factory.config.acquire_timeout());
        let surroundings =
            Surroundings::prepare(server, database, &login.role, login.password(), timeout).await?;
        let mut command = surroundings.command(&self.found.program(RESTORE));
        command.args([
            // Which one is said where its name is not seen by everybody.
            "--dbname=",
            "--format=custom",
            "--no-password",
            "--exit-on-error",
            "--single-transaction",
            "--no-owner",
            "--no-privileges",
            "--no-publications",
            "--no-subscriptions",
            "--no-security-labels",
            "--no-tablespaces",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut program = Program::start(RESTORE, command)?;
        let archive = program.child.stdin.take();
        let ((), verdict) = program.end(feed(self.manifest, source, archive)).await?;
        verdict.map_err(|error| match error {
            // Neither the server nor the way to it: it cannot read the copy.
            Error::Program { name, status, kind: ErrorKind::Internal, source } => {
                Error::Program { name, status, kind: ErrorKind::Corrupt, source }
            }
            other => other,
        })
    }
}
