use std::{fmt, future::Future};

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

use super::{CHECKS, DriverSubject, fault::Outcome};

/// One promise of the contract, and the function that tells whether a driver keeps it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DriverCheck {
    /// Its name: a sentence that is true of every driver that keeps the contract.
    pub name: &'static str,
    /// The promise in full.
    pub promise: &'static str,
    run: Run,
}

type Run = for<'s> fn(&'s DriverSubject) -> BoxFuture<'s, Outcome>;

impl DriverCheck {
    pub(super) const fn new(name: &'static str, promise: &'static str, run: Run) -> Self {
        Self { name, promise, run }
    }

    /// Runs it against `subject`, whose database must be empty.
    ///
    /// # Errors
    /// What was seen instead of what is promised.
    pub async fn run(&self, subject: &DriverSubject) -> Result<(), DriverViolation> {
        let seen = match tokio::time::timeout(subject.limit(), (self.run)(subject)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => format!("nothing for {:?}; it was held to hang", subject.limit()),
        };
        Err(DriverViolation { check: self.name, promise: self.promise, seen })
    }
}

/// A promise that a driver broke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverViolation {
    /// The check that found it, by name.
    pub check: &'static str,
    /// The promise that does not hold.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

impl fmt::Display for DriverViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}\npromised:{}", self.check, self.seen, self.promise)
    }
}

impl std::error::Error for DriverViolation {}

/// What each test of [`driver_conformance_suite!`](crate::driver_conformance_suite) does.
#[doc(hidden)]
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn test<S, F>(name: &'static str, setup: S)
where
    S: Fn(&'static str) -> F,
    F: Future<Output = DriverSubject>,
{
    let check = CHECKS.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check {name}"));
    for (runtime, kind) in runtimes() {
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime for {name}: {error}"));
        let outcome = runtime.block_on(async {
            let subject = setup(name).await;
            let outcome = check.run(&subject).await;
            subject.close().await;
            outcome
        });
        if let Err(violation) = outcome {
            panic!("on a runtime of {kind}: {violation}");
        }
    }
}

fn runtimes() -> [(std::io::Result<Runtime>, &'static str); 2] {
    [
        (Builder::new_multi_thread().worker_threads(2).enable_all().build(), "two threads"),
        (Builder::new_current_thread().enable_all().build(), "the current thread"),
    ]
}
