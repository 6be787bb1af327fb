#![doc = include_str!("README.md")]

mod check;
mod checks;
mod fault;
mod list;
mod placements;
mod probe;
mod subject;
mod trial;

pub use check::{Check, Violation};
pub use placements::{MemoryPlacements, PlacementFault};
pub use subject::Subject;

/// What [`conformance_suite!`] expands to needs; not for anybody else.
#[doc(hidden)]
pub mod __private {
    pub use crate::check::{Run, test};
}

/// Makes one test of each check, named as the check is.
///
/// `setup` is an `async fn(check: &str) -> Subject`; it is called once for each test. Each test has
/// a tokio runtime of its own with two threads, so the crate that expands this needs no other
/// dependency.
#[macro_export]
macro_rules! conformance_suite {
    ($setup:path) => {
        $crate::__checks! { __tests ($setup) }
    };
}

/// A test of each check in the list.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($setup:path) $( $(#[doc = $promise:literal])+ $module:ident :: $name:ident, )+) => {
        $(
            #[test]
            fn $name() {
                $crate::__private::test(::core::stringify!($name), $setup, |subject| {
                    ::std::boxed::Box::pin($crate::$name(subject))
                });
            }
        )+
    };
}

/// A public function and an entry in [`CHECKS`] of each check in the list.
macro_rules! functions {
    (() $( $(#[doc = $promise:literal])+ $module:ident :: $name:ident, )+) => {
        $(
            $(#[doc = $promise])+
            ///
            /// # Errors
            /// What was seen instead.
            pub async fn $name(subject: &Subject) -> Result<(), Violation> {
                check::run(stringify!($name), concat!($($promise),+), subject, |trial| {
                    Box::pin(checks::$module::$name(trial))
                })
                .await
            }
        )+

        /// Every check of the suite.
        pub const CHECKS: &[Check] = &[
            $(Check::new(stringify!($name), concat!($($promise),+), |subject| {
                Box::pin($name(subject))
            }),)+
        ];
    };
}

__checks! { functions () }
