//! Futures that hold something and are not polled.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream};
use mt_core::ErrorKind;
use tokio::time::{Instant, sleep};

use super::{
    PATIENT, WINDOW, budget, one_at_a_time,
    service::{BOTH, Service},
    settle, tenant,
};
use crate::budget::{Budget, BudgetSettings, Lane};

const FEW_SECONDS: Duration = Duration::from_secs(7);

/// Gives a turn to each of `stuck`, which do not take it.
async fn call<F: Future + Unpin>(budget: &Budget, stuck: &mut [F]) {
    let mut held = Vec::new();
    for _ in 0..stuck.len() {
        held.push(budget.acquire(&Lane::Control, None, PATIENT).await.unwrap());
    }
    for stuck in stuck {
        assert!(stuck.now_or_never().is_none());
    }
    drop(held);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn turns_that_nobody_takes_go_to_the_next() {
    let budget = Arc::new(budget());
    let (one, two) = (tenant(1), Lane::Control);
    let mut stuck = [
        Box::pin(budget.acquire(&one, Some("one"), PATIENT)),
        Box::pin(budget.acquire(&two, Some("one"), PATIENT)),
    ];
    call(&budget, &mut stuck).await;
    let begin = Instant::now();
    let third = budget.acquire(&tenant(3), Some("one"), PATIENT).await.unwrap();
    let fourth = budget.acquire(&tenant(4), Some("one"), PATIENT).await.unwrap();
    assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
    // What was taken back is under way no more, and is not given back a second time.
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 2));

    let [first, second] = stuck;
    drop(first);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 2));
    let mut second = Box::pin(second);
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (1, 2));
    drop(third);
    let second = second.await.unwrap();
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 2));
    drop((second, fourth));
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_else_needs_is_kept() {
    let budget = budget();
    let lane = tenant(1);
    let mut stuck = [
        Box::pin(budget.acquire(&lane, None, PATIENT)),
        Box::pin(budget.acquire(&lane, None, PATIENT)),
    ];
    call(&budget, &mut stuck).await;
    sleep(WINDOW).await;
    for stuck in stuck {
        assert!(stuck.now_or_never().unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_lost_its_turn_is_the_first_when_it_is_back() {
    for lane in [Lane::Control, tenant(1)] {
        let budget = Arc::new(one_at_a_time());
        let held = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
        let mut stuck = Box::pin(budget.acquire(&lane, None, PATIENT));
        assert!(stuck.as_mut().now_or_never().is_none());
        let others: Vec<_> = (0..50)
            .map(|number| {
                let (budget, lane) = (Arc::clone(&budget), lane.clone());
                tokio::spawn(async move {
                    let lane = if number % 2 == 0 { lane } else { tenant(number) };
                    let permit = budget.acquire(&lane, None, PATIENT).await.unwrap();
                    sleep(Duration::from_secs(1)).await;
                    drop(permit);
                })
            })
            .collect();
        settle().await;
        drop(held);
        sleep(Duration::from_millis(5_500)).await;
        let waiting = budget.usage().waiting;
        assert!((40..50).contains(&waiting), "{waiting}");
        let begin = Instant::now();
        let permit = stuck.await.unwrap();
        assert!(begin.elapsed() <= Duration::from_secs(2), "{:?}", begin.elapsed());
        drop(permit);
        join_all(others).await.into_iter().for_each(Result::unwrap);
    }
}

#[tokio::test(start_paused = true)]
async fn patience_goes_on_without_a_turn() {
    let budget = one_at_a_time();
    let held = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let lane = tenant(1);
    let mut stuck = Box::pin(budget.acquire(&lane, None, Duration::from_secs(3)));
    assert!(stuck.as_mut().now_or_never().is_none());
    drop(held);
    let next = budget.acquire(&tenant(2), None, PATIENT).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let begin = Instant::now();
    assert_eq!(stuck.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    drop(next);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_that_nobody_goes_on_with_hold_up_nobody() {
    let budget = budget();
    let held = [
        budget.acquire(&Lane::Control, None, PATIENT).await.unwrap(),
        budget.acquire(&tenant(1), None, PATIENT).await.unwrap(),
    ];
    let begin = Instant::now();
    let third = budget.acquire(&tenant(2), None, PATIENT).await.unwrap();
    assert!(begin.elapsed() <= FEW_SECONDS, "{:?}", begin.elapsed());
    assert_eq!(budget.usage().in_flight, 3);
    drop((held, third));
    assert_eq!(budget.usage().in_flight, 0);
}

/// A reader that sends for every item of a stream of requests, which are not polled meanwhile.
#[tokio::test(start_paused = true)]
async fn a_reader_of_requests_may_send_requests() {
    for counts in BOTH {
        for at_once in [2, 10, 60] {
            let service = Service::new(counts, 0);
            let budget = budget();
            let begin = Instant::now();
            let lane = tenant(1);
            let mut answers = stream::iter(0..100)
                .map(|_| service.send(&budget, &lane, Some("one")))
                .buffer_unordered(at_once);
            while let Some(status) = answers.next().await {
                assert_eq!(status, 200);
                assert_eq!(service.send(&budget, &lane, Some("other")).await, 200);
            }
            let took = begin.elapsed();
            println!("{counts:?}, {at_once} at once: {took:?}");
            assert_eq!((service.refused(), service.served()), (0, 200));
            assert!(took < Duration::from_secs(60), "{counts:?}, {at_once} at once: {took:?}");
            assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_are_stuck_the_limit_holds() {
    let settings = BudgetSettings { requests: 48, ..BudgetSettings::default() };
    let budget = Budget::new(settings).unwrap();
    let mut held = Vec::new();
    let begin = Instant::now();
    while let Ok(permit) = budget.acquire(&Lane::Control, None, WINDOW * 2).await {
        held.push(permit);
        assert!(held.len() <= 48);
    }
    assert!(begin.elapsed() > WINDOW * 2);
    // The service may count all of them now.
    drop(held);
    let early = budget.acquire(&Lane::Control, None, WINDOW - Duration::from_secs(1)).await;
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(budget.acquire(&Lane::Control, None, Duration::from_secs(2)).await.unwrap());
}
