//! Rows of a remote database as rows of SQLite, which SeaORM reads as it reads any other.

use std::{fmt, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _};
use mt_core::{Error, ErrorKind};
use sea_orm::{
    DbErr, QueryResult,
    sqlx::{
        self, Arguments as _, AssertSqlSafe, SqliteConnection, error::BoxDynError,
        sqlite::SqliteArguments,
    },
};

use crate::{
    Column, Row, Value,
    memory::{Connections, failed, typed_column},
};

/// Makes SeaORM's rows of values that came over a wire.
///
/// SeaORM reads a row as the driver that made it does, and there is no making one from outside. So
/// the values pass through SQLite databases in memory and come out as sqlx's own rows: names and
/// their order, storage classes and every bit of a value are as they were, and a value of the wrong
/// type is the same error as on a file.
///
/// Cheap to clone; all clones share their connections. One serves all tenants of a process: nothing
/// of a row stays behind in a connection.
#[derive(Clone)]
pub struct Decoder {
    pub(crate) connections: Arc<Connections>,
}

/// How many rows pass in one statement. Few sizes, so that the statements stay prepared.
const SIZES: [usize; 5] = [1, 4, 16, 64, 256];
/// `SQLITE_MAX_COLUMN` as SQLite is built here (<https://www.sqlite.org/limits.html>).
const MAX_COLUMNS: usize = 2_000;
/// Values that pass in one statement, far below SQLite's 32,766, because each costs memory for as
/// long as the statement stays prepared.
const MAX_PARAMETERS: usize = 4_096;

impl Decoder {
    /// Rows pass through at most `connections` (at least one) at once; each is opened when it is
    /// first needed and has a thread of its own.
    pub fn new(connections: usize) -> Self {
        Self { connections: Arc::new(Connections::new(connections)) }
    }

    /// `rows` with `columns`, in the same order.
    ///
    /// Dropping the future loses nothing but the rows.
    ///
    /// # Errors
    /// `Internal` in a [`DbErr`]: a row has another number of values than there are columns, there
    /// are more than 2,000 columns, or a name has a NUL character in it.
    pub async fn rows(
        &self,
        columns: &[Column],
        rows: Vec<Row>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        check(columns, &rows).map_err(Error::into_db_err)?;
        let head = head(columns);
        let mut decoded = Vec::with_capacity(rows.len());
        let mut connection = self.connections.lease().await?;
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let size = size(rows.len(), columns.len());
            let statement = statement(&head, columns.len(), size);
            let taken = rows.len().min(size);
            let arguments = arguments(rows.by_ref().take(taken), taken * columns.len())?;
            if let Err(error) =
                pass(&mut connection, statement, arguments, taken, &mut decoded).await
            {
                connection.discard();
                return Err(error);
            }
        }
        Ok(decoded)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// Runs `statement` for its first `count` rows; those beyond are padding. Stopping there also saves
/// the way to sqlx's thread and back on which the end would be told.
async fn pass(
    connection: &mut SqliteConnection,
    statement: String,
    arguments: SqliteArguments,
    count: usize,
    decoded: &mut Vec<QueryResult>,
) -> Result<(), DbErr> {
    let mut passing =
        sqlx::query_with(AssertSqlSafe(statement), arguments).fetch(connection).take(count);
    while let Some(row) = passing.try_next().await.map_err(failed)? {
        decoded.push(row.into());
    }
    Ok(())
}

fn check(columns: &[Column], rows: &[Row]) -> Result<(), Error> {
    let refused = |why: String| Err(Error::new(ErrorKind::Internal, why));
    if columns.is_empty() || columns.len() > MAX_COLUMNS {
        return refused(format!(
            "the answer has {} columns, expected 1 to {MAX_COLUMNS}",
            columns.len()
        ));
    }
    if columns.iter().any(|column| column.name.contains('\0')) {
        return refused("the name of a column has a NUL character in it".to_owned());
    }
    match rows.iter().find(|row| row.len() != columns.len()) {
        None => Ok(()),
        Some(row) => refused(format!(
            "a row has {} values, expected one for each of {} columns",
            row.len(),
            columns.len()
        )),
    }
}

/// How many rows the next statement has, of `rows` that are left: as many as fit, and no more than
/// as many again for padding.
fn size(rows: usize, columns: usize) -> usize {
    let mut sizes = SIZES.into_iter().filter(|size| size * columns <= MAX_PARAMETERS);
    let padded = sizes.clone().find(|size| (rows..=2 * rows).contains(size));
    padded.or_else(|| sizes.rfind(|size| *size <= rows)).unwrap_or(1)
}

/// The part that gives names and declared types: of a compound, SQLite takes them from its first
/// `SELECT`, which gives no row here.
fn head(columns: &[Column]) -> String {
    let mut text = String::with_capacity(32 * columns.len() + 64);
    text.push_str("SELECT ");
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(typed_column(column.declared.as_deref()));
        text.push_str(" AS \"");
        for (at, part) in column.name.split('"').enumerate() {
            if at > 0 {
                text.push_str("\"\"");
            }
            text.push_str(part);
        }
        text.push('"');
    }
    text.push_str(" FROM t WHERE 0 UNION ALL VALUES ");
    text
}

fn statement(head: &str, columns: usize, rows: usize) -> String {
    let mut text = String::with_capacity(head.len() + rows * (2 * columns + 2) + 16);
    text.push_str(head);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            text.push_str(if column == 0 { "?" } else { ",?" });
        }
        text.push(')');
    }
    text
}

/// The values of `rows`. What is left unbound is `NULL`.
fn arguments(rows: impl Iterator<Item = Row>, count: usize) -> Result<SqliteArguments, DbErr> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(count, 0);
    let bound = |bound: Result<(), BoxDynError>| bound.map_err(|e| failed(sqlx::Error::Encode(e)));
    for value in rows.flatten() {
        bound(match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Blob(value) => arguments.add(value),
        })?;
    }
    Ok(arguments)
}
