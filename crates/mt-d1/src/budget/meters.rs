//! What of a budget an application's exporter of metrics sees.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{Lane, state::Heard};

const QUEUE: &str = "mt_d1_budget_queue_seconds";
const REMAINING: &str = "mt_d1_budget_remaining";
const REQUESTS: &str = "mt_d1_budget_requests_total";
const REFUSALS: &str = "mt_d1_budget_refusals_total";
const PAUSES: &str = "mt_d1_budget_pauses_total";

pub(super) fn describe() {
    describe_histogram!(QUEUE, Unit::Seconds, "How long a request stood in line");
    describe_gauge!(REMAINING, Unit::Count, "Requests left in the window, by the last answer");
    describe_counter!(REQUESTS, Unit::Count, "Requests let go");
    describe_counter!(REFUSALS, Unit::Count, "Answers with status 429");
    describe_counter!(PAUSES, Unit::Count, "Pauses of everything after a refusal");
}

/// Tenants are no labels: there are too many of them.
pub(super) fn let_go(lane: &Lane, waited: Duration) {
    let kind = match lane {
        Lane::Control => "control",
        Lane::Tenant(_) => "tenant",
    };
    histogram!(QUEUE, "lane" => kind).record(waited.as_secs_f64());
    counter!(REQUESTS, "lane" => kind).increment(1);
}

pub(super) fn heard(heard: Heard, remaining: Option<u32>) {
    if let Some(remaining) = remaining {
        gauge!(REMAINING).set(f64::from(remaining));
    }
    match heard {
        Heard::Answer => {}
        Heard::Refusal => counter!(REFUSALS).increment(1),
        Heard::Pause(pause) => {
            counter!(REFUSALS).increment(1);
            counter!(PAUSES).increment(1);
            tracing::warn!(?pause, "the API token's rate is overrun: every request of it waits");
        }
    }
}
