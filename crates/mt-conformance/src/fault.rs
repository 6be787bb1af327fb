use std::fmt;

use mt_core::{Error, ErrorKind};
use sea_orm::DbErr;

/// What a check saw instead of what is promised.
#[derive(Debug)]
pub(crate) struct Fault(String);

pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(seen: impl Into<String>) -> Self {
        Self(seen.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails the check with a message unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::fault::Fault::new(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// An error of either kind, told in full.
pub(crate) trait Told {
    fn told(&self) -> String;
}

impl Told for Error {
    fn told(&self) -> String {
        format!("{:?}: {}", self.kind(), self.to_chain())
    }
}

impl Told for DbErr {
    fn told(&self) -> String {
        Error::in_db_err(self).map_or_else(|| self.to_string(), Told::told)
    }
}

/// Turns an error where none is expected into a fault.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Outcome<T>;
}

impl<T, E: Told> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Outcome<T> {
        self.map_err(|error| Fault::new(format!("{what} failed with {}", error.told())))
    }
}

/// Fails unless `got` is an error of `kind`.
pub(crate) fn expect_kind<T>(
    got: mt_core::Result<T>,
    kind: ErrorKind,
    what: &str,
) -> Outcome<Error> {
    expect_one_of(got, &[kind], what)
}

/// Fails unless `got` is an error of one of `kinds`.
pub(crate) fn expect_one_of<T>(
    got: mt_core::Result<T>,
    kinds: &[ErrorKind],
    what: &str,
) -> Outcome<Error> {
    match got {
        Err(error) if kinds.contains(&error.kind()) => Ok(error),
        Err(error) => {
            Err(Fault::new(format!("{what} failed with {}, not with {kinds:?}", error.told())))
        }
        Ok(_) => Err(Fault::new(format!("{what} succeeded; {kinds:?} was expected"))),
    }
}

/// Fails unless `got` is a refusal by the handle, of `kind`.
pub(crate) fn expect_refusal<T>(got: Result<T, DbErr>, kind: ErrorKind, what: &str) -> Outcome {
    match got {
        Ok(_) => Err(Fault::new(format!("{what} succeeded; {kind:?} was expected"))),
        Err(error) => match Error::in_db_err(&error) {
            Some(ours) if ours.kind() == kind => Ok(()),
            _ => Err(Fault::new(format!("{what} failed with {}, not with {kind:?}", error.told()))),
        },
    }
}
