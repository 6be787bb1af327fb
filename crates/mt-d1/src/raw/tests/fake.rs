//! SQLite in the place of D1: it takes and gives what D1's JSON and JavaScript's numbers do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mt_core::{Error, ErrorKind};
use mt_remote::{Fault, StatementError};
use rusqlite::{Connection, ErrorCode, Statement, functions::FunctionFlags, limits::Limit};
use serde_json::Value as Json;

use crate::raw::{Effect, Meta, RawAnswer, RawStatement, Wire};

/// A database in memory, and what was sent to it.
pub(crate) struct Fake {
    connection: Mutex<Connection>,
    pub(crate) sent: Mutex<Vec<(Vec<RawStatement>, Effect)>>,
}

/// SQLite as D1 has it: its math, its limits.
pub(crate) fn connection() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "foreign_keys", "on").unwrap();
    let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_UTF8;
    let atan2 = |context: &rusqlite::functions::Context<'_>| {
        Ok(context.get::<f64>(0)?.atan2(context.get::<f64>(1)?))
    };
    connection.create_scalar_function("atan2", 2, flags, atan2).unwrap();
    connection
}

impl Fake {
    pub(crate) fn new() -> Self {
        let connection = connection();
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
            (Limit::SQLITE_LIMIT_LENGTH, 2_000_000),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
            (Limit::SQLITE_LIMIT_COLUMN, 100),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
        ] {
            connection.set_limit(limit, value).unwrap();
        }
        Self { connection: Mutex::new(connection), sent: Mutex::default() }
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests came since this was last asked.
    pub(crate) fn requests(&self) -> usize {
        self.take().len()
    }

    pub(crate) fn take(&self) -> Vec<(Vec<RawStatement>, Effect)> {
        std::mem::take(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait]
impl Wire for Fake {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        let sent = || self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent().push((statements.clone(), effect));
        let connection = self.connection();
        let transaction = connection.unchecked_transaction().unwrap();
        let answers = statements
            .iter()
            .map(|statement| run(&transaction, statement).map_err(refused))
            .collect::<Result<_, _>>()?;
        transaction.commit().map_err(refused)?;
        Ok(answers)
    }
}

fn run(connection: &Connection, sent: &RawStatement) -> rusqlite::Result<RawAnswer> {
    assert_eq!(mt_core::split_statements(&sent.sql).len(), 1, "D1 was sent {}", sent.sql);
    let mut statement = connection.prepare(&sent.sql)?;
    assert_eq!(statement.parameter_count(), sent.params.len(), "bound to {}", sent.sql);
    for (at, param) in (1..).zip(&sent.params) {
        match param {
            Json::String(text) => statement.raw_bind_parameter(at, text)?,
            // The API's own description has strings only.
            other => panic!("D1 was sent {other}"),
        }
    }
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let rows = rows(&mut statement, columns.len())?;
    Ok(RawAnswer { columns, rows, meta: Meta::default() })
}

fn rows(statement: &mut Statement<'_>, columns: usize) -> rusqlite::Result<Vec<Vec<Json>>> {
    let mut found = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let row = (0..columns).map(|at| row.get_ref(at).map(as_javascript));
        found.push(row.collect::<Result<_, _>>()?);
    }
    Ok(found)
}

/// What becomes of a value on its way through JavaScript and JSON.
#[expect(clippy::cast_precision_loss, reason = "that is what happens there")]
fn as_javascript(value: rusqlite::types::ValueRef<'_>) -> Json {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(value) => number(value as f64),
        ValueRef::Real(value) => number(value),
        ValueRef::Text(value) => Json::String(String::from_utf8_lossy(value).into_owned()),
        ValueRef::Blob(value) => Json::Array(value.iter().map(|&byte| byte.into()).collect()),
    }
}

/// As `JSON.stringify` writes it, and as it is read again.
pub(crate) fn number(value: f64) -> Json {
    if !value.is_finite() {
        return Json::Null;
    }
    if value == 0.0 {
        return 0.into();
    }
    let shortest = format!("{value:e}");
    let text = match shortest.split_once('e') {
        Some((_, exponent)) if (-7..21).contains(&exponent.parse::<i32>().unwrap()) => {
            format!("{value}")
        }
        _ => shortest,
    };
    serde_json::from_str(&text).unwrap()
}

/// The engine's words with D1's about them.
fn refused(error: rusqlite::Error) -> Fault {
    let (failure, message, offset) = match error {
        rusqlite::Error::SqliteFailure(failure, Some(message)) => (failure, message, -1),
        rusqlite::Error::SqlInputError { error, msg, offset, .. } => (error, msg, offset),
        other => return Error::new(ErrorKind::Internal, other.to_string()).into(),
    };
    let offset = if offset < 0 { String::new() } else { format!(" at offset {offset}") };
    let code = match (failure.code, failure.extended_code) {
        (ErrorCode::ConstraintViolation, 2067) => {
            "SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)"
        }
        (ErrorCode::ConstraintViolation, 1555) => {
            "SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)"
        }
        (ErrorCode::ConstraintViolation, _) => "SQLITE_CONSTRAINT",
        (ErrorCode::TooBig, _) => "SQLITE_TOOBIG",
        _ => "SQLITE_ERROR",
    };
    Fault::Statement(StatementError::new(format!("{message}{offset}: {code}"), None))
}
