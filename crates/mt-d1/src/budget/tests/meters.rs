use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, with_local_recorder,
};
use reqwest::header::{HeaderMap, HeaderValue};

use super::{PATIENT, budget, tenant};
use crate::budget::Lane;

/// Notes what it is told, as text.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeSet<String>>>);

struct Note(String, Notes);

impl Note {
    fn add(&self, value: &str) {
        self.1.0.lock().unwrap().insert(format!("{} {value}", self.0));
    }
}

impl CounterFn for Note {
    fn increment(&self, value: u64) {
        self.add(&format!("+{value}"));
    }
    fn absolute(&self, value: u64) {
        self.add(&format!("={value}"));
    }
}

impl GaugeFn for Note {
    fn increment(&self, value: f64) {
        self.add(&format!("+{value}"));
    }
    fn decrement(&self, value: f64) {
        self.add(&format!("-{value}"));
    }
    fn set(&self, value: f64) {
        self.add(&format!("={value}"));
    }
}

impl HistogramFn for Note {
    fn record(&self, value: f64) {
        self.add(&format!("{value}"));
    }
}

impl Notes {
    fn note(&self, key: &Key) -> Arc<Note> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        Arc::new(Note(format!("{}{}", key.name(), labels.collect::<String>()), self.clone()))
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.note(key))
    }
}

#[test]
fn everything_is_metered_and_no_tenant_is_named() {
    let notes = Notes::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    with_local_recorder(&notes, || {
        runtime.block_on(async {
            let budget = budget();
            let first = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
            let second = budget.acquire(&tenant(1), None, PATIENT).await.unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("x-ratelimit-remaining", HeaderValue::from(77));
            budget.heed(&first, 200, &headers);
            budget.heed(&second, 429, &HeaderMap::new());
        });
    });
    let notes: Vec<_> = notes.0.lock().unwrap().iter().cloned().collect();
    let expected = [
        "mt_d1_budget_pauses_total +1",
        "mt_d1_budget_queue_seconds lane=control 0",
        "mt_d1_budget_queue_seconds lane=tenant 0",
        "mt_d1_budget_refusals_total +1",
        "mt_d1_budget_remaining =77",
        "mt_d1_budget_requests_total lane=control +1",
        "mt_d1_budget_requests_total lane=tenant +1",
    ];
    assert_eq!(notes, expected);
}
