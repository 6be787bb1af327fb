//! A [`Protocol`] that answers what it is told to, and notes what it is asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use mt_remote::{
    Answer, Command, Fault, Part, Protocol, ProtocolTransaction, StatementError, TransactionMode,
};

/// A clone notes and answers as the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    asked: Vec<String>,
    faults: VecDeque<(String, Fault)>,
    parts: Vec<Result<Part, Fault>>,
}

impl Scripted {
    /// Fails the next statement with `text`.
    pub(crate) fn fail(&self, text: &str, fault: Fault) {
        self.0.lock().unwrap().faults.push_back((text.to_owned(), fault));
    }

    /// What every stream is made of.
    pub(crate) fn stream_of(&self, parts: Vec<Result<Part, Fault>>) {
        self.0.lock().unwrap().parts = parts;
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    async fn note(&self, text: &str) -> Result<Answer, Fault> {
        // As long as a request would take: others get their turn.
        tokio::task::yield_now().await;
        let mut state = self.0.lock().unwrap();
        state.asked.push(text.to_owned());
        match state.faults.front() {
            Some((failing, _)) if failing == text => Err(state.faults.pop_front().unwrap().1),
            _ => Ok(Answer::default()),
        }
    }

    async fn each(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        let mut answers = Vec::new();
        for command in commands {
            answers.push(self.note(&command.sql).await?);
        }
        Ok(answers)
    }
}

pub(crate) fn refusal(message: &str, code: Option<&str>) -> Fault {
    Fault::Statement(StatementError::new(message, code.map(str::to_owned)))
}

#[async_trait]
impl Protocol for Scripted {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        self.note(&command.sql).await
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.each(commands).await
    }

    fn stream(&self, _: Command) -> BoxStream<'_, Result<Part, Fault>> {
        stream::iter(self.0.lock().unwrap().parts.clone()).boxed()
    }

    async fn batch(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.each(commands).await
    }

    async fn begin(&self, mode: TransactionMode) -> Result<Box<dyn ProtocolTransaction>, Fault> {
        self.note(&format!("begin {mode:?}")).await?;
        Ok(Box::new(Transaction(self.clone())))
    }

    async fn close(&self) -> Result<(), Fault> {
        self.note("close").await.map(drop)
    }
}

#[derive(Debug)]
struct Transaction(Scripted);

#[async_trait]
impl ProtocolTransaction for Transaction {
    async fn execute(&self, command: Command) -> Result<Answer, Fault> {
        self.0.note(&command.sql).await
    }

    async fn script(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Fault> {
        self.0.each(commands).await
    }

    fn stream(&self, command: Command) -> BoxStream<'_, Result<Part, Fault>> {
        Protocol::stream(&self.0, command)
    }

    async fn commit(&self) -> Result<(), Fault> {
        self.0.note("commit").await.map(drop)
    }

    async fn rollback(&self) -> Result<(), Fault> {
        self.0.note("rollback").await.map(drop)
    }
}
