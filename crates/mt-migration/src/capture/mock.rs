use std::{
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread::{self, ThreadId},
};

use sea_orm::{
    DatabaseConnection, DatabaseConnectionType, DbBackend, DbErr, ExecResult, MockDatabase,
    MockDatabaseConnection, MockDatabaseTrait, MockExecResult, QueryResult, Statement, Transaction,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{Call, Event, Reply};

/// SeaORM's connection whose every statement becomes an [`Event`]. For this thread only.
pub(super) fn connect(backend: DbBackend, events: UnboundedSender<Event>) -> DatabaseConnection {
    let mock = Mock { backend, events, thread: thread::current().id() };
    let connection = Arc::new(MockDatabaseConnection::new(mock));
    DatabaseConnectionType::MockDatabaseConnection(connection).into()
}

/// A result that no engine gave. SeaORM's own can only be made by its mock database.
pub(crate) fn exec_result(
    backend: DbBackend,
    rows_affected: u64,
    last_insert_id: u64,
) -> Result<ExecResult, DbErr> {
    let result = MockExecResult { last_insert_id, rows_affected };
    MockDatabase::new(backend)
        .append_exec_results([result])
        .execute(0, Statement::from_string(backend, ""))
}

#[derive(Debug)]
struct Mock {
    backend: DbBackend,
    events: UnboundedSender<Event>,
    thread: ThreadId,
}

impl Mock {
    /// Hands `statement` out and waits for its answer, blocking the thread.
    fn ask<T>(
        &self,
        statement: Statement,
        reply: fn(SyncSender<Result<T, DbErr>>) -> Reply,
    ) -> Result<T, DbErr> {
        // A task that a migration spawned is on a thread of the runtime. Blocking that could keep
        // the very task from running that is to answer.
        if thread::current().id() != self.thread {
            return Err(DbErr::Custom(
                "a migration runs its statements itself, not in a task that it spawns".to_owned(),
            ));
        }
        let (sender, answer) = mpsc::sync_channel(1);
        let call = Call { statement, reply: reply(sender) };
        if self.events.send(Event::Call(call)).is_err() {
            return Err(given_up());
        }
        answer.recv().unwrap_or_else(|_| Err(given_up()))
    }
}

fn given_up() -> DbErr {
    DbErr::Custom("the run that this migration belongs to was given up".to_owned())
}

impl MockDatabaseTrait for Mock {
    fn execute(&mut self, _counter: usize, statement: Statement) -> Result<ExecResult, DbErr> {
        self.ask(statement, Reply::Execute)
    }

    fn query(&mut self, _counter: usize, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.ask(statement, Reply::Query)
    }

    fn begin(&mut self) {
        // Whoever would hear of it has given up, then.
        self.events.send(Event::Begin).unwrap_or_default();
    }

    fn commit(&mut self) {}

    fn rollback(&mut self) {}

    fn drain_transaction_log(&mut self) -> Vec<Transaction> {
        Vec::new()
    }

    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    fn ping(&self) -> Result<(), DbErr> {
        Ok(())
    }
}
