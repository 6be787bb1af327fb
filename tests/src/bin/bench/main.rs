//! Measures us beside what a user would write, in one run: `cargo xtask bench NAME`.
//!
//! Both do the same work in turns, so that what else the machine does falls on both. One line of
//! JSON per figure on standard output.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the figures")]

mod d1;
mod d1_migrate;
mod decode;
mod figure;
mod postgres;
mod postgres_many;
mod postgres_migrate;
mod sqlite;
mod turso;
mod turso_migrate;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::{
    figure::{Figure, Goal},
    sqlite::{Diy, Pending},
};

/// Every bench, and what it is to come to.
const BENCHES: [(&str, Goal); 21] = [
    ("provision-sqlite", Goal::AtLeast(25.0)),
    ("provision-sqlite-best-diy", Goal::AtLeast(8.0)),
    ("migrate-pending-sqlite", Goal::AtLeast(6.0)),
    ("migrate-noop-sqlite", Goal::AtLeast(5.0)),
    ("provision-postgres", Goal::AtLeast(50.0)),
    ("provision-postgres-sustained", Goal::AtLeast(2.0)),
    ("migrate-pending-postgres", Goal::AtLeast(2.0)),
    ("migrate-noop-postgres-verify", Goal::AtLeast(2.0)),
    ("migrate-noop-postgres", Goal::AtLeast(500.0)),
    ("postgres-1000-databases", Goal::AtLeast(3.0)),
    ("turso-read", Goal::AtLeast(1.5)),
    ("turso-read-requests", Goal::AtMost(1.0)),
    ("turso-batch-insert", Goal::AtLeast(20.0)),
    ("turso-migrate-pending", Goal::AtMost(2.0)),
    ("turso-migrate-noop", Goal::AtMost(1.0)),
    ("d1-read", Goal::AtMost(1.3)),
    ("d1-bulk-insert", Goal::AtMost(2.0)),
    ("d1-migrate-pending", Goal::AtMost(2.0)),
    ("d1-migrate-noop", Goal::AtMost(1.0)),
    ("decode-1000-rows", Goal::AtMost(4.0)),
    ("decode-1-row", Goal::AtMost(3.0)),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let names = BENCHES.map(|(name, _)| name);
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        eprintln!("no bench `{unknown}`; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let is_chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let chosen = BENCHES.into_iter().filter(|(name, _)| is_chosen(name));
    // Every one, also when one before it fell short.
    let met: Vec<bool> = chosen.map(|(name, goal)| run(name, goal)).collect();
    if met.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs one bench and prints its line.
fn run(name: &str, goal: Goal) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("no runtime").and_then(|runtime| runtime.block_on(measure(name)));
    let (line, met) = figure::line(name, goal, outcome);
    println!("{line}");
    met
}

async fn measure(name: &str) -> Result<Figure> {
    match name {
        "provision-sqlite" => sqlite::provision(Diy::Default).await,
        "provision-sqlite-best-diy" => sqlite::provision(Diy::Best).await,
        "migrate-pending-sqlite" => sqlite::migrate(Pending::All).await,
        "migrate-noop-sqlite" => sqlite::migrate(Pending::Nothing).await,
        "provision-postgres" => postgres::provision().await,
        "provision-postgres-sustained" => postgres::provision_sustained().await,
        "migrate-pending-postgres" => postgres_migrate::pending().await,
        "migrate-noop-postgres-verify" => postgres_migrate::noop_verify().await,
        "migrate-noop-postgres" => postgres_migrate::noop().await,
        "postgres-1000-databases" => postgres_many::serve().await,
        "turso-read" => turso::read().await,
        "turso-read-requests" => turso::read_requests().await,
        "turso-batch-insert" => turso::batch_insert().await,
        "turso-migrate-pending" => turso_migrate::pending().await,
        "turso-migrate-noop" => turso_migrate::noop().await,
        "d1-read" => d1::read().await,
        "d1-bulk-insert" => d1::bulk_insert().await,
        "d1-migrate-pending" => d1_migrate::pending().await,
        "d1-migrate-noop" => d1_migrate::noop().await,
        "decode-1000-rows" => on_one_core(|| decode::decode(1_000, 300)),
        "decode-1-row" => on_one_core(|| decode::decode(1, 3_000)),
        other => bail!("`{other}` is not measured"),
    }
}

/// Measures on one core, where that can be had: all threads that are started meanwhile stay there.
fn on_one_core<F: Future<Output = Result<Figure>>>(
    measure: impl FnOnce() -> F + Send,
) -> Result<Figure> {
    let measuring = || {
        if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.first().copied()) {
            core_affinity::set_for_current(core);
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
    };
    let joined = std::thread::scope(|scope| scope.spawn(measuring).join());
    joined.map_err(|_panic| anyhow::anyhow!("the measuring thread panicked"))?
}
