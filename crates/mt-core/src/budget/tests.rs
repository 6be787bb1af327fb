use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::{task::JoinHandle, time::sleep};

use super::*;

/// Connections to nothing, counted.
#[derive(Clone, Debug, Default)]
struct Server(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicUsize,
    is_down: AtomicBool,
    is_slow: AtomicBool,
}

impl Server {
    fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Connect for Server {
    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn connect(&self) -> Result<DatabaseConnection> {
        if self.0.is_slow.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(1)).await;
        }
        if self.0.is_down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(DatabaseConnection::default())
    }
}

fn budget(max: usize) -> ConnectionBudget {
    ConnectionBudget::new(BudgetSettings::default().with_max_connections(max)).unwrap()
}

fn taken(budget: &ConnectionBudget) -> (usize, usize, usize) {
    let usage = budget.usage();
    (usage.open, usage.idle, usage.waiting)
}

/// Lets everything that is under way come to rest.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// A connection on which nothing runs any more when it is given back.
async fn take(pool: &ConnectionPool) -> Result<Lease> {
    pool.lease().await.inspect(|lease| lease.set_quiet(true))
}

fn wait(pool: &ConnectionPool) -> JoinHandle<Result<Lease>> {
    let pool = pool.clone();
    tokio::spawn(async move { take(&pool).await })
}

