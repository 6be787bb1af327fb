use std::fmt;

use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult, Statement,
    TransactionOptions, TransactionSession as _,
};

use crate::{
    DataTransaction, Driver, Error, ErrorKind, Result, adapters::Inner, guard, lane::Lane, sql,
};

/// One step of a [`batch`](crate::DataAdapters::batch): a statement, a statement that must change a
/// number of rows, or a condition that must hold.
///
/// A [`Statement`] is a step [`by itself`](From). The others guard the batch: where one does not
/// hold, nothing of the batch takes effect, and its error is a
/// [`Conflict`](ErrorKind::Conflict) that says which step it was and what was found.
#[derive(Clone)]
#[must_use = "a step does nothing until it is in a batch"]
pub struct Step {
    statement: Statement,
    guard: Option<Guard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// The statement is a condition.
    Condition,
    /// The statement changes so many rows.
    Changes(u64),
}

impl Step {
    /// A condition: a `SELECT` that must give one row with one value, which is true.
    ///
    /// True is the boolean, and a number other than 0. No row, several rows, `NULL`, and a value
    /// that is neither a boolean nor a number (an integer or a float) are not.
    ///
    /// It sees what the steps before it have written, and nobody else writes between it and the end
    /// of the batch. A condition answers no result.
    pub const fn condition(select: Statement) -> Self {
        Self { statement: select, guard: Some(Guard::Condition) }
    }

    /// A statement that must change exactly `rows` rows.
    ///
    /// It is one `INSERT`, `UPDATE`, `DELETE`, `REPLACE` or `MERGE`, or one of these behind `WITH`;
    /// anything else has no such number and is refused. Rows count that the statement itself
    /// inserts, updates or deletes: not those of triggers and cascades, nor one that `ON CONFLICT DO
    /// NOTHING` leaves alone. An `UPDATE` counts each row it finds, be the new values the old ones.
    pub const fn changes(statement: Statement, rows: u64) -> Self {
        Self { statement, guard: Some(Guard::Changes(rows)) }
    }

    /// Refuses what the lane refuses, and a guard on what it cannot guard.
    fn check(&self, lane: &Lane<'_>, place: usize) -> Result<(), DbErr> {
        lane.check(&self.statement.sql)?;
        let wanted = match self.guard {
            None => return Ok(()),
            Some(Guard::Condition) if is_condition(&self.statement.sql, lane) => return Ok(()),
            Some(Guard::Changes(_)) if changes_rows(&self.statement.sql, lane) => return Ok(()),
            Some(Guard::Condition) => "a condition is one SELECT that only reads",
            Some(Guard::Changes(_)) => {
                "only one INSERT, UPDATE, DELETE, REPLACE or MERGE has a number of changed rows"
            }
        };
        let message = format!("step {} of the batch cannot be guarded: {wanted}", place + 1);
        Err(named(Error::new(ErrorKind::Unsupported, message), lane.inner).into_db_err())
    }
}

fn is_condition(text: &str, lane: &Lane<'_>) -> bool {
    let backend = lane.connections.backend();
    let verb = verb(text, backend);
    ["SELECT", "WITH", "VALUES"].contains(&verb.as_str()) && sql::only_reads(text, backend)
}

fn changes_rows(text: &str, lane: &Lane<'_>) -> bool {
    let backend = lane.connections.backend();
    match verb(text, backend).as_str() {
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "MERGE" => true,
        "WITH" => !sql::only_reads(text, backend),
        _ => false,
    }
}

/// The word that `text` begins with, in capitals; none, where it is not one statement.
fn verb(text: &str, backend: DbBackend) -> String {
    sql::verb(text, backend).unwrap_or_default().to_ascii_uppercase()
}

impl From<Statement> for Step {
    fn from(statement: Statement) -> Self {
        Self { statement, guard: None }
    }
}

/// Without the values that are bound.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("sql", &self.statement.sql)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

/// What a guard found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// So many rows: changed ones, or those of a condition where it is not one.
    Rows(u64),
    /// A condition that holds.
    Holds,
    /// A condition that is false, or 0.
    Fails,
    /// A condition that is `NULL`.
    Null,
    /// A condition of another type.
    Other,
}

impl Found {
    // As a guard in the database writes them.
    pub(crate) const HOLDS: &str = "holds";
    pub(crate) const FAILS: &str = "fails";
    pub(crate) const NULL: &str = "null";
    pub(crate) const OTHER: &str = "other";

