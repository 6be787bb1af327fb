//! Roles that programs log in as while they copy a database: never the administrator, whom code in
//! the database or in a copy could act as.

use sqlx::{ConnectOptions as _, PgConnection};

use crate::{
    admin::{self, Admin, ident, literal},
    error::{CONNECT, Error, Result},
    names::{Identity, Part},
};

/// How long a table is waited for that somebody else changes at this moment.
pub(crate) const LOCK_TIMEOUT: &str = "30s";

/// How long one can log in as such a role, by the server's clock: programs do so when they begin, and
/// a password that somebody who was killed left behind is soon worth nothing.
const LOGIN_FOR: &str = "1 hour";

/// A role for one backup or one restore. It is removed with this value.
#[derive(Debug)]
pub(crate) struct Login {
    admin: Admin,
    own: Identity,
    pub(crate) role: String,
    is_there: bool,
}

impl Login {
    fn new(admin: &Admin, own: &Identity) -> Self {
        let (admin, own) = (admin.clone(), own.clone());
        let role = own.role(Part::Ddl);
        Self { admin, own, role, is_there: true }
    }

    /// Makes a role that may read everything in the database of `identity`, large objects included,
    /// which belong to whom made them. It has a name of its own, so that there can be several.
    pub(crate) async fn to_read(admin: &Admin, prefix: &str, identity: &Identity) -> Result<Self> {
        let login = Self::new(admin, &Identity::new(prefix));
        let [owner, runtime] = [Part::Owner, Part::Runtime].map(|part| ident(&identity.role(part)));
        let role = ident(&login.role);
        let sql = format!("{}; GRANT {owner}, {runtime} TO {role}", login.create("INHERIT"));
        admin.run("make a role that reads the database", sql).await?;
        Ok(login)
    }

    /// Makes a role that acts as the owner of the new database of `identity` and has no rights of its
    /// own: whatever it makes belongs to the owner.
    pub(crate) async fn to_fill(
        admin: &Admin,
        identity: &Identity,
        database: &str,
    ) -> Result<Self> {
        let login = Self::new(admin, identity);
        let [owner, runtime] = [Part::Owner, Part::Runtime].map(|part| ident(&identity.role(part)));
        let (role, database) = (ident(&login.role), ident(database));
        // As the runtime role it gives that one its large objects.
        let sql = format!(
            "{create}; GRANT {owner} TO {role}; GRANT {runtime} TO {owner}; \
             GRANT CONNECT ON DATABASE {database} TO {role}; ALTER ROLE {role} SET role = {owner}",
            create = login.create("NOINHERIT"),
        );
        admin.run("make a role that fills the new database", sql).await?;
        Ok(login)
    }

    fn create(&self, inherit: &str) -> String {
        let (role, verifier) =
            (ident(&self.role), literal(&self.admin.passwords().verifier(&self.role)));
        format!(
            "CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {inherit} \
             LOGIN PASSWORD {verifier}; GRANT {role} TO CURRENT_USER; \
             DO $mt$ BEGIN EXECUTE format({until}, now() + interval '{LOGIN_FOR}'); END $mt$",
            until = literal(&format!("ALTER ROLE {role} VALID UNTIL %L")),
        )
    }

    pub(crate) fn password(&self) -> mt_core::Secret {
        self.admin.passwords().of(&self.role)
    }

    /// A connection of our own as this role.
    pub(crate) async fn connect(&self, database: &str) -> Result<PgConnection> {
        // Nobody waits for these statements but whoever asked for a copy. Policies that would hide
        // rows are an error.
        let settings = [
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("lock_timeout", LOCK_TIMEOUT),
            ("row_security", "off"),
        ];
        let options = self.admin.server().clone().database(database).options(settings);
        let options = options.username(&self.role).password(self.password().expose());
        let options = options.disable_statement_logging().options(admin::DURABLE);
        let timeout = self.admin.pool().options().get_acquire_timeout();
        admin::dial(&options, timeout).await.map_err(Error::server(CONNECT))
    }

    /// Lets nobody log in as it any more, and ends all sessions of it but that of `kept`: who knows
    /// what came in may know a password that it was given there.
    pub(crate) async fn close(&self, kept: &mut PgConnection) -> Result<()> {
        let ending = || Error::server("end the sessions of a restore");
        let kept = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(kept).await;
        let kept: i32 = kept.map_err(ending())?;
        let sql = format!("ALTER ROLE {} NOLOGIN", ident(&self.role));
        self.admin.run("close a role", sql).await?;
        loop {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE usename = $1 AND pid <> $2";
            let ended = sqlx::query_scalar(sql).bind(&self.role).bind(kept);
            let ended: i64 = ended.fetch_one(self.admin.pool()).await.map_err(ending())?;
            if ended == 0 {
                return Ok(());
            }
            tokio::time::sleep(crate::remove::PAUSE).await;
        }
    }

    /// Removes it.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.is_there = false;
        drop_role(&self.admin, &self.role).await
    }

    /// Removes it from the database that it filled.
    pub(crate) async fn end_filling(mut self, database: &str) -> Result<()> {
        let (role, database) = (ident(&self.role), ident(database));
        let [owner, runtime] = [Part::Owner, Part::Runtime].map(|part| ident(&self.own.role(part)));
        let sql = format!(
            "REVOKE {runtime} FROM {owner}; REVOKE ALL ON DATABASE {database} FROM {role}; \
             DROP ROLE {role}"
        );
        self.admin.run("remove the role of a restore", sql).await?;
        self.is_there = false;
        Ok(())
    }

    /// Leaves it to whoever removes the database that it was to fill.
    pub(crate) fn forget(mut self) {
        self.is_there = false;
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_there {
            let (admin, role) = (self.admin.clone(), self.role.clone());
            runtime.spawn(async move {
                if let Err(error) = drop_role(&admin, &role).await {
                    let error = mt_core::Error::from(error);
                    tracing::warn!(error = %error.to_chain(), role, "left behind");
                }
            });
        }
    }
}

async fn drop_role(admin: &Admin, role: &str) -> Result<()> {
    admin.run("remove the role of a copy", format!("DROP ROLE IF EXISTS {}", ident(role))).await
}

/// Ends a connection that only looked; that it does not end well is no news.
pub(crate) async fn leave(connection: PgConnection) {
    drop(sqlx::Connection::close(connection).await);
}

/// Runs statements without parameters on it.
pub(crate) async fn run(
    connection: &mut PgConnection,
    action: &'static str,
    sql: impl Into<String>,
) -> Result<()> {
    admin::run(connection, action, sql.into()).await
}
