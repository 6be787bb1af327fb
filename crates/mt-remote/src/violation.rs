//! Violated constraints, in the one form that SeaORM recognises them by: sqlx's own error, which
//! only SQLite can make.

use sea_orm::{
    DbErr,
    sqlx::{self, AssertSqlSafe, Executor as _, SqliteConnection},
};

use crate::{StatementError, memory};

/// What the engine says before the names; servers put their own before it, and the code behind.
const UNIQUE: &str = "UNIQUE constraint failed: ";
const FOREIGN_KEY: &str = "FOREIGN KEY constraint failed";
/// sqld's and D1's.
const PREFIXES: [&str; 3] = ["SQLite error: ", "SQLite input error: ", "D1_ERROR: "];

/// A violation that [`DbErr::sql_err`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Of a table's columns, by `PRIMARY KEY` or `UNIQUE`.
    Unique {
        table: String,
        columns: String,
        primary: bool,
    },
    /// Of an index over expressions.
    Index(String),
    ForeignKey,
}

impl Violation {
    /// Reads the engine's words.
    ///
    /// Most servers tell the base code only, and what decides is the text; where they tell the
    /// extended code it must agree, because a trigger may say anything in its own words.
    pub(crate) fn of(error: &StatementError) -> Option<Self> {
        let mut message = error.message.as_str();
        while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
            message = rest;
        }
        let (message, told) = match message.split_once(": SQLITE_CONSTRAINT") {
            Some((message, told)) => (message, told),
            None => (message, ""),
        };
        let code = error.code.as_deref().unwrap_or_default();
        let says = |extended: &str| code.ends_with(extended) || told.contains(extended);
        let base = matches!(code, "" | "SQLITE_CONSTRAINT") && !told.contains("SQLITE_CONSTRAINT_");
        if message == FOREIGN_KEY && (base || says("_FOREIGNKEY")) {
            return Some(Self::ForeignKey);
        }
        let names = message.strip_prefix(UNIQUE)?;
        let primary = says("_PRIMARYKEY") || says("_ROWID");
        if !(base || primary || says("_UNIQUE")) {
            return None;
        }
        if let Some(name) = names.strip_prefix("index '").and_then(|name| name.strip_suffix('\'')) {
            return Some(Self::Index(name.replace("''", "'")));
        }
        // `table.a, table.b`. Where names have such characters in them this may not be the true
        // boundary; the text that comes of it is the same.
        let (table, columns) = names.split_once('.')?;
        Some(Self::Unique { table: table.to_owned(), columns: columns.to_owned(), primary })
    }

    /// SQLite's own error with the same words.
    ///
    /// # Errors
    /// Why SQLite made none: it reserves the table's name, for one.
    pub(crate) async fn provoke(
        &self,
        connections: &memory::Connections,
    ) -> Result<sqlx::Error, DbErr> {
        let mut place = connections.faults.lock().await;
        // Out of its place, so that it is not used again if anything below ends early.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => memory::open().await?,
        };
        let provoked = self.provoke_in(&mut connection).await?;
        *place = Some(connection);
        Ok(provoked)
    }

    async fn provoke_in(&self, connection: &mut SqliteConnection) -> Result<sqlx::Error, DbErr> {
        let (make, fail) = self.statements();
        let run = async |connection: &mut SqliteConnection, sql: String| {
            connection.execute(AssertSqlSafe(sql)).await
        };
        run(connection, format!("BEGIN; {make}")).await.map_err(memory::failed)?;
        let outcome = run(connection, fail).await;
        run(connection, "ROLLBACK".to_owned()).await.map_err(memory::failed)?;
        match outcome {
            Err(provoked) => Ok(provoked),
            Ok(_) => Err(crate::outcome::broken("SQLite did not repeat a violated constraint")),
        }
    }

    /// What makes the tables, and what then fails.
    fn statements(&self) -> (String, String) {
        match self {
            Self::Unique { table, columns, primary } => {
                let (table, column) = (quoted(table), quoted(columns));
                let kind = if *primary { "PRIMARY KEY" } else { "UNIQUE" };
                (
                    format!("CREATE TABLE {table} ({column} {kind})"),
                    format!("INSERT INTO {table} VALUES (1), (1)"),
                )
            }
            Self::Index(name) => (
                format!("CREATE TABLE t (a); CREATE UNIQUE INDEX {} ON t (a + 0)", quoted(name)),
                "INSERT INTO t VALUES (1), (1)".to_owned(),
            ),
            Self::ForeignKey => (
                "CREATE TABLE t (a PRIMARY KEY, b REFERENCES t)".to_owned(),
                "INSERT INTO t VALUES (1, 2)".to_owned(),
            ),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