    pub(crate) fn from_code(code: &str) -> Option<Self> {
        match code {
            Self::HOLDS => Some(Self::Holds),
            Self::FAILS => Some(Self::Fails),
            Self::NULL => Some(Self::Null),
            Self::OTHER => Some(Self::Other),
            rows => rows.parse().ok().map(Self::Rows),
        }
    }

    /// What the rows of a condition come to.
    fn of(rows: &[QueryResult]) -> Result<Self, DbErr> {
        let columns = rows.first().map_or(1, |row| row.column_names().len());
        if columns != 1 {
            let message = format!("a condition gave {columns} columns, expected 1");
            return Err(Error::new(ErrorKind::Statement, message).into_db_err());
        }
        Ok(match rows {
            [row] => Self::of_value(row),
            rows => Self::Rows(rows.len() as u64),
        })
    }

    /// A driver reads a value as the type it has, and no other.
    fn of_value(row: &QueryResult) -> Self {
        let integer = || {
            let small = || row.try_get_by_index::<Option<i16>>(0).map(|v| v.map(i64::from));
            let medium = || row.try_get_by_index::<Option<i32>>(0).map(|v| v.map(i64::from));
            row.try_get_by_index::<Option<i64>>(0).or_else(|_| medium()).or_else(|_| small())
        };
        let float = || {
            let single = || row.try_get_by_index::<Option<f32>>(0).map(|v| v.map(f64::from));
            row.try_get_by_index::<Option<f64>>(0).or_else(|_| single())
        };
        let truth = row
            .try_get_by_index::<Option<bool>>(0)
            .or_else(|_| integer().map(|v| v.map(|v| v != 0)))
            .or_else(|_| float().map(|v| v.map(|v| v != 0.0)));
        match truth {
            Ok(Some(true)) => Self::Holds,
            Ok(Some(false)) => Self::Fails,
            Ok(None) => Self::Null,
            Err(_) => Self::Other,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(1) => f.write_str("1 row"),
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Holds => f.write_str("true"),
            Self::Fails => f.write_str("false"),
            Self::Null => f.write_str("NULL"),
            Self::Other => f.write_str("a value that is neither a boolean nor a number"),
        }
    }
}

/// The steps of one atomic unit, which passed the lane's check.
pub(crate) struct Batch<'a> {
    steps: Vec<Step>,
    inner: &'a Inner,
}

impl<'a> Batch<'a> {
    /// # Errors
    /// What is refused before anything is sent.
    pub(crate) fn new(steps: Vec<Step>, lane: &Lane<'a>) -> Result<Self, DbErr> {
        steps.iter().enumerate().try_for_each(|(place, step)| step.check(lane, place))?;
        Ok(Self { steps, inner: lane.inner })
    }

    fn is_guarded(&self) -> bool {
        self.steps.iter().any(|step| step.guard.is_some())
    }

    /// How the transaction has to be, in which the batch runs.
    ///
    /// On SQLite it has the only write lock. A server lets others write between a condition and the
    /// statements behind it, unless it is told not to.
    pub(crate) fn options(&self, backend: DbBackend) -> TransactionOptions {
        let condition = |step: &Step| step.guard == Some(Guard::Condition);
        let on_server = backend != DbBackend::Sqlite;
        let isolation_level =
            (on_server && self.steps.iter().any(condition)).then_some(IsolationLevel::Serializable);
        TransactionOptions { isolation_level, ..TransactionOptions::default() }
    }

    /// Runs the steps in `transaction`, which is theirs alone.
    pub(crate) async fn run(self, transaction: DataTransaction) -> Result<Vec<ExecResult>, DbErr> {
        match self.run_in(&transaction).await {
            Ok(results) => transaction.commit().await.map(|()| results),
            Err(error) => {
                if let Err(error) = transaction.rollback().await {
                    tracing::debug!(error = %error, "a refused batch did not roll back cleanly");
                }
                Err(error)
            }
        }
    }

    async fn run_in(self, transaction: &DataTransaction) -> Result<Vec<ExecResult>, DbErr> {
        let mut results = Vec::with_capacity(self.steps.len());
        for (place, Step { statement, guard }) in self.steps.into_iter().enumerate() {
            let found = match guard {
                Some(Guard::Condition) => Found::of(&transaction.query_all_raw(statement).await?)?,
                None | Some(Guard::Changes(_)) => {
                    let result = transaction.execute_raw(statement).await?;
                    let rows = result.rows_affected();
                    results.push(result);
                    Found::Rows(rows)
                }
            };
            if let Some(error) = guard.and_then(|guard| guard.refusal(place, found)) {
                return Err(named(error, self.inner).into_db_err());
            }
        }
        Ok(results)
    }

