use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use reqwest::header::HeaderMap;

use super::{PATIENT, settle, tenant};
use crate::budget::{Budget, BudgetSettings, Lane};

/// 10,000 tenants in line: what one grant costs does not grow with them.
#[tokio::test(start_paused = true)]
async fn ten_thousand_in_line_are_served_fast() {
    const MANY: usize = 10_000;
    let settings = BudgetSettings { requests: 1_000_000, ..BudgetSettings::default() };
    let budget = Arc::new(Budget::new(settings).unwrap());
    let held = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let other = budget.acquire(&Lane::Control, None, PATIENT).await.unwrap();
    let clock = Clock::now();
    let requests: Vec<_> = (0..MANY)
        .map(|number| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let lane = tenant(number);
                let permit = budget.acquire(&lane, Some("one of a thousand"), PATIENT).await;
                budget.heed(&permit.unwrap(), 200, &HeaderMap::new());
            })
        })
        .collect();
    while budget.usage().waiting < u32::try_from(MANY).unwrap() {
        settle().await;
    }
    drop((held, other));
    for request in requests {
        request.await.unwrap();
    }
    let took = clock.elapsed();
    println!("{took:?}");
    // A walk over all of them for each would be fifty million steps and many times this.
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!((budget.usage().waiting, budget.usage().in_flight), (0, 0));
}
