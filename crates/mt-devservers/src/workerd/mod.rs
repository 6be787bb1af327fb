//! The JavaScript runtime that D1 runs on.

mod fetch;
mod server;

pub use fetch::find;
pub(crate) use server::Worker;
pub use server::Workerd;
