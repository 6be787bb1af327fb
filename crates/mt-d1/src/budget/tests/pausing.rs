use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mt_core::ErrorKind;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep};

use super::{
    PATIENT, WINDOW, budget,
    service::{BOTH, LIMIT, Service},
    settle, tenant,
};
use crate::budget::{Budget, Lane};

fn retry_after(text: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(reqwest::header::RETRY_AFTER, HeaderValue::from_static(text))])
}

/// Refuses one request.
async fn refuse(budget: &Budget, headers: &HeaderMap) {
    let permit = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    budget.heed(&permit, 429, headers);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_pauses_everything() {
    let budget = Arc::new(budget());
    let held: [_; 2] = [
        budget.acquire(&Lane::Control, None, PATIENT).await.unwrap(),
        budget.acquire(&tenant(1), None, PATIENT).await.unwrap(),
    ];
    let wait = |patience| {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            let permit = budget.acquire(&tenant(1), Some("one"), patience).await;
            (Instant::now(), permit.map(drop))
        })
    };
    let (impatient, patient) = (wait(Duration::from_secs(16)), wait(PATIENT));
    settle().await;
    let begin = Instant::now();
    budget.heed(&held[0], 429, &retry_after("17"));
    // Another's refusal a little later says nothing new, and no success ends a pause.
    budget.heed(&held[1], 429, &retry_after("17"));
    budget.heed(&held[1], 200, &HeaderMap::new());
    drop(held);
    assert_eq!(budget.usage().paused_for, Some(Duration::from_secs(17)));
    // And then the one that still waits.
    let forecast = budget.forecast(0).as_secs_f64();
    assert!((17.0..18.0).contains(&forecast), "{forecast}");

    let (at, refused) = impatient.await.unwrap();
    assert_eq!(at, begin);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("another 17 s"), "{error}");

    sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    let error = budget.acquire(&Lane::Control, None, Duration::from_secs(6)).await.unwrap_err();
    assert_eq!(asked, Instant::now());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("another 7 s"), "{error}");

    let (at, served) = patient.await.unwrap();
    served.unwrap();
    assert!(at >= begin + Duration::from_secs(17), "{:?}", at - begin);
    assert!(at < begin + Duration::from_secs(18), "{:?}", at - begin);
    assert_eq!(budget.usage().paused_for, None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_a_window_where_nothing_sensible_is_said() {
    for headers in [
        HeaderMap::new(),
        retry_after("soon"),
        retry_after("86000"),
        retry_after("99999999999999999999"),
    ] {
        let budget = budget();
        refuse(&budget, &headers).await;
        assert_eq!(budget.usage().paused_for, Some(WINDOW), "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_at_once_is_a_short_one() {
    for headers in [retry_after("0"), retry_after("Sun, 06 Nov 1994 08:49:37 GMT")] {
        let budget = budget();
        refuse(&budget, &headers).await;
        assert_eq!(budget.usage().paused_for, Some(Duration::from_secs(1)), "{headers:?}");
        let begin = Instant::now();
        drop(budget.acquire(&tenant(1), None, Duration::from_secs(5)).await.unwrap());
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_it_starts_slowly() {
    let budget = Arc::new(budget());
    refuse(&budget, &retry_after("60")).await;
    let requests: Vec<_> = (0..100)
        .map(|client| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let permit = budget.acquire(&tenant(client), None, PATIENT).await.unwrap();
                budget.heed(&permit, 200, &HeaderMap::new());
            })
        })
        .collect();
    let begin = Instant::now();
    join_all(requests).await;
    // No burst: 100 as they flow.
    let flow = Duration::from_secs(60 + 30);
    assert!(begin.elapsed() >= flow - Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(begin.elapsed() <= flow + Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_refusal_is_enough() {
    for counts in BOTH {
        let mut service = Service::new(counts, LIMIT);
        service.latency = Duration::from_secs(2);
        let budget = budget();
        let begin = Instant::now();
        let answers = join_all((0..50).map(|client| {
            let (service, budget) = (&service, &budget);
            async move {
                let lane = tenant(client);
                let mut sent = 1;
                while service.send(budget, &lane, None).await == 429 {
                    sent += 1;
                }
                sent
            }
        }))
        .await;
        // Those that were under way when it was noticed, and nothing after.
        assert_eq!(service.refused(), 2, "{counts:?}");
        assert_eq!(answers.iter().sum::<usize>(), 52);
        assert!(begin.elapsed() > WINDOW && begin.elapsed() < WINDOW * 2, "{counts:?}");
    }
}
