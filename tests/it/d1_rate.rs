//! Many tenants, and a token that has hardly a request left.
//!
//! The service's limit is 1,200 requests in 5 minutes; here a window lasts 10 seconds. Nothing is
//! decided by the clock: what counts is who was asked how often, and whether anybody was refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mt_control::{MigrateAll, MultiTenancy};
use mt_core::TenantId;
use mt_d1::D1FactoryBuilder;
use mt_devservers::{
    D1,
    d1::{RateLimit, RateStyle},
};
use mt_entity::user;
use mt_migration::{Migrator, Runner};
use sea_orm::EntityTrait as _;
use sea_orm_migration::MigratorTrait as _;

use crate::{
    d1_support::{Account, ids, migrate, provision, ran},
    support::tenant,
};

const REQUESTS: u32 = 1_200;
const WINDOW: Duration = Duration::from_secs(10);
/// What is left of the window when the work begins.
const LEFT: u32 = 20;
const TENANTS: usize = 50;

fn limited(factory: D1FactoryBuilder) -> D1FactoryBuilder {
    factory
        .with_requests_per_window(REQUESTS)
        .with_window(WINDOW)
        // Longer than the window: who has to wait for the next one is not turned away.
        .with_queue_timeout(6 * WINDOW)
}

/// An account under the limit, with the headers of `style`.
async fn account(style: RateStyle) -> Account {
    let limit = RateLimit::new(REQUESTS, WINDOW).style(style);
    Account::start_with(D1::builder().rate_limit(limit)).await
}

async fn open(account: &Account, schema: Runner) -> MultiTenancy {
    account.open_with(schema, limited, |isolation| isolation).await
}

/// Begins a window of which only [`LEFT`] requests are left.
fn spend_nearly_all(account: &Account) {
    let rate = account.server.rate();
    rate.reset();
    rate.spend(REQUESTS - LEFT);
    assert_eq!(rate.remaining(), Some(LEFT));
}

/// Tenants without any of the schema, made by a process that is gone.
async fn fleet(account: &Account) -> Vec<TenantId> {
    let ids = ids("t", TENANTS);
    let empty = Runner::new("seaql_migrations", Vec::new()).unwrap();
    let tenants = open(account, empty).await;
    provision(&tenants, &ids).await;
    tenants.shutdown().await.unwrap();
    ids
}

/// Each was migrated, in at most 1.3 times the two requests that it takes, and the service refused
/// nobody.
fn assert_few_requests(account: &Account, ids: &[TenantId], before: u64) {
    let all: u64 = ids.iter().map(|id| account.asked(id)).sum();
    let asked = all - before;
    assert!(asked >= 2 * TENANTS as u64, "{asked} requests were counted");
    assert!(10 * asked <= 13 * 2 * TENANTS as u64, "{asked} requests for {TENANTS} tenants");
    assert_eq!(account.server.rate().refused(), 0);
}

async fn migrate_with_headers(style: RateStyle) {
    let account = account(style).await;
    let ids = fleet(&account).await;
    let schema = Runner::of::<Migrator>().unwrap();
    let tenants = open(&account, schema).await;
    let before = ids.iter().map(|id| account.asked(id)).sum();
    spend_nearly_all(&account);
    let told = tenants.forecast_migrate_all(&MigrateAll::default()).await.unwrap();
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(told.forecast.requests, 2 * TENANTS as u64, "what is told beforehand");
    let report = migrate(&tenants).await;
    let expected = Migrator::migrations().len();
    assert!(ran(&report).iter().all(|(_, ran)| ran.len() == expected));
    assert_eq!(report.migrated().count(), TENANTS);
    assert_few_requests(&account, &ids, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tenants_migrate_and_the_service_refuses_nothing() {
    migrate_with_headers(RateStyle::Legacy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_headers_are_kept_to_as_well() {
    migrate_with_headers(RateStyle::Ietf).await;
}

/// Where the answers say nothing of the rate, nobody can know what others have spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_nobody_could_foresee_is_waited_out() {
    let account = account(RateStyle::Silent).await;
    let ids = fleet(&account).await;
    let tenants = open(&account, Runner::of::<Migrator>().unwrap()).await;
    let before: u64 = ids.iter().map(|id| account.asked(id)).sum();
    spend_nearly_all(&account);
    let report = migrate(&tenants).await;
    assert_eq!(report.migrated().count(), TENANTS);
    // Those that were under way when the first was refused; nothing was sent after it.
    let refused = account.server.rate().refused();
    assert!((1..=50).contains(&refused), "{refused} were refused");
    let asked = ids.iter().map(|id| account.asked(id)).sum::<u64>() - before;
    assert_eq!(asked, 2 * TENANTS as u64 + refused, "each that was refused came once again");
}

/// What a tenant who reads all the time has got.
#[derive(Default)]
struct Reads {
    done: AtomicU64,
    /// Those that were answered while the first window's requests were spent.
    early: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tenants_and_readers_get_their_turns_while_a_fleet_migrates() {
    let account = Arc::new(account(RateStyle::Legacy).await);
    let ids = fleet(&account).await;
    let readers = ["busy", "calm"].map(tenant);
    let schema = Runner::of::<Migrator>().unwrap();
    let tenants = open(&account, schema).await;
    for id in &readers {
        tenants.provision(id).await.unwrap();
        // What a first read costs more is spent.
        read(&tenants, id).await;
    }
    let (before, begun) =
        (ids.iter().map(|id| account.asked(id)).sum(), account.server.requests().total());
    spend_nearly_all(&account);

    let is_over = Arc::new(AtomicBool::new(false));
    let counts: [Arc<Reads>; 2] = Default::default();
    // The busy one asks four times at once, the calm one once.
    let reading = [0, 0, 0, 0, 1].map(|who: usize| {
        let (tenants, id) = (tenants.clone(), readers[who].clone());
        let (account, reads, is_over) =
            (Arc::clone(&account), Arc::clone(&counts[who]), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                read(&tenants, &id).await;
                reads.done.fetch_add(1, Ordering::SeqCst);
                if account.server.requests().total() - begun <= u64::from(LEFT) {
                    reads.early.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    });
    let newcomers = self::ids("new", 5);
    let options = MigrateAll::default().with_skip(readers.to_vec());
    let (report, ()) = tokio::join!(tenants.migrate_all(options), provision(&tenants, &newcomers));
    is_over.store(true, Ordering::SeqCst);
    for reader in reading {
        reader.await.unwrap();
    }

    let report = report.unwrap();
    assert_eq!(report.failed().count(), 0, "{:?}", report.failed().next());
    assert_eq!(report.migrated().count(), TENANTS);
    assert_few_requests(&account, &ids, before);
    for id in &newcomers {
        read(&tenants, id).await;
    }
    // Whoever asks less than another is not served less for it, also where there is next to nothing.
    for reads in &counts {
        let (early, done) = (reads.early.load(Ordering::SeqCst), reads.done.load(Ordering::SeqCst));
        assert!(early >= 1 && done >= 5, "{early} of {done} reads came early");
    }
}

async fn read(tenants: &MultiTenancy, id: &TenantId) {
    let data = tenants.get_adapters(id).await.unwrap();
    assert_eq!(user::Entity::find().all(&data).await.unwrap(), []);
}
