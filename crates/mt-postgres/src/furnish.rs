//! Roles and rights of a database, and what a handle expects in it.

use mt_core::{Connection, FactoryContext, Stamp};
use sea_orm::DbBackend;

use crate::{
    admin::{self, Admin, ident, literal},
    comment::VIEW,
    error::Result,
    names::{Identity, Part},
    roles::Passwords,
};

/// Makes the three roles of a database that is to be.
pub(crate) async fn make_roles(
    admin: &Admin,
    identity: &Identity,
    passwords: &Passwords,
) -> Result<()> {
    let mut sql = String::new();
    for part in Part::ALL {
        let role = identity.role(part);
        let login = match part {
            Part::Owner => "NOLOGIN".to_owned(),
            Part::Runtime | Part::Reader => {
                format!("LOGIN PASSWORD {}", literal(&passwords.verifier(&role)))
            }
        };
        let role = ident(&role);
        // Whoever administers acts as each of them, also where it is no superuser.
        sql += &format!(
            "CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {login};\
             GRANT {role} TO CURRENT_USER;"
        );
    }
    admin.run("make the roles of a database", sql).await
}

/// Removes the roles of a database that is gone.
pub(crate) async fn drop_roles(admin: &Admin, identity: &Identity) -> Result<()> {
    let roles = Part::ALL.map(|part| ident(&identity.role(part))).join(", ");
    admin.run("remove the roles of a database", format!("DROP ROLE IF EXISTS {roles}")).await
}

/// Gives the database to its roles, and nothing of it to anybody else.
pub(crate) async fn grant(admin: &Admin, database: &str, identity: &Identity) -> Result<()> {
    let [owner, runtime, reader] = Part::ALL.map(|part| ident(&identity.role(part)));
    let database = ident(database);
    let sql = format!(
        "ALTER DATABASE {database} OWNER TO {owner};\
         REVOKE ALL ON DATABASE {database} FROM PUBLIC;\
         GRANT CONNECT ON DATABASE {database} TO {runtime}, {reader}"
    );
    admin.run("give the database to its roles", sql).await
}

/// Puts into the database what a handle expects: the view of the stamp, the ledger, and the rights
/// to whatever its owner makes.
pub(crate) async fn furnish(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    ledger: Option<&str>,
) -> Result<()> {
    let [_, runtime, reader] = Part::ALL.map(|part| ident(&identity.role(part)));
    let writes = "INSERT, UPDATE, DELETE";
    let mut sql = format!(
        "SELECT pg_advisory_xact_lock({LOCK});\
         REVOKE ALL ON SCHEMA public FROM PUBLIC;\
         GRANT USAGE ON SCHEMA public TO {runtime}, {reader};\
         ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {runtime}, {reader};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT, {writes} ON TABLES TO {runtime};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT, USAGE ON SEQUENCES TO {runtime};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO {reader};\
         {VIEW};\
         REVOKE {writes} ON public._mt_tenant FROM {runtime};"
    );
    if let Some(ledger) = ledger {
        for statement in Stamp::to_tables(DbBackend::Postgres, Some(ledger)).into_iter().skip(1) {
            sql += &statement.sql;
            sql += ";";
        }
        sql += &format!("REVOKE {writes} ON public.{} FROM {runtime};", ident(ledger));
    }
    let mut inside = admin.enter(database, identity, Part::Owner).await?;
    let done = admin::run(&mut inside.connection, "prepare the database", sql).await;
    inside.close().await;
    done
}

/// Of those who prepare one database at once, one goes first. Any number does.
const LOCK: i64 = 0x6d74_5f70_6f73;

/// Brings a database that is prepared and empty to the context's schema.
pub(crate) async fn apply(context: &FactoryContext, connection: Connection) -> mt_core::Result<()> {
    let applied = match &context.template {
        Some(template) => template.apply(&connection).await,
        None => Ok(()),
    };
    drop(connection.close().await);
    applied
}
