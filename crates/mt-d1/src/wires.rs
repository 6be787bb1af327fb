//! What is put around the way to a database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mt_core::ErrorKind;
use mt_remote::Fault;
use tokio::time::Instant;

use crate::raw::{Effect, RawAnswer, RawStatement, Wire};

/// How long to wait before a new database is asked again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait. Each question is one of the token's four a second.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Asks again where a database is not found, until a deadline: one that was made a moment ago may
/// not be known everywhere. A database that is not found has run nothing.
#[derive(Debug)]
pub(crate) struct Patient {
    wire: Arc<dyn Wire>,
    deadline: Instant,
}

impl Patient {
    pub(crate) fn new(wire: Arc<dyn Wire>, deadline: Instant) -> Self {
        Self { wire, deadline }
    }
}

#[async_trait]
impl Wire for Patient {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.wire.send(statements.clone(), effect).await {
                Err(Fault::Other(e))
                    if e.kind() == ErrorKind::TenantNotFound
                        && Instant::now() + wait < self.deadline =>
                {
                    tokio::time::sleep(wait).await;
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
                answer => return answer,
            }
        }
    }
}

/// Remembers how large the database was after the last answer: each answer tells, so that nobody
/// has to ask.
#[derive(Debug)]
pub(crate) struct Measured {
    wire: Arc<dyn Wire>,
    /// 0: not told. No database with a stamp in it is that small.
    size_bytes: AtomicU64,
}

impl Measured {
    pub(crate) fn new(wire: Arc<dyn Wire>) -> Self {
        Self { wire, size_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn size_bytes(&self) -> Option<u64> {
        Some(self.size_bytes.load(Ordering::Relaxed)).filter(|size| *size > 0)
    }
}

#[async_trait]
impl Wire for Measured {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        let answers = self.wire.send(statements, effect).await?;
        if let Some(size) = answers.last().and_then(|answer| answer.meta.size_after) {
            self.size_bytes.store(size, Ordering::Relaxed);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use mt_core::Error;

    use super::*;
    use crate::raw::Meta;

    /// Not found so many times, and then there.
    #[derive(Debug)]
    struct Late(AtomicU64);

    #[async_trait]
    impl Wire for Late {
        async fn send(
            &self,
            _statements: Vec<RawStatement>,
            _effect: Effect,
        ) -> Result<Vec<RawAnswer>, Fault> {
            if self.0.load(Ordering::SeqCst) > 0 {
                self.0.fetch_sub(1, Ordering::SeqCst);
                return Err(Error::new(ErrorKind::TenantNotFound, "no such database").into());
            }
            let meta = Meta { size_after: Some(4_096), ..Meta::default() };
            Ok(vec![RawAnswer { columns: Vec::new(), rows: Vec::new(), meta }])
        }
    }

    fn late(times: u64) -> Arc<Late> {
        Arc::new(Late(AtomicU64::new(times)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_database_is_waited_for_as_long_as_it_may_take() {
        let deadline = Instant::now() + Duration::from_secs(15);
        let patient = Patient::new(late(5), deadline);
        assert_eq!(patient.send(Vec::new(), Effect::Writes).await.unwrap().len(), 1);
        let patient = Patient::new(late(1_000), deadline);
        let Err(Fault::Other(error)) = patient.send(Vec::new(), Effect::Writes).await else {
            panic!("it is still not there");
        };
        assert_eq!(error.kind(), ErrorKind::TenantNotFound);
        assert!(Instant::now() <= deadline);
    }

    #[tokio::test]
    async fn a_size_is_known_once_it_was_told() {
        let measured = Measured::new(late(0));
        assert_eq!(measured.size_bytes(), None);
        measured.send(Vec::new(), Effect::Reads).await.unwrap();
        assert_eq!(measured.size_bytes(), Some(4_096));
    }
}
