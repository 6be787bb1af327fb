//! Looking at what a copy made, before anybody else does.

use mt_core::BackupManifest;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    admin::{ident, literal},
    contents,
    error::{Error, Result},
    login::run,
    names::{Identity, Part},
};

/// The session that looks, as the owner of the new database and as nobody else.
#[derive(Debug)]
pub(super) struct Inspection<'i> {
    pub(super) session: PgConnection,
    identity: &'i Identity,
    /// The role that `pg_restore` logs in as.
    login: &'i str,
    default_rights: String,
}

/// The rights that future objects get.
const DEFAULT_RIGHTS: &str = "SELECT coalesce(string_agg(concat_ws(' ', defaclrole, \
    defaclnamespace, defaclobjtype, defaclacl::text), ';' ORDER BY oid), '') FROM pg_default_acl";

/// What belongs to another role than those of the database, or gives one a right.
const STRANGERS: &str = "SELECT EXISTS (SELECT FROM pg_shdepend s, pg_database d \
    WHERE datname = current_database() AND refclassid = 'pg_authid'::regclass \
      AND (dbid = d.oid OR dbid = 0 AND classid = 'pg_database'::regclass AND objid = d.oid) \
      AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = refobjid \
        AND (rolname = ANY($1) OR dbid = 0 AND rolname = $2)))";

/// What is called as the stamp, and cannot be replaced by the view of it.
const IMPOSTOR: &str = "SELECT EXISTS (SELECT FROM pg_class \
    WHERE oid = to_regclass('public._mt_tenant') AND relkind <> 'v')";

impl<'i> Inspection<'i> {
    /// Before anything came in.
    pub(super) async fn begin(
        mut session: PgConnection,
        identity: &'i Identity,
        login: &'i str,
    ) -> Result<Self> {
        let default_rights = text(&mut session, DEFAULT_RIGHTS).await?;
        Ok(Self { session, identity, login, default_rights })
    }

    /// Refuses what is not what `manifest` says, and what no copy of ours does.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) async fn check(
        &mut self,
        manifest: &BackupManifest,
        ledger: Option<&str>,
    ) -> Result<()> {
        let damaged = |damage: &str| Err(Error::Damaged(damage.to_owned()));
        let names = Part::ALL.map(|part| self.identity.role(part));
        let strangers = sqlx::query_scalar(STRANGERS).bind(&names[..]).bind(self.login);
        if strangers.fetch_one(&mut self.session).await.map_err(looking())? {
            return damaged("it gives rights to roles that are not of this database");
        }
        if text(&mut self.session, DEFAULT_RIGHTS).await? != self.default_rights {
            return damaged("it changes the rights to what will be made");
        }
        if sqlx::query_scalar(IMPOSTOR).fetch_one(&mut self.session).await.map_err(looking())? {
            return damaged("it has something else in the place of the stamp");
        }
        if let Some(ledger) = ledger
            && !self.is_plain(ledger).await?
        {
            return damaged("the table of its migrations is none");
        }
        let tables = contents::tables(&mut self.session).await?;
        let rows = contents::count(&mut self.session, &tables).await?;
        if rows != manifest.rows {
            let damage = format!("its tables have {rows:?} rows, expected {:?}", manifest.rows);
            return Err(Error::Damaged(damage));
        }
        let newest = contents::newest(&mut self.session, ledger).await?;
        if ledger.is_some()
            && manifest.schema_version.is_some()
            && newest != manifest.schema_version
        {
            let damage = format!(
                "its newest migration is {newest:?}, expected {:?}",
                manifest.schema_version
            );
            return Err(Error::Damaged(damage));
        }
        Ok(())
    }

    /// Whether the ledger, if there is one, is a table whose reading runs no code of the copy: we
    /// read it. What is indexed and checked is evaluated where a query is planned.
    async fn is_plain(&mut self, ledger: &str) -> Result<bool> {
        let name = literal(&format!("public.{}", ident(ledger)));
        let sql = format!(
            "SELECT NOT EXISTS (SELECT FROM pg_class c WHERE oid = to_regclass({name}) AND ( \
               relkind <> 'r' OR relrowsecurity OR relhasrules OR relhassubclass \
               OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid \
                 AND (indpred IS NOT NULL OR indexprs IS NOT NULL)) \
               OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c') \
               OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = c.oid) \
               OR NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid \
                 AND attname = 'version' AND atttypid IN ('varchar'::regtype, 'text'::regtype))))"
        );
        let plain = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.session).await;
        plain.map_err(looking())
    }

    /// Takes everybody's rights to what came in; the tenant's roles get theirs as everywhere. Large
    /// objects have one owner, and no rights that could be given to more.
    pub(super) async fn revoke(&mut self) -> Result<()> {
        let [_, runtime, reader, _] = Part::ALL.map(|part| ident(&self.identity.role(part)));
        let sql = format!(
            "DO $do$ DECLARE name text; owner oid; BEGIN \
             SELECT oid INTO owner FROM pg_roles WHERE rolname = current_user; \
             FOR name IN SELECT quote_ident(nspname) FROM pg_namespace \
               WHERE nspowner = owner OR nspname = 'public' LOOP \
               EXECUTE 'REVOKE ALL ON SCHEMA ' || name || ' FROM PUBLIC, {runtime}, {reader}'; \
             END LOOP; \
             FOR name IN SELECT oid::regclass FROM pg_class \
               WHERE relowner = owner AND relkind IN ('r', 'p', 'v', 'm', 'f') LOOP \
               EXECUTE 'REVOKE ALL ON ' || name || ' FROM PUBLIC, {runtime}, {reader}'; \
             END LOOP; \
             FOR name IN SELECT oid::regclass FROM pg_class \
               WHERE relowner = owner AND relkind = 'S' LOOP \
               EXECUTE 'REVOKE ALL ON SEQUENCE ' || name || ' FROM PUBLIC, {runtime}, {reader}'; \
             END LOOP; \
             FOR name IN SELECT oid::text FROM pg_largeobject_metadata WHERE lomowner = owner LOOP \
               EXECUTE 'ALTER LARGE OBJECT ' || name || ' OWNER TO {runtime}'; \
             END LOOP; \
             END $do$"
        );
        run(&mut self.session, "take the rights to what came in", sql).await
    }
}

fn looking() -> impl FnOnce(sqlx::Error) -> Error {
    Error::server("look at the copy in the new database")
}

async fn text(session: &mut PgConnection, sql: &'static str) -> Result<String> {
    sqlx::query_scalar(sql).fetch_one(session).await.map_err(looking())
}
