//! What is in a tenant's database.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::{
    admin::{Admin, ident, literal},
    error::{Error, Result},
    names::{Identity, Part},
};

/// What one look found.
#[derive(Debug)]
pub(crate) struct Look {
    /// Whether a handle can read the stamp.
    pub(crate) has_stamp: bool,
    /// Whether there is anything beside what we put there ourselves.
    pub(crate) has_tables: bool,
    /// The applied migrations, in order.
    pub(crate) applied: Vec<String>,
}

impl Look {
    /// Looks into `database` as its reader.
    pub(crate) async fn into(
        admin: &Admin,
        database: &str,
        identity: &Identity,
        ledger: Option<&str>,
    ) -> Result<Self> {
        let mut inside = admin.enter(database, identity, Part::Reader).await?;
        let look = Self::over(&mut inside.connection, ledger).await;
        inside.close().await;
        look
    }

    async fn over(connection: &mut PgConnection, ledger: Option<&str>) -> Result<Self> {
        let action = "look into the tenant's database";
        let named = |name: &str| literal(&format!("public.{}", ident(name)));
        let ledger_name = ledger.unwrap_or_default();
        let sql = format!(
            "SELECT to_regclass({stamp}) IS NOT NULL, \
             {has_ledger} AND to_regclass({ledger}) IS NOT NULL, \
             EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
              WHERE relkind IN ('r', 'p', 'f', 'v', 'm') \
              AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' \
              AND NOT (nspname = 'public' AND relname IN ('_mt_tenant', {ledger_only})))",
            stamp = named("_mt_tenant"),
            has_ledger = ledger.is_some(),
            ledger = named(ledger_name),
            ledger_only = literal(ledger_name),
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut *connection).await;
        let row = row.map_err(Error::server(action))?;
        let is = |index: usize| row.try_get::<bool, _>(index).map_err(Error::server(action));
        let (has_stamp, has_ledger, has_tables) = (is(0)?, is(1)?, is(2)?);
        let mut applied = Vec::new();
        if has_ledger {
            let sql = format!(
                "SELECT version::text FROM public.{} ORDER BY version COLLATE \"C\"",
                ident(ledger_name)
            );
            let versions = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await;
            applied = versions.map_err(Error::server(action))?;
        }
        // A ledger with rows is a schema's, though nothing else is left of it.
        let has_tables = has_tables || !applied.is_empty();
        Ok(Self { has_stamp, has_tables, applied })
    }
}
