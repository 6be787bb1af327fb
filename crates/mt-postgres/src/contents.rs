//! What is in a database, for the manifest of a copy and to compare a copy with it.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::{
    admin::{ident, literal},
    error::{Error, Result},
};

/// A table that has rows of its own.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// As the manifest has it.
    told: String,
    /// As a statement has it.
    name: String,
}

/// The tables whose rows are in a copy. What an extension made is made by it again, a view has no
/// rows, and those of a partitioned table are in its partitions.
///
/// In `public` a table has its own name; elsewhere its schema stands before it, and names are quoted
/// where they must be, so that no two are told as one.
pub(crate) async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>> {
    const SELECT: &str = "SELECT CASE \
          WHEN nspname = 'public' AND strpos(relname::text, '.') = 0 THEN relname::text \
          WHEN nspname = 'public' THEN quote_ident(relname) \
          ELSE quote_ident(nspname) || '.' || quote_ident(relname) END, \
        nspname::text, relname::text \
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
        WHERE relkind = 'r' AND relpersistence <> 't' \
          AND nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_') \
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass \
            AND objid = c.oid AND deptype = 'e') \
        ORDER BY 1";
    let action = "list the tables of the database";
    let rows = sqlx::query(SELECT).fetch_all(connection).await.map_err(Error::server(action))?;
    let table = |row: &sqlx::postgres::PgRow| {
        let (schema, table): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let name = format!("{}.{}", ident(&schema), ident(&table));
        Ok(Table { told: row.try_get(0)?, name })
    };
    rows.iter().map(table).collect::<Result<_, _>>().map_err(Error::server(action))
}

/// Keeps everybody from changing or emptying `tables` until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, tables: &[Table]) -> Result<()> {
    for some in tables.chunks(100) {
        let names: Vec<&str> = some.iter().map(|table| table.name.as_str()).collect();
        let sql = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", names.join(", ONLY "));
        crate::login::run(connection, "keep the tables as they are", sql).await?;
    }
    Ok(())
}

/// How many rows each of `tables` has.
pub(crate) async fn count(
    connection: &mut PgConnection,
    tables: &[Table],
) -> Result<BTreeMap<String, u64>> {
    let mut rows = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT count(*) FROM ONLY {}", table.name);
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(&mut *connection);
        let count = count.await.map_err(Error::server("count the rows of a table"))?;
        rows.insert(table.told.clone(), count.unsigned_abs());
    }
    Ok(rows)
}

/// The newest applied migration; `None`: there is none, or no ledger.
pub(crate) async fn newest(
    connection: &mut PgConnection,
    ledger: Option<&str>,
) -> Result<Option<String>> {
    let Some(ledger) = ledger else { return Ok(None) };
    let reading = || Error::server("read the applied migrations");
    let name = format!("public.{}", ident(ledger));
    let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(&name));
    let is_there: bool = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut *connection)
        .await
        .map_err(reading())?;
    if !is_there {
        return Ok(None);
    }
    let sql = format!("SELECT max(version COLLATE \"C\")::text FROM {name}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.map_err(reading())
}
