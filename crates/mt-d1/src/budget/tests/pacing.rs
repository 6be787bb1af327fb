use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use proptest::{collection::vec, prelude::ProptestConfig, proptest};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep, timeout};

use super::{
    PATIENT, WINDOW, budget, one_at_a_time,
    service::{BOTH, Counts, LIMIT, Service},
    settle, tenant,
};
use crate::budget::{Budget, BudgetSettings, Lane};

/// Sends with `clients` all the time, for `time`; answers how many were served.
async fn busy(service: &Service, budget: &Arc<Budget>, clients: usize, time: Duration) -> usize {
    let before = service.served();
    let clients = (0..clients).map(|client| async move {
        let lane = tenant(client);
        loop {
            service.send(budget, &lane, None).await;
        }
    });
    assert!(timeout(time, join_all(clients)).await.is_err());
    service.served() - before
}

#[tokio::test(start_paused = true)]
async fn alone_it_is_near_the_limit_and_never_over_it() {
    for counts in BOTH {
        for (tells, tells_reset) in [(true, false), (true, true), (false, false)] {
            for latency in [20, 1_000, 5_000, 15_000, 20_000, 30_000] {
                let mut service = Service::new(counts, 0);
                service.tells = tells;
                service.tells_reset = tells_reset && counts == Counts::Fixed;
                service.latency = Duration::from_millis(latency);
                let windows = 4;
                let served = busy(&service, &Arc::new(budget()), 100, WINDOW * windows).await;
                let case = format!("{counts:?}, {tells}, {tells_reset}, {latency} ms");
                assert_eq!(service.refused(), 0, "{case}");
                assert!(service.most() <= LIMIT, "{case}: {}", service.most());
                // 1,000 flow in during a window. Where answers take long, it takes long to learn that
                // there is plenty, and what is under way counts as spent until it is over.
                let flow = usize::try_from(windows).unwrap() * 1_000;
                println!("{case}: {served} of {flow}, at most {} in a window", service.most());
                let least = if latency > 15_000 { 75 } else { 85 };
                assert!(served * 100 >= flow * least, "{case}: {served} of {flow}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nearly_spent_it_makes_do_until_the_window_ends() {
    for counts in BOTH {
        for tells_reset in [false, true] {
            for gone in [0, 100, 299] {
                let mut service = Service::new(counts, LIMIT - 10);
                service.tells_reset = tells_reset && counts == Counts::Fixed;
                sleep(Duration::from_secs(gone)).await;
                let budget = budget();
                let begin = Instant::now();
                let clients = (0..50).map(|client| {
                    let (service, budget) = (&service, &budget);
                    async move {
                        for _ in 0..2 {
                            assert_eq!(service.send(budget, &tenant(client), None).await, 200);
                        }
                    }
                });
                join_all(clients).await;
                let took = begin.elapsed();
                let case = format!("{counts:?}, {tells_reset}, {gone}: {took:?}");
                assert_eq!(service.refused(), 0, "{case}");
                assert!(took < WINDOW + Duration::from_secs(300 - gone), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_others_no_window_is_overrun() {
    for counts in BOTH {
        for tells_reset in [false, true] {
            for others in [500, 800, 1_000, 1_100] {
                let mut service = Service::new(counts, 0);
                service.tells_reset = tells_reset && counts == Counts::Fixed;
                let spending = service.spend(WINDOW / others);
                let budget = Arc::new(budget());
                sleep(Duration::from_secs(70)).await;
                let windows = 6;
                let before = service.served();
                busy(&service, &budget, 60, WINDOW * windows).await;
                spending.abort();
                let case = format!("{counts:?}, {tells_reset}, {others}");
                assert_eq!(service.refused(), 0, "{case}");
                let ours = service.served() - before - usize::try_from(others * windows).unwrap();
                let free = (LIMIT - usize::try_from(others).unwrap()) * 6;
                println!("{case}: {ours} of {free}");
                assert!(ours * 2 > free, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_that_begin_and_stop_are_noticed() {
    for counts in BOTH {
        let service = Service::new(counts, 0);
        let budget = Arc::new(budget());
        busy(&service, &budget, 60, WINDOW * 2).await;
        let spending = service.spend(WINDOW / 700);
        busy(&service, &budget, 60, WINDOW * 2).await;
        spending.abort();
        busy(&service, &budget, 60, WINDOW).await;
        let served = busy(&service, &budget, 60, WINDOW * 2).await;
        assert_eq!(service.refused(), 0, "{counts:?}");
        assert!(served >= 1_700, "{counts:?}: {served}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rest_it_looks_before_it_leaps() {
    for counts in BOTH {
        let service = Service::new(counts, 0);
        let budget = budget();
        service.send(&budget, &Lane::Control, None).await;
        sleep(Duration::from_secs(60)).await;
        for _ in 0..LIMIT - 20 {
            service.answer();
        }
        join_all((0..150).map(|client| {
            let (service, budget) = (&service, &budget);
            async move { service.send(budget, &tenant(client), None).await }
        }))
        .await;
        assert_eq!(service.refused(), 0, "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_answer_two_are_under_way() {
    let budget = Arc::new(budget());
    let clients: Vec<_> = (0..20)
        .map(|client| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.acquire(&tenant(client), None, PATIENT).await })
        })
        .collect();
    settle().await;
    assert_eq!((budget.usage().in_flight, budget.usage().waiting), (2, 18));
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_at_once_where_there_is_plenty() {
    for counts in BOTH {
        let service = Service::new(counts, 0);
        let budget = budget();
        let begin = Instant::now();
        join_all((0..150).map(|client| {
            let (service, budget) = (&service, &budget);
            async move { service.send(budget, &tenant(client), None).await }
        }))
        .await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert_eq!(budget.usage().remaining, Some(1_050));
    }
}

#[tokio::test(start_paused = true)]
async fn old_news_is_no_news() {
    let budget = budget();
    let left = |left: u32| {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining", HeaderValue::from(left));
        headers
    };
    let first = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let second = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    budget.heed(&second, 200, &left(700));
    budget.heed(&first, 200, &left(900));
    assert_eq!(budget.usage().remaining, Some(700));
    drop((first, second));
    let third = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    assert_eq!(budget.usage().remaining, Some(699));
    budget.heed(&third, 200, &left(650));
    assert_eq!(budget.usage().remaining, Some(650));
}

#[tokio::test(start_paused = true)]
async fn what_is_set_holds_where_the_service_lets_more_go() {
    for counts in BOTH {
        for tells_reset in [false, true] {
            let mut service = Service::new(counts, 0);
            service.tells_reset = tells_reset && counts == Counts::Fixed;
            let settings = BudgetSettings { requests: 300, ..BudgetSettings::default() };
            let budget = Arc::new(Budget::new(settings).unwrap());
            let served = busy(&service, &budget, 60, WINDOW * 4).await;
            assert!(service.most() <= 300, "{counts:?}, {tells_reset}: {}", service.most());
            assert!(served >= 1_000, "{counts:?}, {tells_reset}: {served}");
            assert_eq!((service.refused(), budget.usage().limit), (0, 300));
            assert!(budget.usage().remaining > Some(850), "{:?}", budget.usage());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_of_the_service_holds() {
    for budget in [one_at_a_time(), budget()] {
        the_service_knows_its_limit_better(&budget).await;
    }
}

async fn the_service_knows_its_limit_better(budget: &Budget) {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit-policy", HeaderValue::from_static("\"default\";q=240;w=60"));
    let permit = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    budget.heed(&permit, 200, &headers);
    drop(permit);
    assert_eq!(budget.usage().limit, 240);
    let begin = Instant::now();
    for _ in 0..1_000 {
        drop(budget.acquire(&Lane::Control, None, PATIENT).await.unwrap());
    }
    // 30 at once, and 200 in each minute.
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    assert!((4.8..4.9).contains(&minutes), "{minutes}");
}

#[tokio::test(start_paused = true)]
async fn a_forecast_comes_true() {
    for spent in [0, LIMIT - 100] {
        let service = Service::new(Counts::Fixed, spent);
        let budget = budget();
        for _ in 0..2 {
            service.send(&budget, &Lane::Control, None).await;
        }
        assert_eq!(budget.forecast(0), Duration::ZERO);
        let forecast = budget.forecast(1_148);
        let begin = Instant::now();
        join_all((0..1_148).map(|client| {
            let (service, budget) = (&service, &budget);
            async move { service.send(budget, &tenant(client), None).await }
        }))
        .await;
        let ratio = begin.elapsed().as_secs_f64() / forecast.as_secs_f64();
        println!("{spent}: {forecast:?}, took {:?}", begin.elapsed());
        assert!((0.8..1.1).contains(&ratio), "{spent}: {forecast:?}, took {:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_takes_no_time_even_where_nothing_is_left() {
    let service = Service::new(Counts::Fixed, LIMIT - 1);
    let budget = budget();
    service.send(&budget, &Lane::Control, None).await;
    assert_eq!(budget.usage().remaining, Some(0));
    assert_eq!(budget.forecast(0), Duration::ZERO);
    assert!(budget.forecast(1) > Duration::ZERO);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whoever comes whenever, with whatever spent before: no refusal.
    #[test]
    fn no_arrival_overruns_the_limit(
        sliding: bool,
        spent in 0..LIMIT,
        latency in 1_u64..5_000,
        others in 100_u32..700,
        arrivals in vec((0_u64..600, 1_usize..120), 1..12),
    ) {
        let counts = if sliding { Counts::Sliding } else { Counts::Fixed };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let mut service = Service::new(counts, spent.min(LIMIT - 10));
            service.latency = Duration::from_millis(latency);
            let budget = budget();
            // Others spend nothing in the first window, which may be spent already.
            let spending = async {
                sleep(WINDOW * 2).await;
                service.spend(WINDOW / others).await.unwrap();
            };
            let sending = join_all(arrivals.iter().map(|(at, clients)| {
                let (service, budget) = (&service, &budget);
                async move {
                    sleep(Duration::from_secs(*at)).await;
                    let clients = (0..*clients).map(|client| async move {
                        service.send(budget, &tenant(client), None).await
                    });
                    join_all(clients).await;
                }
            }));
            tokio::select! {
                _ = sending => {}
                () = spending => {}
            }
            assert_eq!(service.refused(), 0);
        });
    }
}
