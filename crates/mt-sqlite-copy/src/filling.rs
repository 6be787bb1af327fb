use mt_core::Result;
use rusqlite::types::Value;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{Contents, FileBuilder, ScratchFile, error::Error};

/// How much is handed over at a time, and how often before it is written: together what is in
/// memory, where no single row is larger.
const BATCH_BYTES: usize = 256 * 1024;
const BATCHES: usize = 4;

/// A finished copy.
#[derive(Debug)]
pub struct Built {
    /// The file, closed.
    pub file: ScratchFile,
    /// What is in it.
    pub contents: Contents,
}

/// A [`FileBuilder`] on a thread of its own, for rows that come from an asynchronous source.
///
/// Dropping it before its end gives the copy up.
#[derive(Debug)]
pub struct Filling {
    messages: mpsc::Sender<Message>,
    worker: JoinHandle<Result<Option<Built>>>,
    batch: Vec<(usize, Vec<Value>)>,
    batch_bytes: usize,
}

#[derive(Debug)]
enum Message {
    Rows(Vec<(usize, Vec<Value>)>),
    Finish,
}

impl Filling {
    /// Moves `builder` to its thread. `ledger` is the table of the applied migrations.
    pub fn start(builder: FileBuilder, ledger: Option<String>) -> Self {
        let (messages, inbox) = mpsc::channel(BATCHES);
        let worker = tokio::task::spawn_blocking(move || work(builder, inbox, ledger.as_deref()));
        Self { messages, worker, batch: Vec::new(), batch_bytes: 0 }
    }

    /// As [`FileBuilder::insert`]; waits while the thread has enough to do.
    ///
    /// # Errors
    /// As there, of this row or of one before it.
    pub async fn insert(&mut self, query: usize, row: Vec<Value>) -> Result<()> {
        self.batch_bytes += row.iter().map(size_of_value).sum::<usize>();
        self.batch.push((query, row));
        if self.batch_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.batch_bytes = 0;
        let rows = std::mem::take(&mut self.batch);
        self.send(Message::Rows(rows)).await
    }

    /// As [`FileBuilder::finish`].
    ///
    /// # Errors
    /// As there, or of a row before.
    pub async fn finish(mut self) -> Result<Built> {
        let rows = std::mem::take(&mut self.batch);
        self.send(Message::Rows(rows)).await?;
        self.send(Message::Finish).await?;
        self.end().await
    }

    /// Gives the copy up and waits until its file is gone.
    pub async fn abandon(self) {
        let Self { messages, worker, .. } = self;
        drop(messages);
        // What could not be written does not matter any more.
        worker.await.ok();
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        match self.messages.send(message).await {
            Ok(()) => Ok(()),
            // It hung up, and says why.
            Err(_) => self.end().await.map(drop),
        }
    }

    async fn end(&mut self) -> Result<Built> {
        let built = (&mut self.worker).await.map_err(Error::from)??;
        built.ok_or_else(|| Error::Damaged("it was given up".to_owned()).into())
    }
}

fn work(
    mut builder: FileBuilder,
    mut inbox: mpsc::Receiver<Message>,
    ledger: Option<&str>,
) -> Result<Option<Built>> {
    loop {
        match inbox.blocking_recv() {
            Some(Message::Rows(rows)) => {
                for (query, row) in rows {
                    builder.insert(query, row)?;
                }
            }
            Some(Message::Finish) => return builder.finish(ledger).map(Some),
            None => return Ok(None),
        }
    }
}

/// About what a value takes up in memory.
fn size_of_value(value: &Value) -> usize {
    let held = match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    };
    size_of::<Value>() + held
}
