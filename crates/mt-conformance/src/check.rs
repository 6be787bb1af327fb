use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
};

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{Subject, fault::Outcome, trial::Trial};

/// One promise of the contract, and the function that tells whether a factory keeps it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Check {
    /// Its name: a sentence that is true of every factory that keeps the contract.
    pub name: &'static str,
    /// The promise in full.
    pub promise: &'static str,
    run: Run,
}

/// A check as a plain function.
#[doc(hidden)]
pub type Run = for<'s> fn(&'s Subject) -> BoxFuture<'s, Result<(), Violation>>;

impl Check {
    pub(crate) const fn new(name: &'static str, promise: &'static str, run: Run) -> Self {
        Self { name, promise, run }
    }

    /// Runs it against `subject`, and removes the tenants that it made.
    ///
    /// # Errors
    /// What was seen instead of what is promised.
    pub async fn run(&self, subject: &Subject) -> Result<(), Violation> {
        (self.run)(subject).await
    }
}

/// A promise that a factory broke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The check that found it, by name.
    pub check: &'static str,
    /// The promise that does not hold.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}\npromised:{}", self.check, self.seen, self.promise)
    }
}

impl std::error::Error for Violation {}

/// Runs `body` within the subject's limit, then removes what it made, whether it ended, failed,
/// hung or panicked.
pub(crate) async fn run(
    check: &'static str,
    promise: &'static str,
    subject: &Subject,
    body: for<'t> fn(&'t Trial<'t>) -> BoxFuture<'t, Outcome>,
) -> Result<(), Violation> {
    let trial = Trial::new(subject);
    let ended = AssertUnwindSafe(trial.within_limit(body(&trial))).catch_unwind().await;
    let cleaned = trial.clean().await;
    match ended {
        Ok(outcome) => outcome
            .and_then(|outcome| outcome)
            .and(cleaned)
            .map_err(|fault| Violation { check, promise, seen: fault.to_string() }),
        Err(panic) => resume_unwind(panic),
    }
}

/// What each test of [`conformance_suite!`](crate::conformance_suite) does.
#[doc(hidden)]
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn test<S, F>(name: &'static str, setup: S, check: Run)
where
    S: FnOnce(&'static str) -> F,
    F: Future<Output = Subject>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no runtime to run {name} on: {error}"));
    let outcome = runtime.block_on(async {
        let subject = setup(name).await;
        check(&subject).await
    });
    if let Err(violation) = outcome {
        panic!("{violation}");
    }
}
