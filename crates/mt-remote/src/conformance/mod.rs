//! What [`mt_core::Driver`] promises of a database of the SQLite dialect, as tests that any driver
//! can be run against.
//!
//! ```
//! use mt_remote::conformance::DriverSubject;
//!
//! /// Called once for each check and kind of runtime.
//! async fn setup(_check: &str) -> DriverSubject {
//!     # fn driver_over_an_empty_database() -> std::sync::Arc<dyn mt_core::Driver> { unreachable!() }
//!     DriverSubject::new(driver_over_an_empty_database())
//! }
//!
//! mt_remote::driver_conformance_suite!(setup);
//! # fn main() {}
//! ```

mod check;
mod checks;
mod fault;
mod kinds;
mod list;
mod probe;
mod subject;

pub use check::{DriverCheck, DriverViolation};
pub use subject::{DriverAbilities, DriverSubject};

/// What [`driver_conformance_suite!`](crate::driver_conformance_suite) expands to needs; not for
/// anybody else.
#[doc(hidden)]
pub mod __private {
    pub use super::check::test;
}

/// Makes one test of each check, named as the check is.
///
/// `setup` is an `async fn(check: &str) -> DriverSubject`. Each test runs its check twice, with a
/// subject of its own: on a tokio runtime of two threads, and on one of the current thread.
#[macro_export]
macro_rules! driver_conformance_suite {
    ($setup:path) => {
        $crate::__driver_checks! { [$crate::__driver_tests] ($setup) }
    };
}

/// A test of each check in the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __driver_tests {
    (($setup:path) $( $(#[doc = $promise:literal])+ $module:ident :: $name:ident, )+) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::__private::test(::core::stringify!($name), |check| {
                    $setup(check)
                });
            }
        )+
    };
}

/// An entry in [`CHECKS`] of each check in the list.
macro_rules! entries {
    (() $( $(#[doc = $promise:literal])+ $module:ident :: $name:ident, )+) => {
        /// Every check of the suite.
        pub const CHECKS: &[DriverCheck] = &[
            $(DriverCheck::new(stringify!($name), concat!($($promise),+), |subject| {
                Box::pin(checks::$module::$name(subject))
            }),)+
        ];
    };
}

crate::__driver_checks! { [entries] () }
