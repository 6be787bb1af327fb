//! Open databases: how many, for how long, and whose.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_control::MultiTenancy;
use mt_core::{
    CacheSettings, CachedFactory, DataAdapters, DatabaseFactory as _, DatabaseFactoryExt as _,
    ErrorKind, TenantId, TenantState,
};
use mt_tests::Installation;
use sea_orm::{DbErr, TransactionSession as _, TransactionTrait as _};

use crate::support::{
    DEADLINE, Process, Watched, add, all_closed, column, embedded, eventually, file_of, kind_in,
    notes, tenant,
};

/// A cache over a factory that counts, with tenants `t0`, `t1`, … that exist.
async fn cache(
    installation: &Installation,
    settings: CacheSettings,
    tenants: usize,
) -> (CachedFactory, Arc<Watched>, Vec<TenantId>) {
    cache_of(Watched::new(embedded(installation)), settings, tenants).await
}

async fn cache_of(
    factory: Watched,
    settings: CacheSettings,
    tenants: usize,
) -> (CachedFactory, Arc<Watched>, Vec<TenantId>) {
    let factory = Arc::new(factory);
    let ids: Vec<_> = (0..tenants).map(|number| tenant(&format!("t{number}"))).collect();
    for id in &ids {
        factory.provision(id).await.unwrap();
    }
    let cache = CachedFactory::new(Arc::<Watched>::clone(&factory), settings).unwrap();
    (cache, factory, ids)
}

