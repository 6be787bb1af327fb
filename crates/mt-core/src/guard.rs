//! Guards in SQLite's dialect: statements that fail, and so undo the batch or the transaction they
//! are in, unless something holds.
//!
//! A guard is one `SELECT`. Where its condition does not hold it asks `json_extract` for a path that
//! is none, and the engine's refusal quotes that path, on every build of SQLite that a provider
//! runs. The path is a mark that nobody outside this process knows, and what was found: so a
//! refusal is told from whatever else a statement can be refused for, a `RAISE` in a trigger with
//! words of its own included.
//!
//! SQLite is free to work out a call whose arguments are constant before it looks at the `CASE`
//! around it. So what was found, which is read when the guard runs, is a part of the argument.

use std::sync::LazyLock;

use sea_orm::{DbBackend, DbErr, Statement};
use uuid::Uuid;

use crate::{Error, batch::Found, sql};

/// Begins every mark of this process.
static MARK: LazyLock<String> = LazyLock::new(|| format!("mt-guard-{}-", Uuid::new_v4().simple()));

/// The statement that fails unless `condition` gives one row with one true value.
///
/// For whoever sends statements to a [`Driver`](crate::Driver) itself; a handle's
/// [`batch`](crate::DataAdapters::batch) takes a [`Step::condition`](crate::Step::condition).
/// `condition` is one `SELECT` in SQLite's dialect.
pub fn condition_guard(condition: Statement) -> Statement {
    of_condition(condition, 0)
}

/// The guard of the condition in the step at `place`.
pub(crate) fn of_condition(condition: Statement, place: usize) -> Statement {
    let statements = sql::split_statements(&condition.sql);
    // More than one do not come this far, or are refused by the engine as they stand.
    let select = match statements.as_slice() {
        [select] => select,
        _ => condition.sql.as_str(),
    };
    // The name of the column makes sure that there is one. The line ends in case the text does in
    // a comment.
    let sql = format!(
        "WITH _mt_condition(holds) AS (\n{select}\n) \
         SELECT CASE found WHEN '{holds}' THEN 1 \
         ELSE json_extract('{{}}', '{mark}' || found) END AS guard FROM (\
         SELECT CASE WHEN count(*) <> 1 THEN count(*) \
         WHEN max(holds) IS NULL THEN '{null}' \
         WHEN typeof(max(holds)) NOT IN ('integer', 'real') THEN '{other}' \
         WHEN max(holds) THEN '{holds}' ELSE '{fails}' END AS found FROM _mt_condition)",
        mark = mark(place),
        holds = Found::HOLDS,
        null = Found::NULL,
        other = Found::OTHER,
        fails = Found::FAILS,
    );
    Statement { sql, values: condition.values, db_backend: DbBackend::Sqlite }
}

/// The guard behind the statement in the step at `place`, which has to have changed `rows` rows.
pub(crate) fn of_changes(rows: u64, place: usize) -> Statement {
    let sql = format!(
        "SELECT CASE WHEN changes() = {rows} THEN 1 \
         ELSE json_extract('{{}}', '{mark}' || changes()) END AS guard",
        mark = mark(place)
    );
    Statement::from_string(DbBackend::Sqlite, sql)
}

fn mark(place: usize) -> String {
    format!("{}{place}:", *MARK)
}

/// The place of the step whose guard `error` is the refusal of, and what it found.
pub(crate) fn refused(error: &DbErr) -> Option<(usize, Found)> {
    let text = Error::in_db_err(error).map_or_else(|| error.to_string(), Error::to_chain);
    let (_, rest) = text.split_once(MARK.as_str())?;
    let (place, rest) = rest.split_once(':')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    Some((place.parse().ok()?, Found::from_code(&rest[..end])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(words: &str) -> DbErr {
        Error::new(crate::ErrorKind::Statement, words).into_db_err()
    }

    #[test]
    fn a_refusal_is_read_in_the_words_of_every_engine() {
        let mark = mark(3);
        for words in [
            format!("bad JSON path: '{mark}2'"),
            format!("SQLite error: JSON path error near '{mark}2'"),
            format!("bad JSON path: '{mark}2': SQLITE_ERROR"),
        ] {
            assert_eq!(refused(&says(&words)), Some((3, Found::Rows(2))), "{words}");
        }
        let code = format!("bad JSON path: '{}null'", super::mark(12));
        assert_eq!(refused(&DbErr::Custom(code)), Some((12, Found::Null)));
    }

    #[test]
    fn other_refusals_are_none_of_a_guard() {
        for words in [
            "bad JSON path: 'mt-guard-3:0'".to_owned(),
            format!("bad JSON path: 'mt-guard-{}-3:0'", Uuid::new_v4().simple()),
            format!("bad JSON path: '{}", *MARK),
            format!("bad JSON path: '{}'", mark(1)),
            "UNIQUE constraint failed: t.a".to_owned(),
        ] {
            assert_eq!(refused(&says(&words)), None, "{words}");
        }
    }

    #[test]
    fn a_condition_keeps_its_parameters_and_loses_its_semicolon() {
        let condition = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "SELECT ? = 1; -- so it is",
            [1.into()],
        );
        let guard = condition_guard(condition.clone());
        assert!(guard.sql.contains("(\nSELECT ? = 1\n)"), "{}", guard.sql);
        assert_eq!(guard.values, condition.values);
    }
}
