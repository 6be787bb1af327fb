//! What is in a tenant's database.

use sqlx::{AssertSqlSafe, Executor as _, FromRow, PgConnection, postgres::PgRow};

use crate::{
    admin::{Admin, ident, literal, set_role},
    error::{Error, NO_TABLE, Result},
    names::{Identity, Part},
};

/// Whether the stamp can be read.
const HAS_STAMP: &str = "to_regclass('public._mt_tenant') IS NOT NULL";

/// What one look found.
#[derive(Debug)]
pub(crate) struct Look {
    /// Whether a handle can read the stamp.
    pub(crate) has_stamp: bool,
    /// The applied migrations, in order.
    pub(crate) applied: Vec<String>,
}

impl Look {
    /// Looks into `database` as its reader. Most of what it takes is the connection, and after that
    /// the catalogs that the statement touches: a new session has none of them at hand.
    pub(crate) async fn into(
        admin: &Admin,
        database: &str,
        identity: &Identity,
        ledger: Option<&str>,
    ) -> Result<Self> {
        let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
        let look = Self::over(&mut inside.connection, identity, ledger).await;
        inside.close().await;
        look
    }

    async fn over(
        connection: &mut PgConnection,
        identity: &Identity,
        ledger: Option<&str>,
    ) -> Result<Self> {
        if let Some(ledger) = ledger {
            let sql = format!("SELECT {HAS_STAMP}, version::text FROM public.{}", ident(ledger));
            let rows: Vec<(bool, String)> = match read(connection, identity, &sql).await {
                Err(error) if error.is(NO_TABLE) => Vec::new(),
                rows => rows?,
            };
            if let Some((has_stamp, _)) = rows.first() {
                let has_stamp = *has_stamp;
                let mut applied: Vec<String> =
                    rows.into_iter().map(|(_, version)| version).collect();
                applied.sort_unstable();
                return Ok(Self { has_stamp, applied });
            }
        }
        let sql = format!("SELECT {HAS_STAMP}");
        let rows: Vec<(bool,)> = read(connection, identity, &sql).await?;
        let has_stamp = rows.into_iter().any(|(has_stamp,)| has_stamp);
        Ok(Self { has_stamp, applied: Vec::new() })
    }
}

/// Whether there is anything in `database` beside what we put there ourselves. A ledger with rows is
/// a schema's, though nothing else is left of it.
pub(crate) async fn has_tables(
    admin: &Admin,
    database: &str,
    identity: &Identity,
    look: &Look,
    ledger: Option<&str>,
) -> Result<bool> {
    if !look.applied.is_empty() {
        return Ok(true);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
          WHERE relkind IN ('r', 'p', 'f', 'v', 'm') \
          AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' \
          AND NOT (nspname = 'public' AND relname IN ('_mt_tenant', {ledger})))",
        ledger = literal(ledger.unwrap_or_default()),
    );
    let mut inside = admin.enter(database, identity, Part::Maintainer).await?;
    let rows: Result<Vec<(bool,)>> = read(&mut inside.connection, identity, &sql).await;
    inside.close().await;
    Ok(rows?.into_iter().any(|(has_tables,)| has_tables))
}

/// What the reader reads, in one round trip: the role is taken on by the same text.
async fn read<T>(connection: &mut PgConnection, identity: &Identity, sql: &str) -> Result<Vec<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let action = "look into the tenant's database";
    let sql = format!("{}; {sql}", set_role(identity, Part::Reader));
    let rows = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    let rows = rows.map_err(Error::server(action))?;
    rows.iter().map(T::from_row).collect::<Result<_, sqlx::Error>>().map_err(Error::server(action))
}
