//! Serves a Turso of our own until the standard input ends, and tells how it is reached.
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::io::Read as _;

use mt_devservers::Turso;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let turso = runtime.block_on(Turso::start())?;
    for (name, value) in turso.environment() {
        println!("{name}={value}");
    }
    println!("SQLD_PID={}", turso.sqld().pid().unwrap_or_default());
    println!("SQLD_FOLDER={}", turso.sqld().folder().display());
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
