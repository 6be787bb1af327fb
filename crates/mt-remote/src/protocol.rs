//! What a provider says of its wire, and nothing of SeaORM.

use std::fmt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::Fault;

/// A value as SQLite has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// 64 bits, signed; never rounded.
    Integer(i64),
    /// 64 bits, also where it is whole.
    Real(f64),
    /// UTF-8, NUL characters included.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// One statement, and what is bound to its parameters in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The text of exactly one statement.
    pub sql: String,
    /// What is bound.
    pub parameters: Vec<Value>,
}

impl Command {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: Vec::new() }
    }
}

/// One row, values in the order of the columns.
pub type Row = Vec<Value>;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; several may have the same.
    pub name: String,
    /// The type it was declared with, if it is a table's column and the protocol tells.
    pub declared: Option<String>,
}

/// What one statement came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The columns, also where there are no rows.
    pub columns: Vec<Column>,
    /// All rows.
    pub rows: Vec<Row>,
    /// How many rows it inserted, updated or deleted.
    pub rows_affected: u64,
    /// The rowid of the last row it inserted.
    pub last_insert_rowid: Option<i64>,
}

/// A piece of an answer that comes in pieces.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Comes first, once.
    Columns(Vec<Column>),
    /// Any number of rows follow.
    Row(Row),
}

/// How a transaction locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionMode {
    /// At the first read or write.
    Deferred,
    /// For writing, at once.
    Immediate,
}

/// How statements get to one tenant's database, and answers back.
///
/// Whoever implements it knows the wire and the credentials. It retries nothing that may have taken
/// effect: an answer that was lost is [`ErrorKind::OutcomeUnknown`](mt_core::ErrorKind) unless the
/// statement only reads.
#[async_trait]
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// Runs one statement to its end.
    async fn execute(&self, command: Command) -> Result<Answer, Fault>;

    /// Runs statements one after the other and stops at the first that fails. Not atomic: what
    /// came before it stays; or, where the engine has it so, nothing of it.
    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault>;

    /// Runs one statement, handing out its rows as they come. Nothing is sent before the stream is
    /// asked for its first part.
    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>>;

    /// Runs statements as one atomic unit: all take effect or none does.
    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault>;

    /// Opens a transaction.
    ///
    /// # Errors
    /// `Unsupported`, before anything is sent, where there are none.
    async fn begin(&self, mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault>;

    /// Lets go of what is held for the database. Called once, when nothing runs.
    async fn close(&self) -> Result<(), Fault>;
}

/// An open transaction of a [`Protocol`]. Savepoints are statements to it.
///
/// When the server has ended the transaction by itself, every further call fails and nothing of it
/// takes effect. Dropping it before its end rolls back.
#[async_trait]
pub trait ProtocolTransaction: fmt::Debug + Send + Sync + 'static {
    /// As [`Protocol::execute`].
    async fn execute(&self, command: Command) -> Result<Answer, Fault>;

    /// As [`Protocol::script`].
    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault>;

    /// As [`Protocol::stream`].
    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>>;

    /// Makes it last. Called once, and then nothing else is.
    ///
    /// # Errors
    /// The database's: nothing lasted. `OutcomeUnknown`: the answer was lost.
    async fn commit(&self) -> Result<(), Fault>;

    /// Takes it back. Called once, and then nothing else is.
    ///
    /// # Errors
    /// The connection's; nothing lasts either way.
    async fn rollback(&self) -> Result<(), Fault>;
}
