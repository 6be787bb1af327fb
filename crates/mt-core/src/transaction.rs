use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    StreamTrait, TransactionSession, TransactionTrait as _,
};

use crate::{
    DataStream, DriverTransaction, Error, ErrorKind, ReadOnly, Result, adapters::Inner, gate::Pass,
    lane,
};

/// A transaction on a tenant's database. Dropping it rolls back.
///
/// It passed the gate when it began and counts as in use until it ends. When the engine has ended
/// it by itself, every further step is refused: nothing that was meant for it takes effect alone,
/// and its `commit` is never a success.
#[derive(Debug)]
pub struct DataTransaction {
    // In this order: it is rolled back before the gate is told that it is over.
    open: Open,
    level: Level,
    whole: Arc<Whole>,
    backend: DbBackend,
    reads: Option<ReadOnly>,
}

#[derive(Debug)]
pub(crate) enum Open {
    SeaOrm(DatabaseTransaction),
    Driver(Box<dyn DriverTransaction>),
}

/// What a transaction and those nested in it share.
#[derive(Debug)]
struct Whole {
    /// A statement failed since the engine was last asked whether the transaction still stands.
    failed: AtomicBool,
    /// Why no further step is let through.
    over: OnceLock<Error>,
    pass: Pass,
    /// Keeps the database open as long as the transaction is.
    #[expect(dead_code, reason = "held for its drop")]
    inner: Arc<Inner>,
}

/// One transaction among nested ones.
#[derive(Debug, Default)]
struct Level {
    /// How many are open inside this one.
    children: Arc<AtomicUsize>,
    /// The count of the one outside, in which this one is counted.
    parent: Option<Arc<AtomicUsize>>,
}

