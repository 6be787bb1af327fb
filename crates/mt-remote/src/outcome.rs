//! Answers and faults of a protocol as SeaORM's own types.

use std::sync::Arc;

use mt_core::{Error, ErrorKind};
use sea_orm::{
    DbBackend, DbErr, ExecResult, MockDatabase, MockDatabaseTrait as _, MockExecResult, RuntimeErr,
    Statement,
};

use crate::{Answer, Decoder, Fault, violation::Violation};

/// What SeaORM calls the way a statement was run. Its errors differ by it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// For its effect.
    Effect,
    /// For its rows.
    Rows,
}

/// SeaORM's result of a statement.
///
/// Its fields are private; the mock driver, which is public, is the only thing that makes one of
/// numbers. It has no sign, so a negative rowid is 0, as is that of a statement that tells none.
///
/// # Errors
/// None is known.
pub(crate) fn exec_result(
    rows_affected: u64,
    last_insert_rowid: Option<i64>,
) -> Result<ExecResult, DbErr> {
    let last_insert_id = u64::try_from(last_insert_rowid.unwrap_or_default()).unwrap_or_default();
    let result = MockExecResult { last_insert_id, rows_affected };
    MockDatabase::new(DbBackend::Sqlite)
        .append_exec_results([result])
        .execute(0, Statement::from_string(DbBackend::Sqlite, ""))
}

/// The result of one statement.
pub(crate) fn of_answer(answer: &Answer) -> Result<ExecResult, DbErr> {
    exec_result(answer.rows_affected, answer.last_insert_rowid)
}

/// The result of several statements as one: all rows, and the last rowid.
pub(crate) fn of_answers(answers: &[Answer]) -> Result<ExecResult, DbErr> {
    exec_result(
        answers.iter().map(|answer| answer.rows_affected).sum(),
        answers.iter().rev().find_map(|answer| answer.last_insert_rowid),
    )
}

/// A fault as SeaORM reports it.
///
/// What [`DbErr::sql_err`] knows must be an error that SQLite itself made, so such a one is
/// provoked in memory. All others are errors of ours.
pub(crate) async fn db_err(decoder: &Decoder, fault: Fault, asked: Asked) -> DbErr {
    let error = match fault {
        Fault::Other(error) => return error.into_db_err(),
        Fault::Statement(error) => error,
    };
    if let Some(violation) = Violation::of(&error) {
        match violation.provoke(&decoder.connections).await {
            Ok(provoked) => {
                let provoked = RuntimeErr::SqlxError(Arc::new(provoked));
                return match asked {
                    Asked::Effect => DbErr::Exec(provoked),
                    Asked::Rows => DbErr::Query(provoked),
                };
            }
            Err(reason) => tracing::debug!(
                error = %reason,
                "a violated constraint is reported without SQLite's own error"
            ),
        }
    }
    Error::from(Fault::Statement(error)).into_db_err()
}

/// An error of a provider that does not keep the contract of its trait.
pub(crate) fn broken(what: &str) -> DbErr {
    Error::new(ErrorKind::Internal, what).into_db_err()
}
