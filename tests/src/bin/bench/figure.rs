//! What a bench tells, and what all of them measure with.

use std::{
    fmt,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

/// What was measured, and under which conditions.
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) conditions: Value,
}

/// Which side of the limit is the good one.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    const fn limit(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }

    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeast(_) => ">=",
            Self::AtMost(_) => "<=",
        })
    }
}

/// The line of a bench, and whether it met its goal. A run with errors meets none.
pub(crate) fn line(name: &str, goal: Goal, outcome: Result<Figure>) -> (Value, bool) {
    let (value, met, mut conditions) = match outcome {
        Ok(Figure { value, conditions }) => (Some(rounded(value)), goal.is_met(value), conditions),
        Err(error) => (None, false, json!({ "error": format!("{error:#}") })),
    };
    conditions["machine"] = machine().into();
    let (op, limit) = (goal.to_string(), goal.limit());
    let line = json!({
        "bench": name, "value": value, "op": op, "goal": limit, "met": met, "conditions": conditions
    });
    (line, met)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{cores} cores, load {load}, {build} build")
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Milliseconds for each of `count`.
pub(crate) fn millis(duration: Duration, count: usize) -> f64 {
    let each = duration.as_secs_f64() * 1000.0 / count as f64;
    (each * 1000.0).round() / 1000.0
}

/// Lets the system write out what the preparations and earlier runs left: it would be measured with
/// whoever comes first.
pub(crate) fn settle() {
    // Where there is no such command, nothing is lost but some evenness.
    drop(Command::new("sync").status());
}

/// How long each of many calls took.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Measures one.
    pub(crate) async fn take<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let done = call.await?;
        self.0.push(began.elapsed());
        Ok(done)
    }

    /// The middle one: what else the machine does makes some calls slow, and not this one.
    pub(crate) fn median(mut self) -> Duration {
        self.0.sort_unstable();
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}
