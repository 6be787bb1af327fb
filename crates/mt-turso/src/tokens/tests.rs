use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, task::yield_now, time::advance};

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);
const FULL: Authorization = Authorization::FullAccess;
const READ: Authorization = Authorization::ReadOnly;

/// Mints `<scope>/<authorization>/<number>`, once somebody opens the door.
struct Press {
    minted: AtomicUsize,
    door: Semaphore,
    failures: Mutex<VecDeque<ErrorKind>>,
    /// The ids of databases that were made anew; another's is its name and `-id`.
    anew: Mutex<HashMap<String, Option<String>>>,
    looks: AtomicUsize,
}

impl Press {
    fn new(open: bool) -> Arc<Self> {
        let door = Semaphore::new(if open { Semaphore::MAX_PERMITS } else { 0 });
        Arc::new(Self {
            minted: AtomicUsize::new(0),
            door,
            failures: Mutex::default(),
            anew: Mutex::default(),
            looks: AtomicUsize::new(0),
        })
    }

    fn fail(&self, kind: ErrorKind) {
        self.failures.lock().unwrap().push_back(kind);
    }

    /// From now on `name` means another database, or none.
    fn change(&self, name: &str, id: Option<&str>) {
        self.anew.lock().unwrap().insert(name.to_owned(), id.map(str::to_owned));
    }

