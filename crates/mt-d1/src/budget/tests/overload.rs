//! More requests than the rate lets go.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use mt_core::{Error, ErrorKind};
use proptest::{
    collection::vec,
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use reqwest::header::HeaderMap;
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    PATIENT, WINDOW, budget,
    service::{Counts, Service},
    settle, tenant,
};
use crate::budget::{Budget, BudgetSettings, Lane};

const PATIENCE: Duration = Duration::from_secs(10);

/// What became of requests that were in line.
#[derive(Debug, Default)]
struct Tally {
    served: u32,
    timed_out: u32,
    refused: u32,
    longest: Duration,
}

impl Tally {
    fn note(&mut self, waited: Duration, patience: Duration, is_served: bool) {
        match is_served {
            true => {
                self.served += 1;
                self.longest = self.longest.max(waited);
            }
            false if waited.is_zero() => self.refused += 1,
            false => {
                assert_eq!(waited.as_millis(), patience.as_millis());
                self.timed_out += 1;
            }
        }
    }
}

fn small() -> BudgetSettings {
    BudgetSettings { requests: 40, window: Duration::from_secs(4), ..BudgetSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_takes_nothing_along() {
    let budget = Arc::new(budget());
    let held = [
        budget.acquire(&Lane::Control, None, PATIENT).await.unwrap(),
        budget.acquire(&Lane::Control, None, PATIENT).await.unwrap(),
    ];
    let begin = Instant::now();
    let patience = Duration::from_secs(1);
    let results = join_all((0..140).map(|number| {
        let budget = &budget;
        async move { budget.acquire(&tenant(number % 7), None, patience).await }
    }));
    for result in results.await {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("within 1.0 s"), "{error}");
    }
    assert_eq!(begin.elapsed(), patience);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 2));
    drop(held);
    settle().await;
    // The whole burst is still there.
    let begin = Instant::now();
    for _ in 0..140 {
        drop(budget.acquire(&tenant(1), None, PATIENT).await.unwrap());
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_somebody_who_is_gone_goes_to_the_next() {
    // Two at once, and then one in 23 seconds.
    let settings = BudgetSettings { requests: 16, ..BudgetSettings::default() };
    let budget = Budget::new(settings).unwrap();
    for _ in 0..2 {
        drop(budget.acquire(&Lane::Control, None, PATIENT).await.unwrap());
    }
    let lane = tenant(1);
    let mut leaves = Box::pin(budget.acquire(&lane, None, PATIENT));
    assert!(leaves.as_mut().now_or_never().is_none());
    sleep(Duration::from_secs(24)).await;
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 1));
    drop(leaves);
    let begin = Instant::now();
    assert_eq!(budget.forecast(1), Duration::ZERO);
    drop(budget.acquire(&lane, None, Duration::ZERO).await.unwrap());
    drop(budget.acquire(&lane, None, PATIENT).await.unwrap());
    assert!(begin.elapsed() > Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Spends the burst, so that only the flow is left.
async fn spend_burst(budget: &Budget) {
    while budget.forecast(1).is_zero() {
        let permit = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
        budget.heed(&permit, 200, &HeaderMap::new());
    }
}

/// Puts `count` patient requests of `lane` in line.
async fn fill(budget: &Arc<Budget>, lane: &Lane, count: usize) -> Vec<JoinHandle<()>> {
    let tasks = (0..count)
        .map(|_| {
            let (budget, lane) = (Arc::clone(budget), lane.clone());
            tokio::spawn(async move { drop(budget.acquire(&lane, None, PATIENT).await.unwrap()) })
        })
        .collect();
    settle().await;
    tasks
}

async fn is_refused_at_once(budget: &Budget, lane: &Lane) -> Error {
    let begin = Instant::now();
    let error = budget.acquire(lane, None, PATIENCE).await.unwrap_err();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    error
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_told_at_once() {
    let budget = Arc::new(budget());
    spend_burst(&budget).await;
    let busy = fill(&budget, &tenant(0), 50).await;
    let error = is_refused_at_once(&budget, &tenant(0)).await;
    // 51 at ten in three seconds.
    assert!(error.to_string().contains("in about 15."), "{error}");
    assert!(error.to_string().contains("50 requests in line"), "{error}");
    assert!(error.to_string().contains("wait for 10.0 s"), "{error}");
    assert_eq!(budget.usage().waiting, 50);
    for lane in [tenant(1), Lane::Control] {
        let begin = Instant::now();
        drop(budget.acquire(&lane, None, Duration::from_secs(1)).await.unwrap());
        assert!(begin.elapsed() > Duration::ZERO);
    }
    let control = fill(&budget, &Lane::Control, 25).await;
    is_refused_at_once(&budget, &Lane::Control).await;
    let begin = Instant::now();
    drop(budget.acquire(&tenant(1), None, Duration::from_secs(2)).await.unwrap());
    assert!(begin.elapsed() > Duration::from_millis(500), "{:?}", begin.elapsed());
    for task in busy.into_iter().chain(control) {
        task.await.unwrap();
    }
}

/// `clients` of four tenants send all the time, and come again a second after they were refused.
async fn overload(budget: &Budget, clients: usize, time: Duration) -> Tally {
    let tally = Mutex::new(Tally::default());
    let clients = (0..clients).map(|client| {
        let (budget, tally) = (&budget, &tally);
        async move {
            let lane = tenant(client % 4);
            loop {
                let begin = Instant::now();
                let permit = budget.acquire(&lane, Some("one"), PATIENCE).await;
                tally.lock().unwrap().note(begin.elapsed(), PATIENCE, permit.is_ok());
                match permit {
                    Ok(permit) => {
                        sleep(Duration::from_millis(80)).await;
                        budget.heed(&permit, 200, &HeaderMap::new());
                    }
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
            }
        }
    });
    assert!(timeout(time, join_all(clients)).await.is_err());
    tally.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn under_overload_as_many_are_served_as_flow() {
    for (settings, flow) in [(BudgetSettings::default(), 1_000.0 / 300.0), (small(), 34.0 / 4.0)] {
        for clients in [30, 60, 200] {
            let budget = Budget::new(settings.clone()).unwrap();
            spend_burst(&budget).await;
            let time = WINDOW;
            let tally = overload(&budget, clients, time).await;
            let case = format!("{clients} clients, {flow:.1}/s: {tally:?}");
            println!("{case}");
            let share = f64::from(tally.served) / (flow * time.as_secs_f64());
            assert!((0.85..1.01).contains(&share), "{case}: {share}");
            assert!(tally.longest <= PATIENCE, "{case}");
            assert!(tally.timed_out * 4 <= tally.served, "{case}");
            assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0), "{case}");
        }
    }
}

/// One request of a load: when it comes, for which lane, and how long it waits.
type Arrival = (u64, usize, u64);

/// Sends all of `arrivals`; tells how long each waited, and whether it was served. Those of which
/// `forced` is true are let into the line whatever is foreseen, and leave it when their time is over.
async fn run(
    arrivals: &[Arrival],
    others: Option<u32>,
    forced: impl Fn(usize) -> bool,
) -> Vec<(Duration, bool)> {
    let service = Service::new(Counts::Sliding, 0);
    let spending = others.map(|others| service.spend(WINDOW / others));
    let budget = budget();
    if others.is_some() {
        sleep(WINDOW).await;
    }
    spend_burst(&budget).await;
    let sending = arrivals.iter().enumerate().map(|(number, (at, lane, patience))| {
        let (budget, service, is_forced) = (&budget, &service, forced(number));
        async move {
            sleep(Duration::from_millis(*at)).await;
            let lane = if *lane == 0 { Lane::Control } else { tenant(*lane) };
            let (begin, patience) = (Instant::now(), Duration::from_millis(*patience));
            let permit = if is_forced {
                timeout(patience, budget.acquire(&lane, None, PATIENT)).await.ok()
            } else {
                Some(budget.acquire(&lane, None, patience).await)
            };
            let waited = begin.elapsed();
            let Some(Ok(permit)) = permit else { return (waited, false) };
            sleep(Duration::from_millis(40)).await;
            let (status, headers) = service.answer();
            budget.heed(&permit, status, &headers);
            (waited, true)
        }
    });
    let outcome = join_all(sending).await;
    if let Some(spending) = spending {
        spending.abort();
    }
    outcome
}

fn simulate<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// Draws 40 loads of up to `most` requests.
fn loads(most: usize, patience: RangeInclusive<u64>) -> impl Iterator<Item = Vec<Arrival>> {
    let mut runner = TestRunner::deterministic();
    let load = vec((0_u64..40_000, 0_usize..8, patience), 1..most);
    (0..40).map(move |_| load.new_tree(&mut runner).unwrap().current())
}

/// Those that are refused take nobody's turn, and no turn is lost for want of them.
#[test]
fn as_many_are_served_as_if_everybody_waited() {
    for patience in [10_000..=10_000, 1..=15_000] {
        let (mut tally, mut all) = (Tally::default(), 0);
        for arrivals in loads(400, patience.clone()) {
            let outcome = simulate(run(&arrivals, None, |_| false));
            for ((waited, is_served), (_, _, patience)) in outcome.into_iter().zip(&arrivals) {
                tally.note(waited, Duration::from_millis(*patience), is_served);
            }
            let outcome = simulate(run(&arrivals, None, |_| true));
            all += u32::try_from(outcome.iter().filter(|one| one.1).count()).unwrap();
        }
        println!("{patience:?}: {tally:?}, {all} if all wait");
        assert!(tally.refused > 500, "{tally:?}");
        assert!(tally.served * 100 >= all * 99, "{tally:?}, {all} if all wait");
    }
}

/// Some of those ahead may leave earlier than foreseen, or what others spend may become less: of a
/// hundred that are refused one might have been lucky.
#[test]
fn hardly_anybody_is_refused_who_would_be_served() {
    for others in [None, Some(900), Some(1_100)] {
        let (mut refused, mut lucky) = (0, 0);
        for arrivals in loads(300, 1..=15_000) {
            let outcome = simulate(run(&arrivals, others, |_| false));
            for (number, (waited, is_served)) in outcome.into_iter().enumerate() {
                if !is_served && waited.is_zero() && number % 7 == 0 {
                    refused += 1;
                    let again = simulate(run(&arrivals, others, |one| one == number));
                    lucky += u32::from(again[number].1);
                }
            }
        }
        println!("{others:?}: {lucky} of {refused}");
        assert!(refused > 100 && lucky * 100 <= refused, "{others:?}: {lucky} of {refused}");
    }
}
