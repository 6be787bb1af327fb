//! Against SQLite in the place of D1, and against SQLite as it is.

mod columns;
mod corpus;
mod engine;
mod fake;
mod once;
mod requests;
mod same;
mod values;

use std::sync::Arc;

use mt_remote::{Answer, Command, Protocol as _, Value};

pub(crate) use self::fake::Fake;
use super::{D1Protocol, Shapes};

/// A protocol over a database of its own.
fn protocol() -> (Arc<Fake>, D1Protocol) {
    let fake = Arc::new(Fake::new());
    let protocol = D1Protocol::new(Arc::clone(&fake) as _, Shapes::new());
    (fake, protocol)
}

fn command(sql: &str, parameters: Vec<Value>) -> Command {
    Command { sql: sql.to_owned(), parameters }
}

async fn run(protocol: &D1Protocol, sql: &str, parameters: Vec<Value>) -> Answer {
    match protocol.execute(command(sql, parameters)).await {
        Ok(answer) => answer,
        Err(fault) => panic!("{sql}: {fault}"),
    }
}

async fn refused(protocol: &D1Protocol, sql: &str, parameters: Vec<Value>) -> mt_core::Error {
    match protocol.execute(command(sql, parameters)).await {
        Ok(answer) => panic!("{sql}: {answer:?}"),
        Err(fault) => fault.into(),
    }
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.columns.iter().map(|column| column.name.as_str()).collect()
}
