use mt_core::{Driver, Error, Stamp, condition_guard};
use sea_orm::{DbBackend, DbErr, Statement, Value, prelude::Json};

use crate::ledger::Ledger;

/// The statement at the head of a batch that fails it, and so undoes all of it, unless the ledger
/// has exactly the names in `expected`, and the stamp is `stamp` where one is known.
///
/// The names travel as one parameter, however many they are; D1 has room for 100.
pub(super) fn statement(ledger: &Ledger, expected: &[String], stamp: Option<&Stamp>) -> Statement {
    let table = quoted(ledger.table());
    let mut condition = format!(
        "SELECT (SELECT count(*) FROM {table}) = ? AND NOT EXISTS \
         (SELECT version FROM {table} EXCEPT SELECT value FROM json_each(?))"
    );
    let mut values: Vec<Value> = vec![
        i64::try_from(expected.len()).unwrap_or(i64::MAX).into(),
        Json::from(expected.to_vec()).to_string().into(),
    ];
    if let Some(stamp) = stamp {
        condition.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM {} WHERE tenant = ? AND deployment = ? AND generation = ?)",
            quoted(Stamp::TABLE)
        ));
        values.extend([
            stamp.tenant.as_str().into(),
            stamp.deployment.to_string().into(),
            i64::from(stamp.generation.get()).into(),
        ]);
    }
    condition_guard(Statement::from_sql_and_values(DbBackend::Sqlite, condition, values))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads the stamp, and says whether it is `expected`.
///
/// # Errors
/// It could not be read; nothing is known then.
pub(super) async fn check_stamp(
    driver: &dyn Driver,
    expected: &Stamp,
) -> Result<Result<(), Error>, DbErr> {
    let tenant = &expected.tenant;
    let rows = match driver.query(Stamp::select(driver.backend(), None)).await {
        Ok(rows) => rows,
        Err(error) if error.to_string().contains("no such table") => {
            return Ok(Err(Stamp::missing(tenant)));
        }
        Err(error) => return Err(error),
    };
    let Some(row) = rows.first() else {
        return Ok(Err(Stamp::missing(tenant)));
    };
    let (owner, deployment, created_at, generation): (String, String, String, i64) = (
        row.try_get("", "tenant")?,
        row.try_get("", "deployment")?,
        row.try_get("", "created_at")?,
        row.try_get("", "generation")?,
    );
    let stamp = Stamp::from_columns(&owner, &deployment, &created_at, generation);
    Ok(stamp.and_then(|s| s.check(expected.deployment, tenant, expected.generation)))
}