impl Level {
    fn inside(parent: &Self) -> Self {
        parent.children.fetch_add(1, Ordering::SeqCst);
        Self { children: Arc::default(), parent: Some(Arc::clone(&parent.children)) }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        if let Some(parent) = &self.parent {
            parent.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl DataTransaction {
    pub(crate) fn new(
        open: Open,
        pass: Pass,
        inner: &Arc<Inner>,
        backend: DbBackend,
        reads: Option<ReadOnly>,
    ) -> Self {
        let whole = Whole {
            failed: AtomicBool::new(false),
            over: OnceLock::new(),
            pass,
            inner: Arc::clone(inner),
        };
        Self { open, level: Level::default(), whole: Arc::new(whole), backend, reads }
    }

    pub(crate) async fn nest(&self) -> Result<Self, DbErr> {
        self.step("").await?;
        let open = match &self.open {
            Open::SeaOrm(transaction) => {
                Open::SeaOrm(self.whole.pass.run(transaction.begin()).await?)
            }
            Open::Driver(transaction) => Open::Driver(transaction.begin().await?),
        };
        Ok(Self {
            open,
            level: Level::inside(&self.level),
            whole: Arc::clone(&self.whole),
            backend: self.backend,
            reads: self.reads,
        })
    }

    /// What comes before every step.
    async fn step(&self, text: &str) -> Result<(), DbErr> {
        self.whole.pass.check().map_err(Error::into_db_err)?;
        lane::check(text, self.backend, self.reads).map_err(Error::into_db_err)?;
        if let Some(over) = self.whole.over.get() {
            return Err(over.clone().into_db_err());
        }
        if self.whole.failed.swap(false, Ordering::SeqCst)
            && let Some(over) = self.ended_by_engine().await
        {
            let over = self.whole.over.get_or_init(|| over);
            return Err(over.clone().into_db_err());
        }
        Ok(())
    }

    /// After a failed statement the transaction may be gone, or be bound to roll back, without
    /// anybody having said so: SQLite rolls back by itself on `OR ROLLBACK` and on some errors, and
    /// PostgreSQL answers the `COMMIT` of a failed transaction with success, having rolled back.
    async fn ended_by_engine(&self) -> Option<Error> {
        let Open::SeaOrm(transaction) = &self.open else { return None };
        let ended = |why: &str| Error::new(ErrorKind::Statement, why);
        match self.backend {
            // Inside a transaction this is an error, and changes nothing.
            DbBackend::Sqlite => {
                transaction.execute_unprepared("BEGIN").await.ok().map(|_| {
                    ended("the engine rolled the transaction back after a statement failed")
                })
            }
            _ => transaction.execute_unprepared("SELECT 1").await.err().map(|e| {
                ended("a statement failed, so the transaction can only be rolled back")
                    .with_source(e)
            }),
        }
    }

    fn note<T>(&self, outcome: Result<T, DbErr>) -> Result<T, DbErr> {
        if outcome.is_err() {
            self.whole.failed.store(true, Ordering::SeqCst);
        }
        outcome
    }

    /// Refuses to end this one while one inside it is open: the engine would end both, and the one
    /// inside would not know.
    fn require_no_children(&self) -> Result<(), DbErr> {
        if self.level.children.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let over = Error::new(
            ErrorKind::Statement,
            "a transaction inside this one is still open; all of it is rolled back",
        );
        Err(self.whole.over.get_or_init(|| over).clone().into_db_err())
    }

    async fn roll_back(self) -> Result<(), DbErr> {
        if self.backend == DbBackend::Sqlite && self.whole.failed.swap(false, Ordering::SeqCst) {
            // sqlx goes on counting a transaction that SQLite has ended, and would take the next one
            // on this connection for a part of it. Asking begins one that can be rolled back.
            drop(self.ended_by_engine().await);
        }
        match self.open {
            Open::SeaOrm(transaction) => self.whole.pass.run(transaction.rollback()).await,
            Open::Driver(transaction) => transaction.rollback().await,
        }
    }
}

#[async_trait]
impl ConnectionTrait for DataTransaction {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.step(&statement.sql).await?;
        self.note(match &self.open {
            Open::SeaOrm(transaction) => {
                self.whole.pass.run(transaction.execute_raw(statement)).await
            }
            Open::Driver(transaction) => transaction.execute(statement).await,
        })
    }

    async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        self.step(text).await?;
        self.note(match &self.open {
            Open::SeaOrm(transaction) => {
                self.whole.pass.run(transaction.execute_unprepared(text)).await
            }
            Open::Driver(transaction) => transaction.execute_unprepared(text).await,
        })
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.step(&statement.sql).await?;
        self.note(match &self.open {
            Open::SeaOrm(transaction) => {
                self.whole.pass.run(lane::query_one(transaction, statement)).await
            }
            Open::Driver(transaction) => {
                transaction.query(statement).await.map(|rows| rows.into_iter().next())
            }
        })
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.step(&statement.sql).await?;
        self.note(match &self.open {
            Open::SeaOrm(transaction) => {
                self.whole.pass.run(transaction.query_all_raw(statement)).await
            }
            Open::Driver(transaction) => transaction.query(statement).await,
        })
    }
}

impl StreamTrait for DataTransaction {
    type Stream<'a> = DataStream<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<DataStream<'a>, DbErr>> + Send + 'a>> {
        Box::pin(async move {
            self.step(&statement.sql).await?;
            let rows = match &self.open {
                Open::SeaOrm(transaction) => {
                    let begun = self.whole.pass.run(transaction.stream_raw(statement)).await;
                    self.note(begun)?.boxed()
                }
                Open::Driver(transaction) => transaction.stream(statement),
            };
            Ok(DataStream::new(rows.map(|row| self.note(row)).boxed(), None))
        })
    }
}

#[async_trait]
impl TransactionSession for DataTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        let may_commit = match self.require_no_children() {
            Ok(()) => self.step("").await,
            refused => refused,
        };
        if let Err(refused) = may_commit {
            if let Err(error) = self.roll_back().await {
                tracing::debug!(error = %error, "a refused transaction did not roll back cleanly");
            }
            return Err(refused);
        }
        match self.open {
            Open::SeaOrm(transaction) => self.whole.pass.run(transaction.commit()).await,
            Open::Driver(transaction) => transaction.commit().await,
        }
    }

    async fn rollback(self) -> Result<(), DbErr> {
        let refused = self.require_no_children();
        let over = self.whole.over.get().is_some();
        let rolled_back = self.roll_back().await;
        // What the engine rolled back is rolled back, whatever it says the second time.
        refused.and(if over { Ok(()) } else { rolled_back })
    }
}
