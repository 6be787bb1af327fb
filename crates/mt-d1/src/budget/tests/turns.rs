use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::{PATIENT, budget, one_at_a_time, settle, tenant};
use crate::budget::{Budget, Lane};

type Order = Arc<Mutex<Vec<String>>>;

/// One request, which notes its name when it goes and is over at once.
fn request(
    budget: &Arc<Budget>,
    order: &Order,
    lane: Lane,
    database: Option<&'static str>,
    name: impl Into<String>,
) -> JoinHandle<()> {
    let (budget, order, name) = (Arc::clone(budget), Arc::clone(order), name.into());
    tokio::spawn(async move {
        let _permit = budget.acquire(&lane, database, PATIENT).await.unwrap();
        order.lock().unwrap().push(name);
    })
}

#[tokio::test(start_paused = true)]
async fn a_busy_tenant_delays_another_by_one_turn() {
    let (budget, order) = (Arc::new(one_at_a_time()), Order::default());
    let first = budget.acquire(&tenant(0), None, PATIENT).await.unwrap();
    let mut requests: Vec<_> =
        (0..1_000).map(|_| request(&budget, &order, tenant(0), None, "busy")).collect();
    settle().await;
    requests.push(request(&budget, &order, tenant(1), None, "single"));
    settle().await;
    drop(first);
    for request in requests {
        request.await.unwrap();
    }
    let place = order.lock().unwrap().iter().position(|name| name == "single").unwrap();
    assert!(place <= 1, "{place}");
}

#[tokio::test(start_paused = true)]
async fn in_a_lane_the_first_goes_first() {
    for lane in [Lane::Control, tenant(1)] {
        let (budget, order) = (Arc::new(one_at_a_time()), Order::default());
        let first = budget.acquire(&lane, None, PATIENT).await.unwrap();
        let mut requests = Vec::new();
        for number in 0..100 {
            requests.push(request(&budget, &order, lane.clone(), None, number.to_string()));
            settle().await;
        }
        drop(first);
        for request in requests {
            request.await.unwrap();
        }
        let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(*order.lock().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_takes_every_other_turn() {
    let (budget, order) = (Arc::new(one_at_a_time()), Order::default());
    let first = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let mut requests = Vec::new();
    for number in 0..500 {
        requests.push(request(&budget, &order, Lane::Control, None, "control"));
        if number < 200 {
            requests.push(request(&budget, &order, tenant(number), None, "tenant"));
        }
    }
    settle().await;
    drop(first);
    for request in requests {
        request.await.unwrap();
    }
    let order = order.lock().unwrap();
    for pair in order[..400].chunks(2) {
        assert_ne!(pair[0], pair[1]);
    }
    assert!(order[400..].iter().all(|name| name == "control"));
}

#[tokio::test(start_paused = true)]
async fn a_full_database_holds_nobody_up() {
    let (budget, order) = (Arc::new(budget()), Order::default());
    // The first answers let more than two be under way.
    for _ in 0..20 {
        let permit = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
        let other = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
        budget.heed(&permit, 200, &reqwest::header::HeaderMap::new());
        drop((permit, other));
    }
    let first = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    for _ in 0..20 {
        budget.heed(&first, 200, &reqwest::header::HeaderMap::new());
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(budget.acquire(&tenant(0), Some("full"), PATIENT).await.unwrap());
    }
    // Before them in both kinds of lanes.
    let mut waiting = vec![
        request(&budget, &order, tenant(0), Some("full"), "full 1"),
        request(&budget, &order, Lane::Control, Some("full"), "full 2"),
    ];
    settle().await;
    let passing = [
        request(&budget, &order, tenant(0), Some("other"), "other"),
        request(&budget, &order, Lane::Control, Some("another"), "another"),
        request(&budget, &order, Lane::Control, None, "no database"),
        request(&budget, &order, tenant(1), None, "no database either"),
    ];
    for request in passing {
        request.await.unwrap();
    }
    assert_eq!(budget.usage().waiting, 2);
    // One that was called back and leaves lets the next have its place.
    waiting.remove(0).abort();
    settle().await;
    held.pop();
    waiting.remove(0).await.unwrap();
    assert_eq!(order.lock().unwrap().last().unwrap(), "full 2");
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 6));
}

#[tokio::test(start_paused = true)]
async fn a_database_never_has_more_than_its_share() {
    let budget = Arc::new(budget());
    let running = Arc::new(Mutex::new((0, 0)));
    let requests: Vec<_> = (0..300)
        .map(|number| {
            let (budget, running) = (Arc::clone(&budget), Arc::clone(&running));
            tokio::spawn(async move {
                let lane = if number % 3 == 0 { Lane::Control } else { tenant(number % 10) };
                let permit = budget.acquire(&lane, Some("one"), PATIENT).await.unwrap();
                {
                    let mut running = running.lock().unwrap();
                    running.0 += 1;
                    running.1 = running.1.max(running.0);
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
                budget.heed(&permit, 200, &reqwest::header::HeaderMap::new());
                running.lock().unwrap().0 -= 1;
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!(running.lock().unwrap().1, 6);
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
}
