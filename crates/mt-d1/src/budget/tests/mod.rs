//! The budget against a simulated service, in paused time.

mod cancelling;
mod hearsay;
mod many;
mod meters;
mod overload;
mod pacing;
mod pausing;
mod service;
mod stuck;
mod turns;

use std::time::Duration;

use mt_core::TenantId;
use tokio::time::Instant;

use super::{Budget, BudgetSettings, Lane};

const WINDOW: Duration = Duration::from_secs(300);
const PATIENT: Duration = Duration::from_secs(100_000);

fn budget() -> Budget {
    Budget::new(BudgetSettings::default()).unwrap()
}

/// A budget that only its lines hold up: it lets one go at a time.
fn one_at_a_time() -> Budget {
    Budget::new(BudgetSettings { requests: 1_000_000, in_flight: 1, ..BudgetSettings::default() })
        .unwrap()
}

fn tenant(number: usize) -> Lane {
    Lane::Tenant(TenantId::new(format!("t{number}")).unwrap())
}

/// Lets every other task do what it can without time passing.
async fn settle() {
    let before = Instant::now();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(before, Instant::now());
}