    /// Sends the steps to `driver` as one batch; guards are statements in it.
    pub(crate) async fn send(self, driver: &dyn Driver) -> Result<Vec<ExecResult>, DbErr> {
        if self.is_guarded() && driver.backend() != DbBackend::Sqlite {
            let what = "guard a batch in another dialect than SQLite's";
            let error = Error::unsupported(self.inner.provider, what);
            return Err(error.with_tenant(&self.inner.tenant).into_db_err());
        }
        let guards: Vec<Option<Guard>> = self.steps.iter().map(|step| step.guard).collect();
        let mut statements = Vec::with_capacity(self.steps.len());
        // Whether what the driver answers is a statement's result, and not a guard's.
        let mut answers = Vec::with_capacity(self.steps.len());
        for (place, Step { statement, guard }) in self.steps.into_iter().enumerate() {
            match guard {
                Some(Guard::Condition) => statements.push(guard::of_condition(statement, place)),
                None | Some(Guard::Changes(_)) => statements.push(statement),
            }
            answers.push(guard != Some(Guard::Condition));
            if let Some(Guard::Changes(rows)) = guard {
                statements.push(guard::of_changes(rows, place));
                answers.push(false);
            }
        }
        match driver.batch(statements).await {
            Ok(results) => {
                let pairs = results.into_iter().zip(answers);
                Ok(pairs.filter_map(|(result, answers)| answers.then_some(result)).collect())
            }
            Err(error) => {
                let refusal = guard::refused(&error).and_then(|(place, found)| {
                    guards.get(place).copied().flatten()?.refusal(place, found)
                });
                Err(refusal.map_or(error, |refusal| named(refusal, self.inner).into_db_err()))
            }
        }
    }
}

impl Guard {
    /// The error of the guard in the step at `place`, unless what it found is what it wants.
    fn refusal(self, place: usize, found: Found) -> Option<Error> {
        let step = place + 1;
        let message = match (self, found) {
            (Self::Condition, Found::Holds) => return None,
            (Self::Changes(wanted), Found::Rows(rows)) if rows == wanted => return None,
            (Self::Changes(wanted), found) => {
                format!("step {step} of the batch changed {found}, expected {wanted}")
            }
            (Self::Condition, found) => format!(
                "the condition in step {step} of the batch gave {found}, expected one true value"
            ),
        };
        Some(Error::new(ErrorKind::Conflict, format!("{message}; nothing of it took effect")))
    }
}

fn named(error: Error, inner: &Inner) -> Error {
    error.with_tenant(&inner.tenant).with_provider(inner.provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_step_it_was_and_what_was_found() {
        let refusal = |guard: Guard, found| guard.refusal(1, found).unwrap();
        let error = refusal(Guard::Changes(1), Found::Rows(0));
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("step 2 of the batch changed 0 rows, expected 1"));
        for (found, words) in [
            (Found::Fails, "gave false"),
            (Found::Null, "gave NULL"),
            (Found::Rows(1), "gave 1 row,"),
            (Found::Other, "neither a boolean nor a number"),
        ] {
            let told = refusal(Guard::Condition, found).to_string();
            assert!(told.contains("step 2") && told.contains(words), "{told}");
        }
    }

    #[test]
    fn what_holds_is_no_refusal() {
        assert!(Guard::Condition.refusal(0, Found::Holds).is_none());
        assert!(Guard::Changes(3).refusal(0, Found::Rows(3)).is_none());
        assert!(Guard::Changes(3).refusal(0, Found::Holds).is_some());
    }

    #[test]
    fn a_step_shows_no_bound_value() {
        let statement =
            Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT ?", ["secret".into()]);
        let shown = format!("{:?}", Step::condition(statement));
        assert!(shown.contains("SELECT ?") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_verb_is_that_of_the_only_statement() {
        let of = |text| verb(text, DbBackend::Sqlite);
        assert_eq!(of("/* a */ update t SET a = 1;"), "UPDATE");
        assert_eq!(of("-- a\nWITH a AS (SELECT 1) SELECT 1"), "WITH");
        assert_eq!(of("DELETE FROM t; DELETE FROM u"), "");
        assert_eq!(of(""), "");
        assert_eq!(verb(" insert into t", DbBackend::Postgres), "INSERT");
    }
}
