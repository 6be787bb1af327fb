//! Who is let in, and databases that are not the ones they were.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::future::join_all;
use mt_conformance::MemoryPlacements;
use mt_core::{
    DataAdapters, DatabaseFactory as _, DatabaseFactoryExt as _, Error, ErrorKind, FactoryContext,
    MaintenanceMode, Placement, PlacementStore, Registry, Result, TenantId,
};
use mt_d1::D1Factory;
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;

use crate::support::{
    builder, context, count, execute, factory, kind_of, placement, requests, select, server,
    tenant, uuid, without_store,
};

async fn opened(factory: &D1Factory) -> DataAdapters {
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    execute(&data, "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.unwrap();
    data
}

async fn delete_behind(factory: &D1Factory) {
    let uuid = uuid(factory, "tenant_acme").await;
    factory.client().delete(&uuid).await.unwrap();
}

#[tokio::test]
async fn a_database_made_anew_behind_us_is_not_taken_for_the_old_one() {
    let server = server().await;
    for context in [context(), without_store()] {
        let factory = factory(&server, &context);
        let acme = tenant("acme");
        let data = opened(&factory).await;
        delete_behind(&factory).await;
        // Another deployment makes it under its name, with something in it.
        let theirs = opened(&crate::support::factory(&server, &crate::support::context())).await;
        execute(&theirs, "INSERT INTO t VALUES (1)").await.unwrap();

        // The handle keeps to the one that is gone; the next one finds out whose the new one is.
        for _ in 0..2 {
            let error = data.query_all_raw(select("SELECT id FROM t")).await.unwrap_err();
            assert_eq!(kind_of(&error), ErrorKind::TenantNotFound, "{error}");
            let error = execute(&data, "DELETE FROM t").await.unwrap_err();
            assert_eq!(kind_of(&error), ErrorKind::TenantNotFound, "{error}");
            let error = data.read().query_all_raw(select("SELECT 1")).await.unwrap_err();
            assert_eq!(kind_of(&error), ErrorKind::TenantNotFound, "{error}");
            for refused in [
                factory.get_adapters(&acme).await.map(drop),
                factory.describe(&acme).await.map(drop),
                factory.maintain(&acme, MaintenanceMode::Shared).await.map(drop),
            ] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{error:?}");
            }
        }
        assert_eq!(count(&theirs, "t").await, 1);
        delete_behind(&factory).await;
        let error = factory.get_adapters(&acme).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantNotFound, "{error:?}");
    }
}

/// The store remembers the one that is gone.
#[tokio::test]
async fn the_tenants_own_database_made_anew_is_found_and_remembered() {
    let server = server().await;
    let (store, elsewhere) = (context(), MemoryPlacements::default());
    let factory = factory(&server, &store);
    let acme = tenant("acme");
    drop(opened(&factory).await);
    delete_behind(&factory).await;
    // The same installation makes it again, and its store does not say so.
    let twin = FactoryContext::new(store.deployment).with_placements(Arc::new(elsewhere));
    builder(&server, &twin).build().unwrap().provision(&acme).await.unwrap();

    let (counts, opened) =
        requests(&server, [Kind::Raw, Kind::Get], factory.get_adapters(&acme)).await;
    execute(&opened.unwrap(), "CREATE TABLE t (id)").await.unwrap();
    assert_eq!(counts, [2, 1]);
    let stored = placement(&store, &acme).await;
    assert_eq!(stored.attributes["uuid"], uuid(&factory, "tenant_acme").await);
    let (counts, opened) = requests(&server, [Kind::Raw], factory.get_adapters(&acme)).await;
    drop(opened.unwrap());
    assert_eq!(counts, [1]);

    // Where there is none any more, it is made again.
    delete_behind(&factory).await;
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
}

/// A store in which somebody else changes a placement right after it was read.
#[derive(Debug, Default)]
struct Moving {
    inner: MemoryPlacements,
    next: Mutex<Option<Placement>>,
}

