//! Whether a database without a stamp is nobody's.

use mt_core::{Driver, Error, ErrorKind, Result, Stamp};
use mt_remote::Look;
use sea_orm::{
    DbBackend, DbErr, Statement,
    sea_query::{Alias, Expr, Query, SqliteQueryBuilder},
};

/// How many objects there are beside the stamp's table and the ledger's, and how many ledgers.
const OTHERS: &str = r#"SELECT COALESCE(SUM(NOT ("type" IN ('table', 'index') AND "tbl_name" IN (?1, ?2))), 0) AS "others", COALESCE(SUM("type" = 'table' AND "name" = ?2), 0) AS "ledgers" FROM "sqlite_master" WHERE "name" NOT LIKE '\_cf\_%' ESCAPE '\'"#;

/// Makes [`Look::Unassigned`] sure: a stamp's table without a stamp is nobody's only where nothing
/// else is in the database.
///
/// This provider makes no such database. Where there is one all the same, somebody has removed the
/// stamp, and what is left beside it is a tenant's. Cost: nothing of any other look; else one
/// request, or two where there is a ledger.
///
/// # Errors
/// The driver's, where it gives one of ours; else `Unavailable`.
pub(crate) async fn confirm(look: Look, driver: &dyn Driver, ledger: Option<&str>) -> Result<Look> {
    if look == Look::Unassigned && has_more(driver, ledger).await.map_err(unread)? {
        return Ok(Look::Unstamped);
    }
    Ok(look)
}

async fn has_more(driver: &dyn Driver, ledger: Option<&str>) -> Result<bool, DbErr> {
    // Without a ledger the stamp's own table stands there twice.
    let tables = [Stamp::TABLE, ledger.unwrap_or(Stamp::TABLE)].map(Into::into);
    let others = Statement::from_sql_and_values(DbBackend::Sqlite, OTHERS, tables);
    let [others, ledgers] = counts(driver, others, ["others", "ledgers"]).await?;
    let Some(ledger) = ledger.filter(|_| others == 0 && ledgers > 0) else {
        return Ok(others > 0);
    };
    let mut applied = Query::select();
    applied.expr_as(Expr::cust("COUNT(*)"), "applied").from(Alias::new(ledger));
    let applied = applied.to_string(SqliteQueryBuilder);
    let applied = Statement::from_string(DbBackend::Sqlite, applied);
    let [applied] = counts(driver, applied, ["applied"]).await?;
    Ok(applied > 0)
}

/// The one row of numbers that is asked for.
async fn counts<const N: usize>(
    driver: &dyn Driver,
    statement: Statement,
    columns: [&str; N],
) -> Result<[i64; N], DbErr> {
    let rows = driver.query(statement).await?;
    let row = rows.first().ok_or_else(|| DbErr::RecordNotFound("a count".to_owned()))?;
    let mut counts = [0; N];
    for (count, column) in counts.iter_mut().zip(columns) {
        *count = row.try_get("", column)?;
    }
    Ok(counts)
}

fn unread(error: DbErr) -> Error {
    let message = "cannot read what is in the database beside its stamp";
    Error::from_db_err(error, ErrorKind::Unavailable, message)
}
