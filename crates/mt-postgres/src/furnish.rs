//! Roles and rights of a database, and what a handle expects in it.

use mt_core::Stamp;
use sea_orm::DbBackend;

use crate::{
    admin::{self, Admin, ident, literal, set_role},
    comment::VIEW,
    error::Result,
    names::{Identity, Part},
};

/// Makes the roles of a database that is to be.
pub(crate) async fn make_roles(admin: &Admin, identity: &Identity) -> Result<()> {
    let mut sql = String::new();
    for part in Part::ALL {
        let role = ident(&identity.role(part));
        let login = if part == Part::Owner { "NOLOGIN" } else { "LOGIN" };
        let inherit = if part == Part::Maintainer { "NOINHERIT" } else { "INHERIT" };
        // Whoever administers gives each of them what it is to have, also where it is no superuser.
        sql += &format!(
            "CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION {inherit} {login};\
             GRANT {role} TO CURRENT_USER;"
        );
    }
    let [owner, runtime, reader, maintainer] = Part::ALL.map(|part| ident(&identity.role(part)));
    sql += &format!("GRANT {owner}, {runtime}, {reader} TO {maintainer};");
    sql += &settings_of_roles(admin, identity);
    admin.run_ahead("make the roles of a database", &sql).await
}

/// The statements that give the roles their passwords, and take back what they set for themselves: a
/// role may change both of its own, and for good.
pub(crate) fn settings_of_roles(admin: &Admin, identity: &Identity) -> String {
    let reset = |part| {
        let name = identity.role(part);
        let (role, verifier) = (ident(&name), literal(&admin.passwords().verifier(&name)));
        format!("ALTER ROLE {role} PASSWORD {verifier};ALTER ROLE {role} RESET ALL;")
    };
    [Part::Runtime, Part::Reader, Part::Maintainer].map(reset).concat()
}

/// Removes the roles of a database that is gone.
pub(crate) async fn drop_roles(admin: &Admin, identity: &Identity) -> Result<()> {
    // A copy that died leaves one more.
    let all = Part::ALL.into_iter().chain([Part::Ddl]);
    let roles: Vec<String> = all.map(|part| ident(&identity.role(part))).collect();
    let roles = roles.join(", ");
    admin.run("remove the roles of a database", format!("DROP ROLE IF EXISTS {roles}")).await
}

/// The statements that give the database to its roles, and nothing of it to anybody else.
pub(crate) fn grants(database: &str, identity: &Identity) -> String {
    let [owner, runtime, reader, maintainer] = Part::ALL.map(|part| ident(&identity.role(part)));
    let database = ident(database);
    format!(
        "ALTER DATABASE {database} OWNER TO {owner};\
         REVOKE ALL ON DATABASE {database} FROM PUBLIC;\
         GRANT CONNECT ON DATABASE {database} TO {runtime}, {reader}, {maintainer};"
    )
}

/// Puts into the database what a handle expects: the view of the stamp, and the ledger.
pub(crate) async fn lay_out(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    ledger: Option<&str>,
) -> Result<()> {
    let sql = set_role(identity, Part::Owner) + ";" + &layout(ledger);
    let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
    let done = admin::run(&mut inside.connection, "prepare the database", sql).await;
    inside.close().await;
    done
}

/// As [`lay_out`], in a database that may have something already, and with the rights to it.
pub(crate) async fn furnish(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    ledger: Option<&str>,
) -> Result<()> {
    let sql = set_role(identity, Part::Owner) + ";" + &layout(ledger) + &rights(identity, ledger);
    let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
    let done = admin::run(&mut inside.connection, "prepare the database", sql).await;
    inside.close().await;
    done
}

/// Makes a copy of a template `identity`'s, with everything in it, after `mark`.
pub(crate) async fn take_over(
    admin: &Admin,
    mark: &str,
    identity: &Identity,
    ledger: Option<&str>,
) -> Result<()> {
    let owner = identity.role(Part::Owner);
    let rights = rights(identity, ledger);
    // Whose it was is what the copy says: the template may be another by now. Schemas first: what is
    // in one can only be given to somebody who may make things there.
    let sql = format!(
        "{mark};DO $mt$ DECLARE before oid; found name; BEGIN \
         SELECT relowner INTO before FROM pg_class \
           WHERE oid = 'public._mt_tenant'::regclass; \
         FOR found IN SELECT nspname FROM pg_namespace WHERE nspowner = before LOOP \
           EXECUTE format('ALTER SCHEMA %I OWNER TO %I', found, {owner_name}); \
         END LOOP; \
         EXECUTE format('REASSIGN OWNED BY %s TO %I', before::regrole, {owner_name}); \
         END $mt$;SET LOCAL ROLE {owner};{rights}",
        owner_name = literal(&owner),
        owner = ident(&owner),
    );
    let mut inside = admin.visit(&identity.spare()).await?;
    let sql = admin::ahead(&sql);
    let done = admin::run(&mut inside.connection, "take the copy of a template over", sql).await;
    inside.close().await;
    done
}

fn layout(ledger: Option<&str>) -> String {
    let mut sql = format!(
        "SELECT pg_advisory_xact_lock({LOCK});REVOKE ALL ON SCHEMA public FROM PUBLIC;{VIEW};"
    );
    for statement in Stamp::to_tables(DbBackend::Postgres, ledger).into_iter().skip(1) {
        sql += &statement.sql;
        sql += ";";
    }
    sql
}

/// The statements by which the owner gives its roles what is there, and what it will make.
pub(crate) fn rights(identity: &Identity, ledger: Option<&str>) -> String {
    let [_, runtime, reader, _] = Part::ALL.map(|part| ident(&identity.role(part)));
    let writes = "INSERT, UPDATE, DELETE";
    let mut sql = format!(
        "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {runtime}, {reader};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT, {writes} ON TABLES TO {runtime};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT, USAGE ON SEQUENCES TO {runtime};\
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO {reader};"
    );
    // Only what the owner has: what an extension brought may be somebody else's.
    let tables = "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class \
        WHERE relowner = current_user::regrole AND relkind IN ('r', 'p', 'v', 'm', 'f')";
    let sequences = "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class \
        WHERE relowner = current_user::regrole AND relkind = 'S'";
    let schemas = "SELECT string_agg(quote_ident(nspname), ', ') FROM pg_namespace \
        WHERE nspname = 'public' OR nspowner = current_user::regrole";
    let grants = [
        (schemas, "USAGE", "SCHEMA", format!("{runtime}, {reader}")),
        (tables, "SELECT, INSERT, UPDATE, DELETE", "TABLE", runtime.clone()),
        (tables, "SELECT", "TABLE", reader.clone()),
        (sequences, "SELECT, USAGE", "SEQUENCE", runtime.clone()),
        (sequences, "SELECT", "SEQUENCE", reader),
    ];
    for (found, right, kind, roles) in grants {
        let grant = literal(&format!("GRANT {right} ON {kind} %s TO {roles}"));
        sql += &format!(
            "DO $mt$ DECLARE found text; BEGIN found := ({found}); \
             IF found IS NOT NULL THEN EXECUTE format({grant}, found); END IF; END $mt$;"
        );
    }
    for ours in ["_mt_tenant"].into_iter().chain(ledger) {
        sql += &format!("REVOKE {writes} ON public.{} FROM {runtime};", ident(ours));
    }
    sql
}

/// Of those who prepare one database at once, one goes first. Any number does.
const LOCK: i64 = 0x6d74_5f70_6f73;
