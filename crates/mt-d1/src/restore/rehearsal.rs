//! A restore without rows and without the service: what SQLite does not take of a copy, as the
//! service has it set, is known before anything is made, or before a copy is handed out.

use mt_core::Result;
use mt_sqlite_copy::TableRows;
use rusqlite::{Connection, config::DbConfig, limits::Limit, params_from_iter};

use super::{
    cells::insert,
    plan::{Plan, SEQUENCE, refused, unread},
    steps::split_last,
};
use crate::{backup::quoted, raw::RawStatement};

/// The service's limits that SQLite looks at when it reads a statement
/// (<https://developers.cloudflare.com/d1/platform/limits/>; the last two measured 2026-11-22).
const LIMITS: [(Limit, i32); 3] = [
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
];

/// Makes everything of `plan` here, and reads the statements that would fill it.
///
/// # Errors
/// `Unsupported`: the service would refuse it.
pub(super) fn rehearse(plan: &Plan, copy: &Connection) -> Result<()> {
    let stage = stage().map_err(unread)?;
    let run = |statements: &[RawStatement]| -> Result<()> {
        for statement in statements {
            let params = statement.params.iter().filter_map(|param| param.as_str());
            let done = stage.execute(&statement.sql, params_from_iter(params));
            done.map_err(|error| refused(&told(&statement.sql)).with_source(error))?;
        }
        Ok(())
    };
    let require_fillable = |table: &TableRows| -> Result<()> {
        let query = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&table.name));
        if !copy.query_row(&query, [], |row| row.get(0)).map_err(unread)? {
            return Ok(());
        }
        let row = format!("VALUES ({})", vec!["NULL"; table.columns.len()].join(","));
        // Read, and not run: it tells whether what the rows refer to is there, or could be.
        let read = stage.prepare(&insert(table, &row, Vec::new()).sql).map(drop);
        read.map_err(|error| {
            refused(&format!("the rows of table `{}`", table.name)).with_source(error)
        })
    };
    run(&plan.first)?;
    plan.groups.iter().flat_map(|group| &group.tables).try_for_each(require_fillable)?;
    let (tables, rest) = split_last(plan.last.clone());
    run(&tables)?;
    for table in &plan.last_rows {
        if table.name == SEQUENCE {
            run(&plan.before_sequences)?;
        }
        require_fillable(table)?;
    }
    run(&rest)
}

/// An empty database with the service's settings.
fn stage() -> rusqlite::Result<Connection> {
    let stage = Connection::open_in_memory()?;
    stage.execute_batch("PRAGMA foreign_keys = ON")?;
    stage.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for (limit, value) in LIMITS {
        stage.set_limit(limit, value)?;
    }
    Ok(stage)
}

/// The beginning of a statement, to tell which it is.
fn told(sql: &str) -> String {
    const CHARACTERS: usize = 60;
    let start: String = sql.chars().take(CHARACTERS).collect();
    format!("`{}`", start.split_whitespace().collect::<Vec<_>>().join(" "))
}
