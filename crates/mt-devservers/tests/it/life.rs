//! Servers that die, come back, and leave nothing behind.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mt_devservers::{D1, Postgres, Sqld, Turso};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::Site;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_was_written_survives_a_kill() {
    let site = Site::start().await;
    let database = site.create("one").await;
    database.rows("create table t (x)").await;
    database.rows("insert into t values (7)").await;
    let sqld = site.turso.sqld();
    let port = sqld.port();
    sqld.kill().unwrap();
    assert_eq!(database.status("select x from t").await, StatusCode::BAD_GATEWAY);
    sqld.restart().await.unwrap();
    assert_eq!(sqld.port(), port);
    let rows = database.rows("select x from t").await;
    assert_eq!(rows, json!([[{"type": "integer", "value": "7"}]]));
    assert_eq!(database.with_token("").status("select 1").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn several_at_once_do_not_meet() {
    let (a, b, c) = tokio::join!(Sqld::start(), Sqld::start(), Sqld::start());
    let started = [a.unwrap(), b.unwrap(), c.unwrap()];
    let mut ports: Vec<_> =
        started.iter().flat_map(|sqld| [sqld.port(), sqld.admin_port()]).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6);
}

#[tokio::test]
async fn nothing_is_left_of_what_is_dropped() {
    let turso = Turso::start().await.unwrap();
    let left = Left::of(turso.sqld().pid().unwrap(), turso.sqld().folder());
    assert!(left.is_there());
    drop(turso);
    assert!(!left.is_there(), "{left:?}");
    let d1 = D1::start().await.unwrap();
    let left = Left::of(d1.workerd().pid().unwrap(), d1.workerd().folder());
    assert!(left.is_there());
    drop(d1);
    assert!(!left.is_there(), "{left:?}");
    let postgres = Postgres::start().await.unwrap();
    let left = Left::of(postgres.pid().unwrap(), postgres.folder());
    assert!(left.is_there());
    drop(postgres);
    assert!(!left.is_there(), "{left:?}");
}

#[test]
fn nothing_is_left_of_a_holder_that_is_killed() {
    for (name, server) in [("turso", "SQLD"), ("d1", "WORKERD"), ("postgres", "POSTGRES")] {
        let (mut holder, told) = hold(name);
        let of = |key: &str| told[&format!("{server}_{key}")].clone();
        let left = Left::of(of("PID").parse().unwrap(), of("FOLDER"));
        assert!(left.is_there(), "{left:?}");
        // SIGKILL: nobody runs any destructor.
        holder.kill().unwrap();
        holder.wait().unwrap();
        left.wait_for_the_end();
    }
}

/// What may be left of a server.
#[derive(Debug)]
struct Left {
    process: PathBuf,
    folder: PathBuf,
}

impl Left {
    fn of(pid: u32, folder: impl Into<PathBuf>) -> Self {
        Self { process: Path::new("/proc").join(pid.to_string()), folder: folder.into() }
    }

    fn is_there(&self) -> bool {
        self.process.exists() || self.folder.exists()
    }

    fn wait_for_the_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_there() {
            assert!(Instant::now() < deadline, "{self:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Another process that holds a server, and what it tells of it.
fn hold(name: &str) -> (Child, BTreeMap<String, String>) {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_mt-devservers"))
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.take_while(|line| line != "ready");
    let told = told.map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let told: BTreeMap<_, _> = told.collect();
    let prefix = format!("MT_{}__", name.to_uppercase());
    assert!(told.keys().any(|key| key.starts_with(&prefix)), "{told:?}");
    (holder, told)
}
