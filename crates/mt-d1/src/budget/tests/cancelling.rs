use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use mt_core::ErrorKind;
use proptest::{collection::vec, prelude::ProptestConfig, proptest};
use reqwest::header::HeaderMap;
use tokio::{
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

use super::{PATIENT, budget, one_at_a_time, settle, tenant};
use crate::budget::{Budget, Lane};

/// Nothing is under way or in line, and the next request goes at once.
async fn is_whole(budget: &Budget) {
    settle().await;
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
    let begin = Instant::now();
    drop(budget.acquire(&Lane::Control, Some("one"), PATIENT).await.unwrap());
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_line_leaves_no_hole() {
    let budget = Arc::new(one_at_a_time());
    let held = budget.acquire(&Lane::Control, Some("one"), PATIENT).await.unwrap();
    let wait = |lane: Lane| {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move { drop(budget.acquire(&lane, Some("one"), PATIENT).await) })
    };
    let leaving = [wait(tenant(1)), wait(tenant(2)), wait(Lane::Control), wait(tenant(1))];
    let staying = [wait(tenant(1)), wait(tenant(3)), wait(Lane::Control)];
    settle().await;
    assert_eq!(budget.usage().waiting, 7);
    for request in leaving {
        request.abort();
    }
    settle().await;
    assert_eq!(budget.usage().waiting, 3);
    drop(held);
    for request in staying {
        request.await.unwrap();
    }
    is_whole(&budget).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_is_given_back() {
    let budget = one_at_a_time();
    let held = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let lane = tenant(1);
    let mut waiting = Box::pin(budget.acquire(&lane, Some("one"), PATIENT));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(held);
    // It was called, and leaves before it hears that.
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 1));
    drop(waiting);
    is_whole(&budget).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_set_aside_may_leave() {
    let settings =
        crate::BudgetSettings { database_concurrency: 1, ..crate::BudgetSettings::default() };
    let budget = Arc::new(Budget::new(settings).unwrap());
    let held = budget.acquire(&tenant(1), Some("one"), PATIENT).await.unwrap();
    let wait = || {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            drop(budget.acquire(&tenant(1), Some("one"), PATIENT).await.unwrap());
        })
    };
    let (leaving, called_back, staying) = (wait(), wait(), wait());
    settle().await;
    leaving.abort();
    settle().await;
    assert_eq!(budget.usage().waiting, 2);
    // With nothing under way but this, the freed place goes to whoever is left.
    drop(held);
    called_back.abort();
    staying.await.unwrap();
    is_whole(&budget).await;
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let budget = one_at_a_time();
    let held = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let begin = Instant::now();
    let error = budget.acquire(&tenant(1), None, Duration::from_secs(4)).await.unwrap_err();
    assert_eq!(begin.elapsed(), Duration::from_secs(4));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.tenant().unwrap().as_str(), "t1");
    let error = budget.acquire(&Lane::Control, None, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    drop(held);
    drop(budget.acquire(&Lane::Control, None, Duration::ZERO).await.unwrap());
    drop(budget.acquire(&Lane::Control, None, Duration::MAX).await.unwrap());
    is_whole(&budget).await;
}

/// Whoever is in line of a runtime that is gone, or whose clock stands still, holds up nobody.
#[test]
fn it_outlives_the_runtime_that_made_it() {
    let settings = crate::BudgetSettings {
        requests: 24,
        window: Duration::from_secs(2),
        ..crate::BudgetSettings::default()
    };
    let budget = Arc::new(Budget::new(settings).unwrap());
    let new = || Builder::new_current_thread().enable_time().build().unwrap();
    let many = |number: usize| {
        let budget = Arc::clone(&budget);
        async move {
            for _ in 0..6 {
                drop(budget.acquire(&tenant(number), None, PATIENT).await.unwrap());
            }
        }
    };
    let (gone, idle, alive) = (new(), new(), new());
    gone.block_on(async {
        for number in 0..3 {
            tokio::spawn(many(number));
        }
        sleep(Duration::from_millis(100)).await;
    });
    assert!(budget.usage().waiting > 0);
    drop(gone);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
    // It leaves the clock behind in a runtime that nobody drives.
    let left = idle.block_on(async { timeout(Duration::from_millis(10), many(8)).await });
    assert!(left.is_err());
    alive.block_on(many(9));
    drop(alive);
    let weak = Arc::downgrade(&budget.shared);
    drop((budget, idle));
    assert!(weak.upgrade().is_none());
}

