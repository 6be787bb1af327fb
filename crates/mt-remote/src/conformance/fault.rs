use std::fmt;

use mt_core::{Error, ErrorKind};
use sea_orm::{DbErr, SqlErr};

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
            return Err($crate::conformance::fault::Fault::new(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// Fails the check unless two values are equal.
macro_rules! ensure_eq {
    ($seen:expr, $expected:expr, $($what:tt)+) => {{
        let (seen, expected) = (&$seen, &$expected);
        if *seen != *expected {
            let what = format!($($what)+);
            return Err($crate::conformance::fault::Fault::new(format!(
                "{what} is {seen:?}, not {expected:?}"
            )));
        }
    }};
}
pub(crate) use ensure_eq;

fn told(error: &DbErr) -> String {
    match Error::in_db_err(error) {
        Some(ours) => format!("{:?}: {}", ours.kind(), ours.to_chain()),
        None => error.to_string(),
    }
}

/// Turns an error where none is expected into a fault.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Outcome<T>;
}

impl<T> Doing<T> for Result<T, DbErr> {
    fn doing(self, what: &str) -> Outcome<T> {
        self.map_err(|error| Fault::new(format!("{what} failed with {}", told(&error))))
    }
}

impl<T> Doing<T> for mt_core::Result<T> {
    fn doing(self, what: &str) -> Outcome<T> {
        self.map_err(|error| {
            Fault::new(format!("{what} failed with {:?}: {}", error.kind(), error.to_chain()))
        })
    }
}

/// Fails unless `got` is an error of ours of `kind`.
pub(crate) fn expect_kind<T>(got: Result<T, DbErr>, kind: ErrorKind, what: &str) -> Outcome<DbErr> {
    match got {
        Ok(_) => Err(Fault::new(format!("{what} succeeded; {kind:?} was expected"))),
        Err(error) => match Error::in_db_err(&error) {
            Some(ours) if ours.kind() == kind => Ok(error),
            _ => Err(Fault::new(format!("{what} failed with {}, not with {kind:?}", told(&error)))),
        },
    }
}

/// Fails unless `got` is an error that SeaORM takes for `expected`.
pub(crate) fn expect_sql_err<T>(
    got: Result<T, DbErr>,
    expected: &SqlErr,
    what: &str,
) -> Outcome<DbErr> {
    match got {
        Ok(_) => Err(Fault::new(format!("{what} succeeded; {expected:?} was expected"))),
        Err(error) if error.sql_err().as_ref() == Some(expected) => Ok(error),
        Err(error) => Err(Fault::new(format!(
            "{what} failed with {}, which is {:?} to SeaORM, not {expected:?}",
            told(&error),
            error.sql_err()
        ))),
    }
}
