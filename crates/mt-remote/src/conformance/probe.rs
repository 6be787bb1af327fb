//! The table that checks write to, and the statements they use.

use mt_core::{Driver, DriverTransaction};
use sea_orm::{DbBackend, DbErr, QueryResult, Statement, Value};

use super::fault::{Doing as _, Outcome};

/// Id and note.
pub(crate) type Row = (i64, String);

pub(crate) const TABLE: &str = "CREATE TABLE probe (id INTEGER PRIMARY KEY, note TEXT UNIQUE)";

pub(crate) fn row(id: i64, note: &str) -> Row {
    (id, note.to_owned())
}

pub(crate) fn sql(text: impl Into<String>) -> Statement {
    Statement::from_string(DbBackend::Sqlite, text)
}

pub(crate) fn bound(text: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, text, values)
}

/// The statement that inserts one row.
pub(crate) fn insertion(id: i64, note: &str) -> Statement {
    bound("INSERT INTO probe (id, note) VALUES (?, ?)", [id.into(), note.into()])
}

/// The statement that inserts the rows 1 to `last`.
pub(crate) fn series(last: i64) -> Statement {
    sql(format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
         INSERT INTO probe (id, note) SELECT i, 'note ' || i FROM n"
    ))
}

pub(crate) fn selection() -> Statement {
    sql("SELECT id, note FROM probe ORDER BY id")
}

pub(crate) fn decode(row: &QueryResult) -> Result<Row, DbErr> {
    Ok((row.try_get("", "id")?, row.try_get("", "note")?))
}

/// Makes the table.
pub(crate) async fn create(driver: &dyn Driver) -> Outcome {
    driver.execute(sql(TABLE)).await.doing("CREATE TABLE").map(drop)
}

pub(crate) async fn rows(driver: &dyn Driver) -> Outcome<Vec<Row>> {
    let rows = driver.query(selection()).await.doing("a select")?;
    rows.iter().map(decode).collect::<Result<_, _>>().doing("reading a row")
}

pub(crate) async fn rows_inside(transaction: &dyn DriverTransaction) -> Outcome<Vec<Row>> {
    let rows = transaction.query(selection()).await.doing("a select in a transaction")?;
    rows.iter().map(decode).collect::<Result<_, _>>().doing("reading a row")
}

/// The first row of `statement`.
pub(crate) async fn one(driver: &dyn Driver, statement: Statement) -> Outcome<QueryResult> {
    let what = statement.sql.clone();
    let rows = driver.query(statement).await.doing(&what)?;
    rows.into_iter().next().ok_or_else(|| super::fault::Fault::new(format!("{what}: no row")))
}
