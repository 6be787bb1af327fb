//! A [`Protocol`] over a file of SQLite, with a connection for each transaction.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use mt_core::{Error, ErrorKind};
use mt_remote::{
    Answer, Column, Command, Fault, Part, Protocol, ProtocolTransaction, Row, StatementError,
    TransactionMode, Value,
};
use rusqlite::{Connection, Statement, types::ValueRef};
use tokio::sync::mpsc;

/// The database at a path.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    path: PathBuf,
    connection: Shared,
}

type Shared = Arc<Mutex<Connection>>;

impl Local {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = connect(path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    Ok(connection)
}

/// Runs what waits for a lock where it keeps no task waiting.
async fn blocking<T: Send + 'static>(
    connection: &Shared,
    run: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let connection = Arc::clone(connection);
    let run = move || run(&connection.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// What SQLite said, with the base code only, as sqld has it.
fn fault(error: rusqlite::Error) -> Fault {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(error, Some(message)) => (error, message),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, msg),
        other => return Error::new(ErrorKind::Internal, other.to_string()).into(),
    };
    let code = match code.code {
        rusqlite::ErrorCode::ConstraintViolation => "SQLITE_CONSTRAINT",
        _ => "SQLITE_ERROR",
    };
    Fault::Statement(StatementError::new(message, Some(code.to_owned())))
}

fn bind(statement: &mut Statement<'_>, parameters: Vec<Value>) -> rusqlite::Result<()> {
    for (at, value) in (1..).zip(parameters) {
        match value {
            Value::Null => statement.raw_bind_parameter(at, rusqlite::types::Null)?,
            Value::Integer(value) => statement.raw_bind_parameter(at, value)?,
            Value::Real(value) => statement.raw_bind_parameter(at, value)?,
            Value::Text(value) => statement.raw_bind_parameter(at, value)?,
            Value::Blob(value) => statement.raw_bind_parameter(at, value)?,
        }
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) => Value::Text(String::from_utf8(value.to_vec()).unwrap()),
        ValueRef::Blob(value) => Value::Blob(value.to_vec()),
    }
}

/// Runs `command`, handing its parts to `each` until that answers `false`.
fn run(
    connection: &Connection,
    command: Command,
    mut each: impl FnMut(Part) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&command.sql)?;
    bind(&mut statement, command.parameters)?;
    let columns: Vec<Column> = statement
        .columns()
        .iter()
        .map(|column| Column {
            name: column.name().to_owned(),
            declared: column.decl_type().map(str::to_owned),
        })
        .collect();
    let count = columns.len();
    let mut goes_on = each(Part::Columns(columns));
    let mut rows = statement.raw_query();
    while goes_on && let Some(row) = rows.next()? {
        let row = (0..count).map(|at| row.get_ref(at).map(value)).collect::<Result<Row, _>>()?;
        goes_on = each(Part::Row(row));
    }
    Ok(())
}

fn execute(connection: &Connection, command: Command) -> Result<Answer, Fault> {
    let before = connection.total_changes();
    let mut answer = Answer::default();
    run(connection, command, |part| {
        match part {
            Part::Columns(columns) => answer.columns = columns,
            Part::Row(row) => answer.rows.push(row),
        }
        true
    })
    .map_err(fault)?;
    if connection.total_changes() > before {
        answer.rows_affected = connection.changes();
    }
    answer.last_insert_rowid = Some(connection.last_insert_rowid());
    Ok(answer)
}

fn script(connection: &Connection, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
    commands.into_iter().map(|command| execute(connection, command)).collect()
}

/// The parts of a statement that runs as they are taken.
fn parts<'a>(connection: &'a Shared, command: Command) -> BoxStream<'a, Result<Part, Fault>> {
    let opening = async move {
        let (sender, receiver) = mpsc::channel(8);
        let connection = Arc::clone(connection);
        drop(tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let ran = run(&connection, command, |part| sender.blocking_send(Ok(part)).is_ok());
            if let Err(error) = ran {
                drop(sender.blocking_send(Err(fault(error))));
            }
        }));
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
    };
    stream::once(opening).flatten().boxed()
}

#[async_trait]
impl Protocol for Local {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        blocking(&self.connection, move |connection| execute(connection, command)).await
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        blocking(&self.connection, move |connection| script(connection, commands)).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        parts(&self.connection, command)
    }

    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        blocking(&self.connection, move |connection| {
            connection.execute_batch("BEGIN IMMEDIATE").map_err(fault)?;
            let answers = script(connection, commands);
            let end = if answers.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = connection.execute_batch(end).map_err(fault);
            answers.and_then(|answers| ended.map(|()| answers))
        })
        .await
    }

    async fn begin(&self, mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault> {
        let connection = Arc::new(Mutex::new(connect(&self.path).map_err(fault)?));
        let begin = match mode {
            TransactionMode::Deferred => "BEGIN DEFERRED",
            TransactionMode::Immediate => "BEGIN IMMEDIATE",
        };
        blocking(&connection, |connection| connection.execute_batch(begin).map_err(fault)).await?;
        Ok(Box::new(Transaction(connection)))
    }

    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Rolls back by closing its connection.
#[derive(Debug)]
struct Transaction(Shared);

/// Runs `run` unless SQLite has ended the transaction by itself.
async fn inside<T: Send + 'static>(
    connection: &Shared,
    run: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    blocking(connection, move |connection| {
        if connection.is_autocommit() {
            return Err(Error::new(ErrorKind::Statement, "the transaction is over").into());
        }
        run(connection)
    })
    .await
}

#[async_trait]
impl ProtocolTransaction for Transaction {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        inside(&self.0, move |connection| execute(connection, command)).await
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        inside(&self.0, move |connection| script(connection, commands)).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        parts(&self.0, command)
    }

    async fn commit(&self) -> Result<(), Fault> {
        inside(&self.0, |connection| connection.execute_batch("COMMIT").map_err(fault)).await
    }

    async fn rollback(&self) -> Result<(), Fault> {
        inside(&self.0, |connection| connection.execute_batch("ROLLBACK").map_err(fault)).await
    }
}