#[test]
fn a_budget_of_nothing_is_none() {
    let refused = ConnectionBudget::new(BudgetSettings::default().with_max_connections(0));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again() {
    let (budget, server) = (budget(2), Server::default());
    let pool = budget.pool(server.clone(), 2);
    for _ in 0..3 {
        drop(take(&pool).await.unwrap());
    }
    assert_eq!((server.opened(), taken(&budget)), (1, (1, 1, 0)));
    let (_one, _two) = (take(&pool).await.unwrap(), take(&pool).await.unwrap());
    assert_eq!((server.opened(), taken(&budget)), (2, (2, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_coldest_idle_connection_makes_room() {
    let budget = budget(2);
    let [a, b, c] = [0; 3].map(|_| Server::default());
    let [cold, warm, new] = [&a, &b, &c].map(|server| budget.pool(server.clone(), 2));
    for pool in [&cold, &warm, &cold, &warm] {
        drop(take(pool).await.unwrap());
    }
    drop(take(&new).await.unwrap());
    assert_eq!(taken(&budget), (2, 2, 0));
    drop(take(&warm).await.unwrap());
    assert_eq!((b.opened(), c.opened()), (1, 1), "what is warm stayed");
    drop(take(&cold).await.unwrap());
    assert_eq!((a.opened(), c.opened()), (2, 1), "what is cold went");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order() {
    let (budget, server) = (budget(1), Server::default());
    let [a, b] = [0; 2].map(|_| budget.pool(server.clone(), 2));
    let first = take(&a).await.unwrap();
    let others = wait(&b);
    settle().await;
    let own = wait(&a);
    settle().await;
    assert_eq!(taken(&budget), (1, 0, 2));
    drop(first);
    let second = others.await.unwrap().unwrap();
    assert!(!own.is_finished(), "it came later, though the connection was its pool's");
    drop(second);
    drop(own.await.unwrap().unwrap());
    assert_eq!(taken(&budget), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_own_pools_gets_that_connection() {
    let (budget, server) = (budget(1), Server::default());
    let pool = budget.pool(server.clone(), 2);
    let first = take(&pool).await.unwrap();
    let second = wait(&pool);
    settle().await;
    drop(first);
    drop(second.await.unwrap().unwrap());
    assert_eq!(server.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_pool_has_no_more_than_its_own_limit() {
    let (budget, server) = (budget(10), Server::default());
    let pool = budget.pool(server.clone(), 2);
    let held = [take(&pool).await.unwrap(), take(&pool).await.unwrap()];
    let error = take(&pool).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = error.to_string();
    assert!(told.contains("5s") && told.contains("at most 2"), "{told}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_with_who_gives_up() {
    let (budget, server) = (budget(1), Server::default());
    let [a, b] = [0; 2].map(|_| budget.pool(server.clone(), 2));
    // In the line.
    let held = take(&a).await.unwrap();
    let waiting = wait(&b);
    settle().await;
    waiting.abort();
    settle().await;
    drop(held);
    assert_eq!(taken(&budget), (1, 1, 0));
    // Handed a place, and gone before taking it.
    let held = take(&a).await.unwrap();
    let waiting = wait(&b);
    settle().await;
    drop(held);
    waiting.abort();
    settle().await;
    drop(take(&b).await.unwrap());
    // While it connects, having closed somebody else's.
    server.0.is_slow.store(true, Ordering::SeqCst);
    let connecting = wait(&a);
    settle().await;
    assert_eq!(taken(&budget), (1, 0, 0));
    connecting.abort();
    settle().await;
    assert_eq!(taken(&budget), (0, 0, 0));
    // And with a server that refuses.
    server.0.is_down.store(true, Ordering::SeqCst);
    assert_eq!(take(&b).await.unwrap_err().to_string(), "down");
    assert_eq!(taken(&budget), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_lets_go_of_everything() {
    let (budget, server) = (budget(2), Server::default());
    let [a, b] = [0; 2].map(|_| budget.pool(server.clone(), 2));
    let [used, idle] = [take(&a).await.unwrap(), take(&a).await.unwrap()];
    drop(idle);
    let held = take(&b).await.unwrap();
    let waiting = wait(&a);
    settle().await;
    let closing = tokio::spawn({
        let a = a.clone();
        async move { a.close().await }
    });
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotActive);
    settle().await;
    assert!(!closing.is_finished(), "one is in use");
    drop(used);
    closing.await.unwrap();
    assert_eq!(taken(&budget), (1, 0, 0));
    assert_eq!(take(&a).await.unwrap_err().kind(), ErrorKind::TenantNotActive);
    drop((held, b));
    settle().await;
    assert_eq!(taken(&budget), (0, 0, 0), "a pool that is gone has nothing either");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_is_closed_and_what_is_old_replaced() {
    let settings = BudgetSettings::default()
        .with_max_connections(3)
        .with_idle_timeout(Duration::from_secs(60))
        .with_max_lifetime(Duration::from_secs(90));
    let (budget, server) = (ConnectionBudget::new(settings).unwrap(), Server::default());
    let pool = budget.pool(server.clone(), 3);
    for _ in 0..2 {
        let [one, two] = [take(&pool).await.unwrap(), take(&pool).await.unwrap()];
        drop(one);
        sleep(Duration::from_secs(30)).await;
        drop(two);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(taken(&budget), (1, 1, 0));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(taken(&budget), (0, 0, 0));
    }
    let long = take(&pool).await.unwrap();
    sleep(Duration::from_secs(91)).await;
    drop(long);
    settle().await;
    assert_eq!(taken(&budget), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_it_goes_there_are_never_too_many() {
    let (budget, server) = (budget(3), Server::default());
    let in_use = Arc::new(AtomicUsize::new(0));
    let pools: Vec<_> = (0..8).map(|_| budget.pool(server.clone(), 2)).collect();
    let tasks = (0..64_u64).map(|task| {
        let (budget, in_use) = (budget.clone(), Arc::clone(&in_use));
        let pools = pools.clone();
        tokio::spawn(async move {
            for turn in 0..50_u64 {
                let number = task * 31 + turn * 7;
                let pool = &pools[usize::try_from(number % 8).unwrap()];
                let patience = Duration::from_micros(number % 5 * 100);
                let lease = if turn % 3 == 0 {
                    let Ok(lease) = tokio::time::timeout(patience, take(pool)).await else {
                        continue;
                    };
                    lease.unwrap()
                } else {
                    take(pool).await.unwrap()
                };
                assert!(in_use.fetch_add(1, Ordering::SeqCst) < 3);
                assert!(budget.usage().open <= 3);
                tokio::task::yield_now().await;
                in_use.fetch_sub(1, Ordering::SeqCst);
                drop(lease);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    settle().await;
    let usage = budget.usage();
    assert!(usage.open <= 3 && usage.waiting == 0, "{usage:?}");
    for pool in &pools {
        pool.close().await;
    }
    assert_eq!(taken(&budget), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_something_may_still_run_is_not_given_to_the_next() {
    let (budget, server) = (budget(2), Server::default());
    let pool = budget.pool(server.clone(), 2);
    let given_up = pool.lease().await.unwrap();
    drop(given_up);
    settle().await;
    assert_eq!(taken(&budget), (0, 0, 0));
    drop(take(&pool).await.unwrap());
    assert_eq!((server.opened(), taken(&budget)), (2, (1, 1, 0)));
}