/// The same where the clock stands still without a time to wake at.
#[test]
fn a_clock_that_hears_no_bell_is_replaced() {
    let settings = crate::BudgetSettings {
        requests: 100,
        window: Duration::from_secs(10),
        database_concurrency: 1,
        ..crate::BudgetSettings::default()
    };
    let budget = Budget::new(settings).unwrap();
    let new = || Builder::new_current_thread().enable_time().build().unwrap();
    let (idle, alive) = (new(), new());
    let lane = tenant(1);
    let held = idle.block_on(budget.acquire(&lane, Some("one"), PATIENT)).unwrap();
    let mut waiting = Box::pin(budget.acquire(&lane, Some("one"), PATIENT));
    idle.block_on(async {
        assert!(waiting.as_mut().now_or_never().is_none());
        // The clock looks once, and waits for news.
        sleep(Duration::from_millis(10)).await;
    });
    // More than there are at once, so that somebody has to wake.
    alive.block_on(async {
        for _ in 0..20 {
            let patience = Duration::from_secs(8);
            drop(budget.acquire(&Lane::Control, None, patience).await.unwrap());
        }
    });
    drop((waiting, held, idle));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_budget_without_requests() {
    let budget = budget();
    let weak = Arc::downgrade(&budget.shared);
    let held = budget.acquire(&tenant(1), None, PATIENT).await.unwrap();
    let other = budget.acquire(&tenant(1), None, PATIENT).await.unwrap();
    let lane = tenant(1);
    let mut waiting = Box::pin(budget.acquire(&lane, None, PATIENT));
    assert!(waiting.as_mut().now_or_never().is_none());
    settle().await;
    drop(waiting);
    drop((held, other, budget));
    settle().await;
    assert!(weak.upgrade().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whoever comes and goes whenever, or is not polled for a while: everybody who stays is served,
    /// and nothing is left.
    #[test]
    fn nobody_is_forgotten(
        requests in vec((0_usize..5, 0_usize..3, 0_u64..3_000, 0_u64..3_000, 0_u64..400), 1..120)
    ) {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let settings = crate::BudgetSettings {
                requests: 1_200,
                window: Duration::from_secs(10),
                database_concurrency: 2,
                in_flight: 4,
            };
            let budget = Arc::new(Budget::new(settings).unwrap());
            let mut staying = Vec::new();
            for (lane, database, begin, patience, runs) in requests {
                let budget = Arc::clone(&budget);
                let lane = if lane == 0 { Lane::Control } else { tenant(lane) };
                let database = ["a", "b"].get(database).copied();
                let stays = patience % 2 == 0;
                let stuck = patience % 3 == 0;
                let task = tokio::spawn(async move {
                    sleep(Duration::from_millis(begin)).await;
                    let mut turn = Box::pin(budget.acquire(&lane, database, PATIENT));
                    let permit = match turn.as_mut().now_or_never() {
                        Some(permit) => permit,
                        None => {
                            sleep(Duration::from_millis(if stuck { patience } else { 0 })).await;
                            turn.await
                        }
                    };
                    let permit = permit.unwrap();
                    sleep(Duration::from_millis(runs)).await;
                    budget.heed(&permit, 200, &HeaderMap::new());
                });
                if stays {
                    staying.push(task);
                } else {
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(begin + patience / 4)).await;
                        task.abort();
                    });
                }
            }
            for task in staying {
                task.await.unwrap();
            }
            sleep(Duration::from_secs(60)).await;
            is_whole(&budget).await;
        });
    }
}
