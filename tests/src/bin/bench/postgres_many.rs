//! A thousand databases on a server that takes a hundred connections: theirs connects for each
//! request, for a map of pools ends at the server's limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mt_core::{CacheSettings, CachedFactory, DatabaseFactory, TenantId};
use mt_devservers::Postgres;
use mt_entity::setting;
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _,
    entity::prelude::DateTimeUtc,
};
use serde_json::json;

use crate::{
    figure::{Figure, rounded},
    postgres::{connect, factory, tenants},
};

const TENANTS: usize = 1_000;
const TASKS: usize = 64;
/// So many tenants get four of five requests, the others share the fifth.
const BUSY: usize = 9;

/// What is asked: whose database it is, by a row that only its own has.
async fn ask<C: ConnectionTrait>(connection: &C, tenant: &TenantId) -> Result<()> {
    let found = setting::Entity::find_by_id("whose").one(connection).await?;
    let found = found.context("the row is not there")?;
    ensure!(found.value == tenant.as_str(), "{tenant} was answered with {}'s row", found.value);
    Ok(())
}

/// The tenant of the request with this number: every one of them within the first 5,000.
fn whose(number: usize) -> usize {
    if number.is_multiple_of(5) { number / 5 % TENANTS } else { number % BUSY }
}

/// Runs requests by so many tasks at once; how long it took, and how many failed.
async fn run<F>(
    requests: usize,
    request: impl Fn(usize) -> F + Sync,
) -> (Duration, usize, Option<String>)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let work = async || {
        let (mut failed, mut why) = (0, None);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return (failed, why);
            }
            let done = tokio::spawn(request(number)).await;
            if let Err(error) = done.map_err(anyhow::Error::from).flatten() {
                failed += 1;
                why.get_or_insert(format!("{error:#}"));
            }
        }
    };
    let all = stream::iter(0..TASKS).map(|_task| work()).buffer_unordered(TASKS);
    let outcomes: Vec<_> = all.collect().await;
    let failed = outcomes.iter().map(|(failed, _)| failed).sum();
    (began.elapsed(), failed, outcomes.into_iter().find_map(|(_, why)| why))
}

pub(crate) async fn serve() -> Result<Figure> {
    const ROUNDS: usize = 2;
    const THEIRS: usize = 1_500;
    const OURS: usize = 10_000;
    let server = Postgres::builder().setting("max_connections", "100").start().await?;
    let server = Arc::new(server);
    let cache = CacheSettings::default().with_max(TENANTS);
    let inner: Arc<dyn DatabaseFactory> = Arc::new(factory(&server)?.build()?);
    let cached = CachedFactory::new(inner, cache)?;
    let all = Arc::new(tenants("t", TENANTS)?);
    let began = Instant::now();
    let made = stream::iter(&*all).map(|tenant| {
        let cached = &cached;
        async move {
            cached.provision(tenant).await?;
            let row = setting::Model {
                key: "whose".to_owned(),
                value: tenant.to_string(),
                updated_at: DateTimeUtc::UNIX_EPOCH,
            };
            row.into_active_model().insert(&cached.get_adapters(tenant).await?).await?;
            anyhow::Ok(())
        }
    });
    made.buffer_unordered(4).try_collect::<()>().await?;
    let making = began.elapsed();

    let ours = |number: usize| {
        let (cached, all) = (cached.clone(), Arc::clone(&all));
        async move {
            let tenant = &all[whose(number)];
            ask(&cached.get_adapters(tenant).await?, tenant).await
        }
    };
    let theirs = |number: usize| {
        let (server, all) = (Arc::clone(&server), Arc::clone(&all));
        async move {
            let tenant = &all[whose(number)];
            let connection = connect(&server, &format!("tenant_{tenant}")).await?;
            let asked = ask(&connection, tenant).await;
            connection.close().await?;
            asked
        }
    };
    let (mut their_time, mut our_time) = (Duration::ZERO, Duration::ZERO);
    let mut errors = [0; 2];
    let mut why = None;
    for _ in 0..ROUNDS {
        let (time, failed, said) = run(THEIRS, theirs).await;
        their_time += time;
        errors[0] += failed;
        let their_said = said;
        let (time, failed, said) = run(OURS, ours).await;
        our_time += time;
        errors[1] += failed;
        why = why.or(said).or(their_said);
    }
    ensure!(errors[1] == 0, "{} of our requests failed: {}", errors[1], why.unwrap_or_default());
    let rate = |requests: usize, time: Duration| (ROUNDS * requests) as f64 / time.as_secs_f64();
    let (theirs, ours) = (rate(THEIRS, their_time), rate(OURS, our_time));
    let conditions = json!({
        "tenants": TENANTS,
        "tasks": TASKS,
        "requests": { "theirs": ROUNDS * THEIRS, "ours": ROUNDS * OURS },
        "traffic": format!("four of five requests to {BUSY} tenants, the fifth to all in turn"),
        "server": "max_connections 100, on loopback by TCP, without fsync",
        "theirs": "SeaORM connect, one select, close",
        "ours": "one select on the tenant's handle, one budget over all tenants",
        "theirs_per_second": rounded(theirs),
        "ours_per_second": rounded(ours),
        "errors": { "theirs": errors[0], "ours": errors[1] },
        "foreign_rows": 0,
        "made_in_seconds": rounded(making.as_secs_f64()),
    });
    Ok(Figure { value: ours / theirs, conditions })
}
