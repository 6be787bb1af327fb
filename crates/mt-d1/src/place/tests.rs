use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;

/// Answers when it is let to, with what is set.
struct Slow {
    asked: AtomicU64,
    permits: Semaphore,
    answer: Mutex<Result<Option<String>>>,
}

impl Slow {
    fn new(answer: Result<Option<String>>) -> Arc<Self> {
        let (asked, permits) = (AtomicU64::new(0), Semaphore::new(0));
        Arc::new(Self { asked, permits, answer: Mutex::new(answer) })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Directory for Arc<Slow> {
    async fn uuid_of(&self, _name: &str) -> Result<Option<String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.answer.lock().unwrap().clone()
    }
}

fn places(slow: &Arc<Slow>) -> Arc<Places> {
    Arc::new(Places::new(Arc::new(Arc::clone(slow))))
}

fn name() -> DatabaseName {
    DatabaseName::from_stored("tenant_acme")
}

fn place(uuid: &str) -> Place {
    Place { name: name(), generation: Generation::FIRST, uuid: uuid.into() }
}

fn there(uuid: &str) -> Result<Option<String>> {
    Ok(Some(uuid.to_owned()))
}

/// Starts `count` that ask, and comes back when all of them wait for the first.
async fn start(
    places: &Arc<Places>,
    count: usize,
) -> Vec<tokio::task::JoinHandle<Result<Option<Arc<str>>>>> {
    let tasks = (0..count).map(|_| {
        let places = Arc::clone(places);
        tokio::spawn(async move { places.find(&name()).await })
    });
    let tasks = tasks.collect();
    for _ in 0..2 * count + 10 {
        tokio::task::yield_now().await;
    }
    tasks
}

#[tokio::test]
async fn fifty_who_ask_at_once_cause_one_look_up() {
    let slow = Slow::new(there("a"));
    let places = places(&slow);
    let mut tasks = start(&places, 50).await;
    // Also the one that began it may give up.
    tasks.remove(0).abort();
    slow.permits.add_permits(1);
    for found in join_all(tasks).await {
        assert_eq!(found.unwrap().unwrap().as_deref(), Some("a"));
    }
    assert_eq!(places.find(&name()).await.unwrap().as_deref(), Some("a"));
    assert_eq!(slow.asked(), 1);
}

#[tokio::test]
async fn a_failure_is_everybodys_and_is_not_kept() {
    let slow = Slow::new(Err(Error::new(ErrorKind::Unavailable, "down")));
    let places = places(&slow);
    let tasks = start(&places, 3).await;
    slow.permits.add_permits(1);
    for found in join_all(tasks).await {
        assert_eq!(found.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    *slow.answer.lock().unwrap() = there("a");
    slow.permits.add_permits(1);
    assert_eq!(places.find(&name()).await.unwrap().as_deref(), Some("a"));
    assert_eq!(slow.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nothing_has_is_asked_for_again_after_a_while() {
    let slow = Slow::new(Ok(None));
    slow.permits.add_permits(10);
    let places = places(&slow);
    for _ in 0..5 {
        assert_eq!(places.find(&name()).await.unwrap(), None);
    }
    assert_eq!(slow.asked(), 1);
    *slow.answer.lock().unwrap() = there("a");
    tokio::time::advance(MISSING).await;
    assert_eq!(places.find(&name()).await.unwrap().as_deref(), Some("a"));
    assert_eq!(slow.asked(), 2);
}

#[tokio::test]
async fn what_is_told_meanwhile_is_not_replaced_by_an_older_answer() {
    let slow = Slow::new(Ok(None));
    let places = places(&slow);
    let tasks = start(&places, 1).await;
    places.put(&place("new"));
    slow.permits.add_permits(1);
    join_all(tasks).await;
    assert_eq!(places.get(&name()).as_deref(), Some("new"));
    // One that is gone is forgotten; not the one that came after it.
    places.forget_gone(&place("old"));
    assert_eq!(places.get(&name()).as_deref(), Some("new"));
    places.forget_gone(&place("new"));
    assert_eq!(places.get(&name()), None);
}

#[test]
fn what_was_checked_is_one_database_and_not_all_of_its_name() {
    let places = places(&Slow::new(Ok(None)));
    places.note_checked(&place("a"));
    places.put(&place("a"));
    assert!(!places.was_checked(&place("a")));
    places.note_checked(&place("b"));
    assert!(!places.was_checked(&place("a")) && !places.was_checked(&place("b")));
    places.note_checked(&place("a"));
    assert!(places.was_checked(&place("a")) && !places.was_checked(&place("b")));
    places.put(&place("b"));
    assert!(!places.was_checked(&place("a")) && !places.was_checked(&place("b")));
}

#[test]
fn a_store_remembers_a_database_and_its_bookmark_as_long_as_it_is_the_same() {
    let before = Placement::derived(Generation::FIRST);
    let old = place("a");
    let stored = old.to_placement(&before);
    assert_eq!(Place::remembered(&name(), &stored), Some(old.clone()));
    let marked = old.to_bookmarked(&stored, "b1".to_owned(), "now".to_owned());
    assert_eq!((marked.attributes[BOOKMARK].as_str(), marked.database), ("b1", Some(name())));
    assert_eq!(old.to_placement(&stored), stored);
    let marked = old.to_bookmarked(&before, "b1".to_owned(), "now".to_owned());
    assert_eq!(old.to_placement(&marked), marked);
    let other = place("b").to_placement(&marked);
    assert_eq!(other.attributes.len(), 1);

    let arriving = place("c").to_arriving(&stored);
    assert!(place("c").is_arriving(&arriving));
    assert!(!old.is_arriving(&arriving));
}