#[async_trait]
impl PlacementStore for Moving {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let read = self.inner.get(tenant).await?;
        let next = self.next.lock().unwrap().take();
        if let (Some(read), Some(next)) = (&read, next) {
            self.inner.compare_and_set(tenant, read, &next).await?;
        }
        Ok(read)
    }

    async fn compare_and_set(
        &self,
        tenant: &TenantId,
        expected: &Placement,
        new: &Placement,
    ) -> Result<()> {
        self.inner.compare_and_set(tenant, expected, new).await
    }

    fn can_change(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn what_others_stored_meanwhile_stays() {
    let server = server().await;
    let store = Arc::new(Moving::default());
    let context = without_store().with_placements(Arc::clone(&store) as Arc<dyn PlacementStore>);
    let keeping = builder(&server, &context).with_bookmark_before_migrations(true).build().unwrap();
    let acme = tenant("acme");
    keeping.provision(&acme).await.unwrap();
    let mut restored = Placement::derived(placement(&context, &acme).await.generation.next());
    restored.attributes.insert("uuid".to_owned(), "0".repeat(8)); // Nobody asks for it here.
    let mut anew = placement(&context, &acme).await;
    anew.attributes.insert("uuid".to_owned(), "1".repeat(8));

    // A restore of another process, while the database of the old placement is made anew.
    for opens in [true, false] {
        delete_behind(&keeping).await;
        let elsewhere = Arc::new(MemoryPlacements::default());
        let twin = FactoryContext::new(context.deployment).with_placements(elsewhere);
        factory(&server, &twin).provision(&acme).await.unwrap();
        let before = placement(&context, &acme).await;
        *store.next.lock().unwrap() = Some(restored.clone());
        if opens {
            keeping.get_adapters(&acme).await.map(drop).unwrap();
        } else {
            keeping.describe(&acme).await.map(drop).unwrap();
        }
        assert_eq!(placement(&context, &acme).await, restored);
        let mut current = before;
        let found = uuid(&keeping, "tenant_acme").await;
        current.attributes.insert("uuid".to_owned(), found);
        context.placements.compare_and_set(&acme, &restored, &current).await.unwrap();
    }

    // The same name means another database by the time the bookmark is to be kept.
    keeping.describe(&acme).await.unwrap();
    for next in [restored, anew] {
        let before = placement(&context, &acme).await;
        *store.next.lock().unwrap() = Some(next.clone());
        let error = keeping.maintain(&acme, MaintenanceMode::Shared).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(placement(&context, &acme).await, next);
        context.placements.compare_and_set(&acme, &next, &before).await.unwrap();
    }
    keeping.maintain(&acme, MaintenanceMode::Shared).await.unwrap().close().await;
    assert!(placement(&context, &acme).await.attributes.contains_key("bookmark"));
}

#[tokio::test]
async fn what_was_described_is_what_is_opened_for_maintenance() {
    let server = server().await;
    let context = without_store();
    let factory = factory(&server, &context);
    let acme = tenant("acme");
    drop(opened(&factory).await);
    let seen = factory.describe(&acme).await.unwrap();
    let work = factory.maintain_described(&acme, &seen);
    let (_, maintenance) = requests(&server, [], work).await;
    maintenance.unwrap().close().await;

    // Another process of the installation has not looked yet.
    let other = crate::support::factory(&server, &context);
    let work = other.maintain_described(&acme, &seen);
    let (counts, maintenance) = requests(&server, [Kind::Get, Kind::Raw], work).await;
    maintenance.unwrap().close().await;
    assert_eq!(counts, [1, 1]);

    // Another deployment makes it anew, and a failure to open it has what is remembered forgotten.
    delete_behind(&factory).await;
    let theirs = opened(&crate::support::factory(&server, &crate::support::context())).await;
    let error = factory.get_adapters(&acme).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{error:?}");
    let error = factory.maintain_described(&acme, &seen).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{error:?}");
    assert_eq!(count(&theirs, "t").await, 0);
}

#[tokio::test]
async fn fifty_who_open_a_tenant_at_once_look_it_up_once() {
    let server = server().await;
    let context = without_store();
    let acme = tenant("acme");
    factory(&server, &context).provision(&acme).await.unwrap();
    let factory = Arc::new(factory(&server, &context));
    let before = server.requests().of_kind(Kind::Get);
    let openers = (0..50).map(|_| {
        let (factory, acme) = (Arc::clone(&factory), acme.clone());
        tokio::spawn(async move { factory.get_adapters(&acme).await.map(drop) })
    });
    for opened in join_all(openers).await {
        opened.unwrap().unwrap();
    }
    assert_eq!(server.requests().of_kind(Kind::Get) - before, 1);

    // Who is not there is not asked for each time.
    let before = server.requests().total();
    for _ in 0..20 {
        let error = factory.get_adapters(&tenant("nobody")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TenantNotFound);
    }
    assert_eq!(server.requests().total() - before, 1);
    // And is there as soon as this process has made it.
    factory.provision(&tenant("nobody")).await.unwrap();
    factory.get_adapters(&tenant("nobody")).await.unwrap();
}

#[tokio::test]
async fn transactions_are_refused_before_anything_is_sent() {
    let server = server().await;
    let data = opened(&factory(&server, &context())).await;
    let before = server.requests().total();
    let error = data.begin().await.map(drop).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{error}");
    let error = data.read().begin().await.map(drop).unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{error}");
    for sql in
        ["BEGIN", "SAVEPOINT a", "COMMIT", "ROLLBACK", "PRAGMA ignore_check_constraints = ON"]
    {
        let error = data.execute_unprepared(sql).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{sql}: {error}");
    }
    assert_eq!(server.requests().total(), before);
}

#[tokio::test]
async fn a_read_handle_only_reads() {
    let server = server().await;
    let data = opened(&factory(&server, &context())).await;
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    let read = data.read();
    let before = server.requests().total();
    for sql in [
        "INSERT INTO t VALUES (2)",
        "insert into t values (2) returning id",
        "WITH n AS (SELECT 2 AS id) INSERT INTO t SELECT id FROM n",
        "WITH n AS (SELECT 1 AS id) DELETE FROM t WHERE id IN (SELECT id FROM n)",
        "/* SELECT */ UPDATE t SET id = 3",
        "REPLACE INTO t VALUES (1)",
        "SELECT 1; DELETE FROM t",
        "EXPLAIN DELETE FROM t",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA defer_foreign_keys = ON",
        "PRAGMA optimize",
        "PRAGMA case_sensitive_like(1)",
        "PRAGMA reverse_unordered_selects = ON",
        "PRAGMA writable_schema = ON",
        "CREATE TABLE u (id)",
        "CREATE VIRTUAL TABLE v USING fts5(text)",
        "ALTER TABLE t ADD COLUMN more TEXT",
        "REINDEX",
        "ANALYZE",
        "VACUUM",
        "DROP TABLE t",
    ] {
        let error = read.execute_unprepared(sql).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{sql}: {error}");
        let error = read.query_all_raw(select(sql)).await.unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{sql}: {error}");
    }
    // All of that cost nothing.
    assert_eq!(server.requests().total(), before);
    // Functions with effects are there in SQLite, and the engine refuses them.
    for sql in [
        "SELECT load_extension('x')",
        "SELECT writefile('x', 'y')",
        "SELECT edit('x')",
        "SELECT fts3_tokenizer('simple', x'0000000000000000')",
        "SELECT sqlite_log(1, 'x')",
    ] {
        let error = read.query_all_raw(select(sql)).await.unwrap_err();
        let refused = [ErrorKind::Unsupported, ErrorKind::Statement];
        assert!(refused.contains(&kind_of(&error)), "{sql}: {error}");
    }
    for sql in [
        "SELECT id FROM t",
        "VALUES (1)",
        "WITH n AS (SELECT 1 AS id) SELECT id FROM n",
        "PRAGMA table_info(t)",
        "EXPLAIN QUERY PLAN SELECT id FROM t",
    ] {
        assert!(!read.query_all_raw(select(sql)).await.unwrap().is_empty(), "{sql}");
    }
    assert_eq!(count(&data, "t").await, 1);
}

#[tokio::test]
async fn a_bookmark_is_taken_before_a_change_and_kept() {
    let server = server().await;
    let context = context();
    let acme = tenant("acme");
    let plain = factory(&server, &context);
    plain.provision(&acme).await.unwrap();
    plain.maintain(&acme, MaintenanceMode::Shared).await.unwrap().close().await;
    assert!(!placement(&context, &acme).await.attributes.contains_key("bookmark"));

    let keeping = builder(&server, &context).with_bookmark_before_migrations(true).build().unwrap();
    let seen = keeping.describe(&acme).await.unwrap();
    let work = keeping.maintain_described(&acme, &seen);
    let (counts, maintenance) = requests(&server, [Kind::Bookmark], work).await;
    maintenance.unwrap().close().await;
    assert_eq!(counts, [1]);
    let stored = placement(&context, &acme).await;
    let bookmark = keeping.client().bookmark(&stored.attributes["uuid"], None).await.unwrap();
    assert_eq!(stored.attributes["bookmark"], bookmark.0);
    let at = &stored.attributes["bookmark_at"];
    chrono::DateTime::parse_from_rfc3339(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    // It outlives the next look, and the database is found as before.
    keeping.provision(&acme).await.unwrap();
    assert_eq!(placement(&context, &acme).await, stored);

    // Where none can be had, nothing is opened.
    server.faults().add(Rule::new(Fault::error(403, 10000, "no")).kind(Kind::Bookmark));
    let error = keeping.maintain(&acme, MaintenanceMode::Shared).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

/// What an application makes of a handle.
struct Notes(DataAdapters);

#[tokio::test]
async fn the_factory_is_made_from_settings_and_makes_the_applications_adapters() {
    let server = server().await;
    let acme = tenant("acme");
    let settings = json!({
        "account_id": server.account_id(),
        "api_token": server.api_token(),
        "api_url": server.api_url(),
        "database_prefix": "tenant_",
    });
    let context = context();
    let linked = Registry::from_linked().unwrap();
    let factory = linked.create("d1", settings, context.clone()).unwrap();
    factory.provision(&acme).await.unwrap();
    let entries = {
        use futures_util::TryStreamExt as _;
        factory.list().try_collect::<Vec<_>>().await.unwrap()
    };
    assert_eq!(entries[0].name.as_str(), "tenant_acme");

    let factory = crate::support::factory(&server, &context).create_adapters(Notes);
    let data = factory.get_adapters(&acme).await.unwrap();
    let notes = data.adapters::<Notes>().unwrap();
    assert_eq!(notes.0.tenant(), &acme);
}

#[tokio::test]
async fn secrets_are_in_no_error_and_no_debug() {
    let server = server().await;
    let factory = factory(&server, &context());
    let data = opened(&factory).await;
    server.faults().add(Rule::new(Fault::error(401, 10000, server.api_token())));
    let error = execute(&data, "SELECT 1").await.unwrap_err();
    let error = Error::in_db_err(&error).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    for text in [format!("{factory:?} {data:?} {error:?} {:?}", factory.client()), error.to_chain()]
    {
        assert!(!text.contains(server.api_token()), "{text}");
    }
}

/// Two of the same process and one of another, at one server.
#[tokio::test]
async fn tenants_are_kept_apart_while_used_at_once() {
    let server: D1 = server().await;
    let context = context();
    let (one, two) = (factory(&server, &context), factory(&server, &context));
    let ids: Vec<_> = (0..8).map(|n| tenant(&format!("t{n}"))).collect();
    for (n, id) in ids.iter().enumerate() {
        one.provision(id).await.unwrap();
        let data = one.get_adapters(id).await.unwrap();
        execute(&data, "CREATE TABLE own (n INTEGER)").await.unwrap();
        execute(&data, &format!("INSERT INTO own VALUES ({n})")).await.unwrap();
    }
    let reads = (0_usize..80).map(|call| {
        let (factory, id) = (if call % 2 == 0 { &one } else { &two }, &ids[call % ids.len()]);
        async move {
            let data = factory.get_adapters(id).await.unwrap();
            let row = data.query_one_raw(select("SELECT n FROM own")).await.unwrap().unwrap();
            assert_eq!(row.try_get::<i64>("", "n").unwrap(), i64::try_from(call % 8).unwrap());
        }
    });
    join_all(reads).await;
}