fn settings() -> CacheSettings {
    CacheSettings::default().with_acquire_timeout(DEADLINE)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_open_than_allowed_and_the_least_recently_used_goes() {
    let installation = Installation::new().unwrap();
    let (cache, factory, ids) = cache(&installation, settings().with_max(3), 5).await;
    for id in &ids[..3] {
        cache.get_adapters(id).await.unwrap();
    }
    // The second is now the one that was not used for the longest time.
    cache.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(factory.opens(), 3);
    cache.get_adapters(&ids[3]).await.unwrap();
    assert_eq!((factory.opens(), cache.open_count()), (4, 3));
    let mut open = cache.open_tenants();
    open.sort();
    assert_eq!(open, [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
    for round in 0..20 {
        cache.get_adapters(&ids[round % 5]).await.unwrap();
        assert!(cache.open_count() <= 3, "{}", cache.open_count());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_is_not_closed_to_make_room() {
    let installation = Installation::new().unwrap();
    let (cache, factory, ids) = cache(&installation, settings().with_max(2), 3).await;
    let held = cache.get_adapters(&ids[0]).await.unwrap();
    for round in 0..6 {
        cache.get_adapters(&ids[1 + round % 2]).await.unwrap();
    }
    add(&held, "still here").await.unwrap();
    assert_eq!(cache.get_adapters(&ids[0]).await.unwrap().opened_at(), held.opened_at());
    assert_eq!(factory.opens(), 1 + 6);
    // An open transaction is use too, when its handle is dropped.
    let transaction = held.begin().await.unwrap();
    drop(held);
    for round in 0..4 {
        cache.get_adapters(&ids[1 + round % 2]).await.unwrap();
    }
    add(&transaction, "and committed").await.unwrap();
    transaction.commit().await.unwrap();
    let data = cache.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(notes(&data).await.unwrap(), ["still here", "and committed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_refuses_with_a_typed_error_after_waiting() {
    let installation = Installation::new().unwrap();
    let wait = Duration::from_millis(50);
    let full = CacheSettings::default().with_max(2).with_acquire_timeout(wait);
    let (cache, factory, ids) = cache(&installation, full, 3).await;
    let held =
        [cache.get_adapters(&ids[0]).await.unwrap(), cache.get_adapters(&ids[1]).await.unwrap()];
    let began = std::time::Instant::now();
    let error = cache.get_adapters(&ids[2]).await.unwrap_err();
    assert!(began.elapsed() >= wait);
    assert_eq!((error.kind(), error.tenant()), (ErrorKind::Unavailable, Some(&ids[2])));
    assert!(error.is_transient());
    assert_eq!((cache.open_count(), factory.opens()), (2, 2));
    for data in &held {
        add(data, "untouched").await.unwrap();
    }
    assert!(cache.get_adapters(&ids[0]).await.is_ok(), "what is open is there for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_comes_free_goes_to_who_waits() {
    let installation = Installation::new().unwrap();
    let (cache, _, ids) = cache(&installation, settings().with_max(2), 4).await;
    let first = cache.get_adapters(&ids[0]).await.unwrap();
    let second = cache.get_adapters(&ids[1]).await.unwrap();
    let waiting = |id: &TenantId| {
        let (cache, id) = (cache.clone(), id.clone());
        tokio::spawn(async move { cache.get_adapters(&id).await.map(drop) })
    };
    let mut waiters = [waiting(&ids[2]), waiting(&ids[3])];
    for waiter in &mut waiters {
        assert!(tokio::time::timeout(Duration::from_millis(50), waiter).await.is_err());
    }
    drop((first, second));
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert!(cache.open_count() <= 2);
}

/// Few places and many who want them: nobody is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_who_waits_gets_a_turn() {
    let installation = Installation::new().unwrap();
    let (cache, _, ids) = cache(&installation, settings().with_max(2), 16).await;
    let users = ids.iter().cycle().take(160).cloned().map(|id| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let data = cache.get_adapters(&id).await?;
            assert_eq!(data.tenant(), &id);
            drop(notes(&data).await);
            mt_core::Result::<()>::Ok(())
        })
    });
    for user in join_all(users).await {
        user.unwrap().unwrap();
    }
    assert!(cache.open_count() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_past_its_time_is_opened_anew() {
    let installation = Installation::new().unwrap();
    let brief = settings().with_max(2).with_ttl(Duration::ZERO);
    let (cache, factory, ids) = cache(&installation, brief, 2).await;
    let first = cache.get_adapters(&ids[0]).await.unwrap();
    let second = cache.get_adapters(&ids[0]).await.unwrap();
    assert_ne!(first.opened_at(), second.opened_at());
    assert_eq!(factory.opens(), 2);
    add(&first, "the first is not closed under its user").await.unwrap();
    drop((first, second));
    eventually("the old one closes", || async { cache.open_count() == 1 }).await;
    cache.evict_expired();
    eventually("what nobody asks for closes", || async { cache.open_count() == 0 }).await;

    let lasting = settings().with_ttl(Duration::from_secs(3600));
    let kept = CachedFactory::new(Arc::<Watched>::clone(&factory), lasting).unwrap();
    kept.get_adapters(&ids[1]).await.unwrap();
    kept.evict_expired();
    assert_eq!(kept.open_tenants(), [ids[1].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_time_and_in_use_without_a_place_is_better_than_nothing() {
    let installation = Installation::new().unwrap();
    let brief = settings().with_max(1).with_ttl(Duration::ZERO);
    let (cache, factory, ids) = cache(&installation, brief, 1).await;
    let held = cache.get_adapters(&ids[0]).await.unwrap();
    let again = cache.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(held.opened_at(), again.opened_at());
    assert_eq!(factory.opens(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_of_a_cold_tenant_open_it_once() {
    let installation = Installation::new().unwrap();
    let locked = Watched::new(embedded(&installation)).locked();
    let (cache, factory, ids) = cache_of(locked, settings(), 1).await;
    // All have asked before the first open can go on.
    let all = join_all((0..1_000).map(|_| cache.get_adapters(&ids[0])));
    let (answers, ()) = tokio::join!(all, async { factory.unlock() });
    let opened: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().opened_at()).collect();
    assert!(opened.iter().all(|at| *at == opened[0]));
    assert_eq!((factory.opens(), cache.open_count()), (1, 1));

    cache.evict_all();
    let spawned = (0..1_000).map(|_| {
        let (cache, id) = (cache.clone(), ids[0].clone());
        tokio::spawn(async move { cache.get_adapters(&id).await.map(drop) })
    });
    for answer in join_all(spawned).await {
        answer.unwrap().unwrap();
    }
    assert_eq!(factory.opens(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_open_is_everybodys_and_nobodys_after_them() {
    let installation = Installation::new().unwrap();
    let locked = Watched::new(embedded(&installation)).locked();
    let (cache, factory, ids) = cache_of(locked, settings().with_max(1), 1).await;
    factory.fail(true);
    let all = join_all((0..100).map(|_| cache.get_adapters(&ids[0])));
    let (answers, ()) = tokio::join!(all, async { factory.unlock() });
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!((factory.opens(), cache.open_count()), (1, 0));
    factory.fail(false);
    assert!(cache.get_adapters(&ids[0]).await.is_ok());
    assert_eq!((factory.opens(), cache.open_count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_gives_up_does_not_cancel_the_others() {
    let installation = Installation::new().unwrap();
    let locked = Watched::new(embedded(&installation)).locked();
    let (cache, factory, ids) = cache_of(locked, settings(), 1).await;
    let ask = || {
        let (cache, id) = (cache.clone(), ids[0].clone());
        tokio::spawn(async move { cache.get_adapters(&id).await })
    };
    let leader = ask();
    eventually("the open", || async { factory.opens() == 1 }).await;
    let follower = ask();
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    factory.unlock();
    let data = follower.await.unwrap().unwrap();
    assert!(notes(&data).await.unwrap().is_empty());
    assert_eq!(factory.opens(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_gave_up_on_does_not_take_a_place_for_good() {
    let installation = Installation::new().unwrap();
    let locked = Watched::new(embedded(&installation)).locked();
    let (cache, factory, ids) = cache_of(locked, settings().with_max(1), 2).await;
    let asking = tokio::spawn({
        let (cache, id) = (cache.clone(), ids[0].clone());
        async move { cache.get_adapters(&id).await.map(drop) }
    });
    eventually("the open", || async { factory.opens() == 1 }).await;
    asking.abort();
    asking.await.unwrap_err();
    factory.unlock();
    cache.get_adapters(&ids[1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_without_a_place_beside_the_pinned_are_refused() {
    let installation = Installation::new().unwrap();
    let factory = Arc::new(embedded(&installation));
    for settings in [
        CacheSettings::default().with_max(0),
        CacheSettings::default().with_max(1).with_pinned(tenant("main")),
    ] {
        let refused =
            CachedFactory::new(Arc::<mt_sqlite::SqliteFactory>::clone(&factory), settings);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    }
}

/// What an application makes of a tenant's database.
struct Notebook {
    data: DataAdapters,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_own_adapters_are_made_on_every_call_through_the_cache() {
    let installation = Installation::new().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let tenants = Process::of(&installation)
        .wrap(move |factory| {
            Arc::new(factory.create_adapters(move |data| {
                counted.fetch_add(1, Ordering::SeqCst);
                Notebook { data }
            }))
        })
        .open()
        .await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    for number in 1..=5 {
        let data = tenants.get_adapters(&acme).await.unwrap();
        let notebook: Notebook = data.adapters().unwrap();
        assert_eq!(notebook.data.tenant(), &acme);
        add(&notebook.data, "by the notebook").await.unwrap();
        assert_eq!(notes(&data).await.unwrap().len(), number);
        assert_eq!(made.load(Ordering::SeqCst), number);
    }
    let data = tenants.get_adapters(&acme).await.unwrap();
    assert_eq!(data.adapters::<String>().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factory_that_answers_with_another_tenants_database_is_caught() {
    let installation = Installation::new().unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let watched: Arc<Mutex<Option<Arc<Watched>>>> = Arc::default();
    let (kept, other) = (Arc::clone(&watched), globex.clone());
    let tenants = Process::of(&installation)
        .wrap(move |factory| {
            let factory = Arc::new(Watched::new(factory).straying_to(other));
            *kept.lock().unwrap() = Some(Arc::clone(&factory));
            factory
        })
        .open()
        .await;
    let watched = watched.lock().unwrap().take().unwrap();
    for id in [&acme, &globex] {
        tenants.provision(id).await.unwrap();
        tenants.suspend(id).await.unwrap();
        tenants.activate(id).await.unwrap();
    }
    watched.stray(true);
    for _ in 0..3 {
        let error = tenants.get_adapters(&acme).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::ForeignDatabase, Some(&acme)));
    }
    assert!(tenants.get_adapters(&globex).await.is_ok());
    // A new tenant is never served from another's database either.
    let error = tenants.provision(&tenant("initech")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    assert_eq!(tenants.catalog().get(&tenant("initech")).await.unwrap().state, TenantState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_copied_over_another_tenants_or_from_another_installation_is_refused() {
    let (here, there) = (Installation::new().unwrap(), Installation::new().unwrap());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    for installation in [&here, &there] {
        let tenants = Process::of(installation).open().await;
        for id in [&acme, &globex] {
            tenants.provision(id).await.unwrap();
        }
        tenants.shutdown().await.unwrap();
        all_closed(&installation.tenants_path()).await;
    }
    for stray in [file_of(&here, "acme", 1), file_of(&there, "globex", 1)] {
        std::fs::copy(&stray, file_of(&here, "globex", 1)).unwrap();
        let tenants = Process::of(&here).open().await;
        let error = tenants.get_adapters(&globex).await.unwrap_err();
        assert_eq!((error.kind(), error.tenant()), (ErrorKind::ForeignDatabase, Some(&globex)));
        assert!(tenants.status(&globex).await.unwrap().fault.is_some());
        assert!(tenants.deprovision(&globex).await.is_err(), "it is not its to remove");
        assert!(file_of(&here, "globex", 1).exists());
        assert!(tenants.get_adapters(&acme).await.is_ok());
        tenants.shutdown().await.unwrap();
        // Back to where a removal has not begun.
        let control = rusqlite::Connection::open(here.path().join("control.db")).unwrap();
        control.execute("UPDATE tenant SET state = 'active' WHERE id = 'globex'", []).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_process_removes_is_let_go_of_while_the_rest_is_served() {
    let installation = Installation::new().unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let admin = Process::of(&installation).open().await;
    for id in [&acme, &globex] {
        admin.provision(id).await.unwrap();
    }
    let service = Process::of(&installation)
        .settings(|builder| builder.with_state_ttl(Duration::from_millis(50)))
        .open()
        .await;
    let held = service.get_adapters(&acme).await.unwrap();
    add(&held, "served").await.unwrap();
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let busy = tokio::spawn({
        let (service, globex) = (service.clone(), globex.clone());
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        async move {
            while !over.load(Ordering::SeqCst) {
                let data = service.get_adapters(&globex).await.unwrap();
                add(&data, "busy").await.unwrap();
                served.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    eventually("service", || async { served.load(Ordering::SeqCst) > 5 }).await;
    // The handle is held, and nothing runs on it.
    admin.deprovision(&acme).await.unwrap();
    assert!(held.is_revoked());
    assert_eq!(service.get_adapters(&acme).await.unwrap_err().kind(), ErrorKind::TenantNotFound);
    assert!(!file_of(&installation, "acme", 1).exists());

    let then = served.load(Ordering::SeqCst);
    eventually("service again", || async { served.load(Ordering::SeqCst) > then }).await;
    over.store(true, Ordering::SeqCst);
    busy.await.unwrap();
    let rows = column(&file_of(&installation, "globex", 1), "SELECT text FROM notes").len();
    assert_eq!(rows, served.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_suspends_is_refused_here_within_the_limit() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let admin = Process::of(&installation).open().await;
    admin.provision(&acme).await.unwrap();
    let service = Process::of(&installation)
        .settings(|builder| builder.with_state_ttl(Duration::from_millis(50)))
        .open()
        .await;
    let held = service.get_adapters(&acme).await.unwrap();
    admin.suspend(&acme).await.unwrap();
    eventually("the handle is revoked", || async { held.is_revoked() }).await;
    let refused = service.get_adapters(&acme).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotActive);
    admin.activate(&acme).await.unwrap();
    eventually("it is served again", || async { service.get_adapters(&acme).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_shutdown_nobody_is_served() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let tenants = Process::of(&installation).open().await;
    tenants.provision(&acme).await.unwrap();
    let data = tenants.get_adapters(&acme).await.unwrap();
    tenants.shutdown().await.unwrap();
    assert_eq!(kind_in(&add(&data, "late").await.unwrap_err()), Some(ErrorKind::TenantNotActive));
    assert_eq!(tenants.get_adapters(&acme).await.unwrap_err().kind(), ErrorKind::Unavailable);
    tenants.shutdown().await.unwrap();
}

/// Steps that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator; the high bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What may happen to a request whose tenant is taken out of service meanwhile.
fn is_expected(kind: Option<ErrorKind>) -> bool {
    [Some(ErrorKind::TenantNotActive), Some(ErrorKind::InUse)].contains(&kind)
}

async fn write(data: &DataAdapters, text: &str, in_transaction: bool) -> Result<(), DbErr> {
    if !in_transaction {
        return add(data, text).await;
    }
    let transaction = data.begin().await?;
    add(&transaction, text).await?;
    transaction.commit().await
}

/// One task of the storm; answers what it was told is written, per tenant.
async fn weather(
    service: MultiTenancy,
    ids: Arc<Vec<TenantId>>,
    number: usize,
) -> Vec<(TenantId, String)> {
    let mut dice = Dice(u64::try_from(number).unwrap() + 1);
    let mut acknowledged = Vec::new();
    for step in 0..40 {
        let id = &ids[dice.roll(ids.len())];
        if dice.roll(12) == 0 {
            for outcome in [service.suspend(id).await, service.activate(id).await] {
                if let Err(error) = outcome {
                    assert!(is_expected(Some(error.kind())), "{error:?}");
                }
            }
            continue;
        }
        let data = match service.get_adapters(id).await {
            Ok(data) => data,
            Err(error) => {
                assert!(is_expected(Some(error.kind())), "{error:?}");
                continue;
            }
        };
        assert_eq!((data.tenant(), &data.stamp().tenant), (id, id));
        let outcome = if dice.roll(2) == 0 {
            let text = format!("{id} {number}:{step}");
            let written = write(&data, &text, dice.roll(3) == 0).await;
            written.map(|()| acknowledged.push((id.clone(), text)))
        } else {
            let read =
                if dice.roll(2) == 0 { notes(&data).await } else { notes(&data.read()).await };
            read.map(|rows| {
                let own = format!("{id} ");
                assert!(rows.iter().all(|row| row.starts_with(&own)), "{id} reads {rows:?}");
            })
        };
        if let Err(error) = outcome {
            assert!(is_expected(kind_in(&error)), "{error}");
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_tenant_is_never_answered_and_no_acknowledged_write_is_lost() {
    let installation = Installation::new().unwrap();
    let service = Process::of(&installation)
        .settings(|builder| {
            builder.with_cache(CacheSettings::default().with_max(5).with_acquire_timeout(DEADLINE))
        })
        .open()
        .await;
    let ids: Arc<Vec<_>> = Arc::new((0..50).map(|n| tenant(&format!("t{n:02}"))).collect());
    for id in ids.iter() {
        service.provision(id).await.unwrap();
    }
    let storm = (0..64).map(|n| tokio::spawn(weather(service.clone(), Arc::clone(&ids), n)));
    let mut expected: HashMap<TenantId, Vec<String>> = HashMap::new();
    for task in join_all(storm).await {
        for (id, text) in task.unwrap() {
            expected.entry(id).or_default().push(text);
        }
    }
    let written: usize = expected.values().map(Vec::len).sum();
    assert!(written > 500, "{written}");
    service.shutdown().await.unwrap();
    for id in ids.iter() {
        let rows = column(&file_of(&installation, id.as_str(), 1), "SELECT text FROM notes");
        let own = format!("{id} ");
        assert!(rows.iter().all(|row| row.starts_with(&own)), "{id} has {rows:?}");
        for text in expected.get(id).into_iter().flatten() {
            assert!(rows.contains(text), "{id} lost {text}");
        }
    }
}
