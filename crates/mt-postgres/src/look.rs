//! What is in a tenant's database.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use crate::{
    admin::{Admin, ident, literal, set_role},
    error::{Error, NO_TABLE, Result},
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
        let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
        let connection = &mut inside.connection;
        let look = match Self::over(connection, identity, ledger).await {
            Err(error) if error.is(NO_TABLE) => Self::over(connection, identity, None).await,
            look => look,
        };
        inside.close().await;
        look
    }

    /// In one round trip: the role is taken on by the same text.
    async fn over(
        connection: &mut PgConnection,
        identity: &Identity,
        ledger: Option<&str>,
    ) -> Result<Self> {
        let action = "look into the tenant's database";
        let applied = ledger.map_or("NULL::text[]".to_owned(), |ledger| {
            let ledger = ident(ledger);
            format!(
                "ARRAY(SELECT version::text FROM public.{ledger} ORDER BY version COLLATE \"C\")"
            )
        });
        let sql = format!(
            "{set_role}; SELECT to_regclass('public._mt_tenant') IS NOT NULL, \
             EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
              WHERE relkind IN ('r', 'p', 'f', 'v', 'm') \
              AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' \
              AND NOT (nspname = 'public' AND relname IN ('_mt_tenant', {ledger}))), \
             {applied}",
            set_role = set_role(identity, Part::Reader),
            ledger = literal(ledger.unwrap_or_default()),
        );
        let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        let row = row.map_err(Error::server(action))?;
        let read = || -> Result<_, sqlx::Error> {
            let applied: Option<Vec<String>> = row.try_get(2)?;
            Ok((row.try_get(0)?, row.try_get(1)?, applied.unwrap_or_default()))
        };
        let (has_stamp, has_tables, applied): (bool, bool, Vec<String>) =
            read().map_err(Error::server(action))?;
        // A ledger with rows is a schema's, though nothing else is left of it.
        let has_tables = has_tables || !applied.is_empty();
        Ok(Self { has_stamp, has_tables, applied })
    }
}
