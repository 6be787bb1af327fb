#![doc = include_str!("README.md")]

mod answer;
mod application;
mod args;
mod commands;
mod out;
mod settings;

pub use answer::Exit;
pub use application::{Application, log_to_stderr, main};
pub use args::{Cli, Command, MigrateAllArgs, NOTES, Options, parse};
pub use out::Out;
pub use settings::Settings;
