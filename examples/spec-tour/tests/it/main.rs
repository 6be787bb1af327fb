//! The code blocks of the specification, in its order.

mod best_practices;
mod configuration;
mod interface;
mod performance;
mod support;