    fn count(&self) -> usize {
        self.minted.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Mint for Press {
    async fn mint(
        &self,
        scope: TokenScope<'_>,
        authorization: Authorization,
        _lifetime: Duration,
    ) -> Result<Secret> {
        let number = self.minted.fetch_add(1, Ordering::SeqCst) + 1;
        self.door.acquire().await.unwrap().forget();
        if let Some(kind) = self.failures.lock().unwrap().pop_front() {
            return Err(Error::new(kind, "no token today"));
        }
        let scope = match scope {
            TokenScope::Database(name) => name.to_owned(),
            TokenScope::Group(name) => format!("group:{name}"),
        };
        Ok(Secret::new(format!("{scope}/{authorization:?}/{number}")))
    }

    async fn id_of(&self, name: &str) -> Result<Option<String>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let anew = self.anew.lock().unwrap().get(name).cloned();
        Ok(anew.unwrap_or_else(|| Some(id_of(name))))
    }
}

fn id_of(name: &str) -> String {
    format!("{name}-id")
}

fn tokens(press: &Arc<Press>) -> Tokens {
    Tokens::from_mint(Arc::clone(press) as _, None, HOUR)
}

async fn get(tokens: &Tokens, database: &str) -> String {
    tokens.get(database, &id_of(database), FULL).await.unwrap().expose().to_owned()
}

/// Lets every task that can go on do so, without the clock.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_waiters_cause_one_mint() {
    let press = Press::new(false);
    let tokens = tokens(&press);
    let waiters = join_all((0..100).map(|_| get(&tokens, "a")));
    let open = async {
        settle().await;
        press.door.add_permits(1);
    };
    let (secrets, ()) = tokio::join!(waiters, open);
    assert!(secrets.iter().all(|secret| secret == "a/FullAccess/1"));
    assert_eq!(press.count(), 1);
    // What may only read is another token.
    press.door.add_permits(1);
    assert_eq!(tokens.get("a", "a-id", READ).await.unwrap().expose(), "a/ReadOnly/2");
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_before_it_expires_and_nobody_waits_for_that() {
    let press = Press::new(false);
    press.door.add_permits(1);
    let tokens = tokens(&press);
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
    // A fifth of an hour is more than 5 minutes, so those count.
    advance(Duration::from_secs(55 * 60) - Duration::from_millis(1)).await;
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
    settle().await;
    assert_eq!(press.count(), 1);
    advance(Duration::from_millis(1)).await;
    // The door is shut, and the present token is given out all the same, and once asked for.
    for _ in 0..10 {
        assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
        settle().await;
    }
    assert_eq!(press.count(), 2);
    press.door.add_permits(1);
    settle().await;
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/2");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_has_a_margin_of_a_fifth() {
    let press = Press::new(true);
    let tokens = Tokens::from_mint(Arc::clone(&press) as _, None, Duration::from_secs(100));
    get(&tokens, "a").await;
    advance(Duration::from_secs(79)).await;
    get(&tokens, "a").await;
    settle().await;
    assert_eq!(press.count(), 1);
    advance(Duration::from_secs(1)).await;
    get(&tokens, "a").await;
    settle().await;
    assert_eq!(press.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_one_is_never_given_out() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    get(&tokens, "a").await;
    advance(HOUR).await;
    press.fail(ErrorKind::Unavailable);
    let error = tokens.get("a", "a-id", FULL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/3");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_good_one_and_is_tried_again_later() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    get(&tokens, "a").await;
    advance(Duration::from_secs(56 * 60)).await;
    press.fail(ErrorKind::Unavailable);
    for _ in 0..10 {
        assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
        settle().await;
    }
    assert_eq!(press.count(), 2, "not at every use");
    advance(Duration::from_secs(2 * 60)).await;
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
    settle().await;
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/3");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_with_those_who_wait_and_not_kept() {
    let press = Press::new(false);
    press.fail(ErrorKind::QuotaExceeded);
    let tokens = tokens(&press);
    let waiters = join_all((0..10).map(|_| tokens.get("a", "a-id", FULL)));
    let open = async {
        settle().await;
        press.door.add_permits(2);
    };
    let (outcomes, ()) = tokio::join!(waiters, open);
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    }
    assert_eq!(press.count(), 1);
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/2");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gives_up_does_not_fail_the_others() {
    let press = Press::new(false);
    let tokens = Arc::new(tokens(&press));
    let wait = |tokens: Arc<Tokens>| tokio::spawn(async move { get(&tokens, "a").await });
    let leader = wait(Arc::clone(&tokens));
    settle().await;
    assert_eq!(press.count(), 1);
    let follower = wait(Arc::clone(&tokens));
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    press.door.add_permits(1);
    assert_eq!(follower.await.unwrap(), "a/FullAccess/1");
    assert_eq!(press.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_one_is_replaced_once() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    let first = tokens.get("a", "a-id", FULL).await.unwrap();
    assert!(tokens.refused("a", "a-id", FULL, &first));
    let second = tokens.get("a", "a-id", FULL).await.unwrap();
    assert_eq!(second.expose(), "a/FullAccess/2");
    // Somebody who still had the first does not take the second away.
    assert!(tokens.refused("a", "a-id", FULL, &first));
    // Nor does a database that refuses everything cost a mint per query.
    for _ in 0..10 {
        assert!(!tokens.refused("a", "a-id", FULL, &second));
        assert_eq!(get(&tokens, "a").await, second.expose());
    }
    assert_eq!(press.count(), 2);
    advance(HOLD).await;
    assert!(tokens.refused("a", "a-id", FULL, &second));
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/3");
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_while_it_is_minted_is_not_kept() {
    let press = Press::new(false);
    let tokens = tokens(&press);
    let forget = async {
        settle().await;
        tokens.forget("a");
        press.door.add_permits(2);
    };
    let (waited, ()) = tokio::join!(get(&tokens, "a"), forget);
    assert_eq!(waited, "a/FullAccess/1");
    assert_eq!(get(&tokens, "a").await, "a/FullAccess/2");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_what_has_the_name_now_is_not_given_out_for_what_had_it() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    let first = tokens.get("a", "a-id", FULL).await.unwrap();
    press.change("a", Some("other"));
    // Where the old one's was refused, and where it has expired.
    assert!(tokens.refused("a", "a-id", FULL, &first));
    for _ in 0..3 {
        let error = tokens.get("a", "a-id", FULL).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    }
    // Whoever means the new one has a token of its own, and nobody else has that.
    assert_eq!(tokens.get("a", "other", FULL).await.unwrap().expose(), "a/FullAccess/5");
    let error = tokens.get("a", "a-id", FULL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    press.change("a", None);
    let error = tokens.get("a", "a-id", FULL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotFound);
    assert_eq!(tokens.get("a", "other", FULL).await.unwrap().expose(), "a/FullAccess/5");
    tokens.forget("a");
    assert!(tokens.0.lock().map.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_brings_no_token_of_what_has_the_name_now() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    get(&tokens, "a").await;
    advance(Duration::from_secs(56 * 60)).await;
    press.change("a", Some("other"));
    for _ in 0..3 {
        assert_eq!(get(&tokens, "a").await, "a/FullAccess/1");
        settle().await;
    }
    assert_eq!(press.count(), 2);
    advance(HOUR).await;
    let error = tokens.get("a", "a-id", FULL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
}

#[tokio::test(start_paused = true)]
async fn what_a_name_means_is_asked_once_per_mint() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    for _ in 0..10 {
        get(&tokens, "a").await;
    }
    assert_eq!((press.count(), press.looks.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_group_has_one_token_for_all() {
    let press = Press::new(true);
    let tokens = Tokens::from_mint(Arc::clone(&press) as _, Some("g".into()), HOUR);
    assert_eq!(get(&tokens, "a").await, "group:g/FullAccess/1");
    tokens.forget("a");
    assert_eq!(get(&tokens, "b").await, "group:g/FullAccess/1");
    tokens.forget_all();
    assert_eq!(get(&tokens, "b").await, "group:g/FullAccess/2");
    assert_eq!(press.looks.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn tenants_that_went_away_leave_nothing() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    for round in 0..10 {
        for tenant in 0..1000 {
            get(&tokens, &format!("{round}-{tenant}")).await;
        }
        advance(HOUR).await;
    }
    let kept = tokens.0.lock().map.len();
    assert!(kept <= 2000, "{kept} entries of 10,000 tenants");
}

/// Every answer is for whom it was asked, whatever else goes on at the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_token_goes_to_another_database() {
    let press = Press::new(true);
    let tokens = Arc::new(tokens(&press));
    let tasks = (0..32_usize).map(|task| {
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move {
            for step in 0..500 {
                let database = format!("tenant-{}", (task * 7 + step) % 20);
                let authorization = if (task + step) % 3 == 0 { READ } else { FULL };
                let token = tokens.get(&database, &id_of(&database), authorization).await.unwrap();
                let expected = format!("{database}/{authorization:?}/");
                assert!(token.expose().starts_with(&expected), "{}", token.expose());
                match step % 5 {
                    0 => {
                        tokens.refused(&database, &id_of(&database), authorization, &token);
                    }
                    1 => tokens.forget(&database),
                    // Another's token takes nothing away here.
                    2 => {
                        let other = Secret::new("x");
                        assert!(tokens.refused("tenant-0", "tenant-0-id", authorization, &other));
                    }
                    _ => yield_now().await,
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert!(press.count() > 40, "minted {} times", press.count());
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_shown() {
    let press = Press::new(true);
    let tokens = tokens(&press);
    let secret = get(&tokens, "a").await;
    assert!(!format!("{tokens:?}").contains(&secret));
}
