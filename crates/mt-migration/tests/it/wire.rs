//! A driver over one SQLite file that behaves like a server far away: it counts what it is asked,
//! and answers get lost.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future::BoxFuture, stream, stream::BoxStream};
use mt_core::{Driver, DriverTransaction, Error, ErrorKind, Stamp};
use mt_migration::Runner;
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};

use crate::factory::{OneFile, acme};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Execute,
    Query,
    /// Text of any number of statements.
    Text,
    /// With so many statements.
    Batch(usize),
    Begin,
    Commit,
    Rollback,
}

/// What a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Batch,
    Begin,
    /// A statement for its effect, inside of a transaction.
    Inside,
    Commit,
}

/// What happens to a step.
pub(crate) enum Fault {
    /// It takes effect and the answer is lost.
    LoseAnswer,
    /// It is lost, and nobody can tell.
    LoseRequest,
    /// It is refused before anything takes effect.
    Refuse(ErrorKind),
    /// Something else happens first.
    Behind(BoxFuture<'static, ()>),
}

pub(crate) struct Wire {
    me: Weak<Self>,
    db: DatabaseConnection,
    requests: Mutex<Vec<Request>>,
    faults: Mutex<VecDeque<(Step, Fault)>>,
    has_transactions: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

/// A stamped database that is reached by a driver, and the factory that hands it out.
pub(crate) async fn stamped() -> (OneFile, Arc<Wire>) {
    stamp(bare().await).await
}

/// The same, and it has batches only.
pub(crate) async fn without_transactions() -> (OneFile, Arc<Wire>) {
    stamp(wire(false).await).await
}

async fn stamp((factory, wire): (OneFile, Arc<Wire>)) -> (OneFile, Arc<Wire>) {
    write_stamp(&wire, &factory.stamp(&acme())).await;
    (factory, wire)
}

/// The same without a stamp.
pub(crate) async fn bare() -> (OneFile, Arc<Wire>) {
    wire(true).await
}

async fn wire(has_transactions: bool) -> (OneFile, Arc<Wire>) {
    let factory = OneFile::new();
    let db = factory.connect().await;
    let wire = Arc::new_cyclic(|me| Wire {
        me: Weak::clone(me),
        db,
        requests: Mutex::default(),
        faults: Mutex::default(),
        has_transactions,
    });
    (factory.instead(Arc::clone(&wire).into()), wire)
}

pub(crate) async fn write_stamp(wire: &Wire, stamp: &Stamp) {
    for statement in stamp.to_statements(DbBackend::Sqlite, None) {
        wire.db.execute_raw(statement).await.unwrap();
    }
}

impl Wire {
    /// What was asked since the last time.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The next batches meet `faults`, one each.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        for fault in faults {
            self.next_of(Step::Batch, fault);
        }
    }

    /// The next `step` meets `fault`.
    pub(crate) fn next_of(&self, step: Step, fault: Fault) {
        self.faults.lock().unwrap().push_back((step, fault));
    }

    fn fault(&self, step: Step) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(of, _)| *of == step)?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    pub(crate) fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    fn note(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
    }

    async fn commit(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr> {
        let transaction = self.db.begin_with_options(immediate()).await?;
        let mut results = Vec::new();
        for statement in statements {
            results.push(transaction.execute_raw(statement).await?);
        }
        transaction.commit().await?;
        Ok(results)
    }
}

/// A driver's transactions take the write lock at once unless they say otherwise.
fn immediate() -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    }
}

/// What comes before a step: another migrator that is faster.
pub(crate) fn faster(runner: &Runner, wire: &Arc<Wire>) -> Fault {
    use mt_core::{Connection, SchemaTemplate as _};
    let runner = runner.clone();
    let connection = Connection::from(wire.db.clone());
    Fault::Behind(Box::pin(async move { runner.apply(&connection).await.unwrap() }))
}

fn ours(kind: ErrorKind) -> DbErr {
    Error::new(kind, "the wire is cut").into_db_err()
}

