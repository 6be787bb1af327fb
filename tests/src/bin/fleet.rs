//! The command line of a program of which there are two releases: `fleet first provision acme`.

use std::process::ExitCode;

use mt_tests::releases::{First, Second};
use multi_tenancy::cli::{Application, Exit, Out};

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next();
    let release = args.next().unwrap_or_default();
    let args = program.into_iter().chain(args);
    let out = Out::standard();
    let exit = match release.to_str() {
        Some("first") => Application::<First>::new().run_from(args, &out).await,
        Some("second") => Application::<Second>::new().run_from(args, &out).await,
        _ => Exit::Usage,
    };
    exit.into()
}
