//! Serves a Turso (`turso`, the default), a D1 (`d1`) or a PostgreSQL (`postgres`) of our own until the
//! standard input ends, and tells how it is reached.
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{io::Read as _, path::Path};

use anyhow::bail;
use mt_devservers::{D1, Postgres, Turso};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args().nth(1).as_deref() {
        None | Some("turso") => {
            let turso = runtime.block_on(Turso::start())?;
            let sqld = turso.sqld();
            tell(turso.environment(), "SQLD", sqld.pid(), &sqld.folder())
        }
        Some("d1") => {
            let d1 = runtime.block_on(D1::start())?;
            let workerd = d1.workerd();
            tell(d1.environment(), "WORKERD", workerd.pid(), &workerd.folder())
        }
        Some("postgres") => {
            let postgres = runtime.block_on(Postgres::start())?;
            tell(postgres.environment(), "POSTGRES", postgres.pid(), &postgres.folder())
        }
        Some(other) => bail!("there is no server {other:?}: it is `turso`, `d1` or `postgres`"),
    }
}

/// Tells it, and waits for the end of the standard input.
fn tell(
    environment: Vec<(&str, String)>,
    server: &str,
    pid: Option<u32>,
    folder: &Path,
) -> anyhow::Result<()> {
    for (name, value) in environment {
        println!("{name}={value}");
    }
    println!("{server}_PID={}", pid.unwrap_or_default());
    println!("{server}_FOLDER={}", folder.display());
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