#[async_trait]
impl Driver for Wire {
    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.note(Request::Execute);
        self.db.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.note(Request::Execute);
        self.db.execute_unprepared(sql).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.note(Request::Query);
        self.db.query_all_raw(statement).await
    }

    fn stream(&self, statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        let rows = async move {
            match self.query(statement).await {
                Ok(rows) => rows.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(rows).flat_map(stream::iter).boxed()
    }

    async fn batch(&self, statements: Vec<Statement>) -> Result<Vec<ExecResult>, DbErr> {
        self.note(Request::Batch(statements.len()));
        match self.fault(Step::Batch) {
            None => self.commit(statements).await,
            Some(Fault::LoseAnswer) => {
                self.commit(statements).await?;
                Err(ours(ErrorKind::OutcomeUnknown))
            }
            Some(Fault::LoseRequest) => Err(ours(ErrorKind::OutcomeUnknown)),
            Some(Fault::Refuse(kind)) => Err(ours(kind)),
            Some(Fault::Behind(other)) => {
                other.await;
                self.commit(statements).await
            }
        }
    }

    async fn begin(
        &self,
        options: TransactionOptions,
    ) -> Result<Box<dyn DriverTransaction>, DbErr> {
        if !self.has_transactions {
            return Err(ours(ErrorKind::Unsupported));
        }
        assert_eq!(options.sqlite_transaction_mode, Some(SqliteTransactionMode::Immediate));
        self.note(Request::Begin);
        match self.fault(Step::Begin) {
            None => {}
            Some(Fault::Behind(other)) => other.await,
            Some(Fault::Refuse(kind)) => return Err(ours(kind)),
            Some(Fault::LoseAnswer | Fault::LoseRequest) => {
                return Err(ours(ErrorKind::OutcomeUnknown));
            }
        }
        let transaction = self.db.begin_with_options(options).await?;
        let wire = self.me.upgrade().unwrap();
        Ok(Box::new(Open { wire, transaction }))
    }

    async fn ping(&self) -> Result<(), DbErr> {
        self.db.ping().await
    }

    /// The file stays open for the test to look at.
    async fn close(&self) -> Result<(), DbErr> {
        Ok(())
    }
}

/// An open transaction. Nobody else gets at the file's only connection meanwhile.
struct Open {
    wire: Arc<Wire>,
    transaction: DatabaseTransaction,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Open")
    }
}

impl Open {
    /// The server may have ended it.
    async fn enter(&self, request: Request) -> Result<(), DbErr> {
        self.wire.note(request);
        match self.wire.fault(Step::Inside) {
            Some(Fault::Refuse(kind)) => Err(ours(kind)),
            Some(Fault::Behind(other)) => {
                other.await;
                Ok(())
            }
            Some(Fault::LoseAnswer | Fault::LoseRequest) => {
                unreachable!("before the commit nothing is lost")
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl DriverTransaction for Open {
    async fn execute(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.enter(Request::Execute).await?;
        self.transaction.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.enter(Request::Text).await?;
        self.transaction.execute_unprepared(sql).await
    }

    async fn query(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.wire.note(Request::Query);
        self.transaction.query_all_raw(statement).await
    }

    fn stream(&self, _statement: Statement) -> BoxStream<'_, Result<QueryResult, DbErr>> {
        stream::once(async { Err(ours(ErrorKind::Unsupported)) }).boxed()
    }

    async fn begin(&self) -> Result<Box<dyn DriverTransaction>, DbErr> {
        Err(ours(ErrorKind::Unsupported))
    }

    async fn commit(self: Box<Self>) -> Result<(), DbErr> {
        self.wire.note(Request::Commit);
        match self.wire.fault(Step::Commit) {
            None => self.transaction.commit().await,
            Some(Fault::LoseAnswer) => {
                self.transaction.commit().await?;
                Err(ours(ErrorKind::OutcomeUnknown))
            }
            Some(Fault::LoseRequest) => {
                self.transaction.rollback().await?;
                Err(ours(ErrorKind::OutcomeUnknown))
            }
            Some(Fault::Refuse(kind)) => {
                self.transaction.rollback().await?;
                Err(ours(kind))
            }
            Some(Fault::Behind(_)) => unreachable!("nobody else gets in"),
        }
    }

    async fn rollback(self: Box<Self>) -> Result<(), DbErr> {
        self.wire.note(Request::Rollback);
        self.transaction.rollback().await
    }
}
