//! What answers say of the limit, and for how long it is believed.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, sleep};

use super::{PATIENT, WINDOW, budget, tenant};
use crate::budget::{Budget, Lane};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect()
}

async fn hear(budget: &Budget, status: u16, headers: &HeaderMap) {
    let permit = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    budget.heed(&permit, status, headers);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_knows_nothing_of_the_limit() {
    let told = headers(&[
        ("x-ratelimit-limit", "1"),
        ("x-ratelimit-remaining", "0"),
        ("ratelimit-policy", "a;q=1;w=86400"),
    ]);
    for status in [500, 502, 504, 520] {
        let budget = budget();
        hear(&budget, status, &told).await;
        assert_eq!((budget.usage().limit, budget.usage().remaining), (1_200, None), "{status}");
        let begin = Instant::now();
        for _ in 0..100 {
            drop(budget.acquire(&tenant(1), None, Duration::from_secs(1)).await.unwrap());
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "{status}");
    }
    // The service's own refusal of a statement is its word.
    let budget = budget();
    hear(&budget, 400, &told).await;
    assert_eq!(budget.usage().limit, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_said_again_is_forgotten() {
    for told in
        [headers(&[("x-ratelimit-limit", "1")]), headers(&[("ratelimit-policy", "a;q=1;w=86400")])]
    {
        let budget = budget();
        hear(&budget, 200, &told).await;
        assert_eq!(budget.usage().limit, 1, "{told:?}");
        // One that is in line learns it as well as one that comes.
        let begin = Instant::now();
        drop(budget.acquire(&tenant(1), None, PATIENT).await.unwrap());
        assert!(begin.elapsed() <= WINDOW, "{told:?}: {:?}", begin.elapsed());
        assert_eq!(budget.usage().limit, 1_200, "{told:?}");

        hear(&budget, 200, &told).await;
        sleep(WINDOW).await;
        let begin = Instant::now();
        for _ in 0..100 {
            drop(budget.acquire(&tenant(1), None, Duration::from_secs(1)).await.unwrap());
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_both_is_forgotten_by_itself() {
    let budget = budget();
    hear(&budget, 200, &headers(&[("ratelimit-policy", "a;q=60;w=86400")])).await;
    assert_eq!(budget.usage().limit, 60);
    for _ in 0..4 {
        sleep(WINDOW / 4).await;
        hear(&budget, 200, &headers(&[("x-ratelimit-limit", "900")])).await;
    }
    // 900 in the window that is set: an eighth of them at once.
    let begin = Instant::now();
    for _ in 0..100 {
        drop(budget.acquire(&tenant(1), None, Duration::from_secs(1)).await.unwrap());
    }
    assert_eq!((budget.usage().limit, begin.elapsed()), (900, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_again_stays() {
    let budget = budget();
    for _ in 0..10 {
        hear(&budget, 200, &headers(&[("ratelimit-policy", "a;q=240;w=300")])).await;
        sleep(WINDOW - Duration::from_secs(1)).await;
        drop(budget.acquire(&tenant(1), None, PATIENT).await.unwrap());
        assert_eq!(budget.usage().limit, 240);
    }
}
