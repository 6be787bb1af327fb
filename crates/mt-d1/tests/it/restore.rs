//! What a restore leaves when something goes wrong on the way.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mt_conformance::{MemoryPlacements, PlacementFault};
use mt_core::{
    DatabaseFactory as _, DeploymentId, ErrorKind, FactoryContext, Generation, Placement,
    PlacementStore, Result, TenantId,
};
use mt_d1::{CreateDatabase, Creation, D1Client, D1Factory};
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use mt_sqlite::SqliteFactory;

use crate::{
    backup::{Copy, copy_of, provisioned},
    support::{context, count, execute, factory, placement, query, server, tenant, uuid},
};

/// A tenant with one note at the time of the copy, and two now.
struct Trial {
    server: D1,
    factory: D1Factory,
    tenant: TenantId,
    copy: Copy,
}

const NOTES: [&[&str]; 2] = [
    &["CREATE TABLE note (text TEXT)", "INSERT INTO note VALUES ('old')"],
    &[
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text BLOB)",
        "INSERT INTO note WITH n AS (SELECT value FROM json_each('[' || rtrim(replace(hex(zeroblob(600)), '00', '0,'), ',') || ']')) SELECT row_number() OVER (), randomblob(9000) FROM n",
    ],
];
const SMALL: usize = 0;
/// More than goes in one request.
const BIG: usize = 1;

impl Trial {
    async fn start(context: &FactoryContext) -> Self {
        Self::of(context, SMALL).await
    }

    async fn of(context: &FactoryContext, size: usize) -> Self {
        let server = server().await;
        let factory = factory(&server, context);
        let tenant = tenant("acme");
        let data = provisioned(&factory, &tenant, NOTES[size]).await;
        let copy = copy_of(&factory, &tenant).await;
        execute(&data, "INSERT INTO note (text) VALUES ('new')").await.unwrap();
        Self { server, factory, tenant, copy }
    }

    async fn restore(&self) -> Result<()> {
        self.copy.restore(&self.factory, &self.tenant).await
    }

    async fn generation(&self) -> Generation {
        self.factory.describe(&self.tenant).await.unwrap().stamp.generation
    }

    /// The tenant has so many notes, in its `generation`th database, and no other is there.
    async fn require(&self, notes: i64, generation: u32) {
        let data = self.factory.get_adapters(&self.tenant).await.unwrap();
        assert_eq!(count(&data, "note").await, notes);
        assert_eq!(count(&data, "sqlite_master WHERE name = '_mt_arrival'").await, 0);
        assert_eq!(self.generation().await.get(), generation);
        assert_eq!(self.names().await.len(), 1);
    }

    async fn names(&self) -> Vec<String> {
        let databases = self.factory.client().databases("");
        databases.map_ok(|database| database.name).try_collect().await.unwrap()
    }

    /// The name that the tenant's next database will have.
    async fn next_name(&self) -> String {
        let elsewhere = Self::start(&context()).await;
        elsewhere.restore().await.unwrap();
        elsewhere.factory.describe(&elsewhere.tenant).await.unwrap().name.to_string()
    }

    async fn make(&self, name: &str) {
        make(self.factory.client(), name).await;
    }
}

async fn make(client: &D1Client, name: &str) {
    let created = client.create(&CreateDatabase::new(name)).await.unwrap();
    assert!(matches!(created, Creation::Created(_)), "{created:?}");
}

#[tokio::test]
async fn a_copy_takes_the_place_of_the_database() {
    let trial = Trial::start(&context()).await;
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
    trial.restore().await.unwrap();
    trial.require(1, 3).await;
}

#[tokio::test]
async fn a_large_copy_comes_in_parts() {
    let trial = Trial::of(&context(), BIG).await;
    let before = trial.server.requests().of_kind(Kind::Raw);
    trial.restore().await.unwrap_or_else(|e| panic!("{}", e.to_chain()));
    // 5.4 MB of blobs, in hexadecimal; and a look.
    let requests = trial.server.requests().of_kind(Kind::Raw) - before;
    assert!((4..=6).contains(&requests), "{requests}");
    trial.require(600, 2).await;
    let again = copy_of(&trial.factory, &trial.tenant).await;
    assert_eq!(again.manifest.rows, trial.copy.manifest.rows);
    let dump = |copy: &Copy| {
        let (_file, connection) = copy.open();
        let sum = "SELECT group_concat(hex(substr(text, 100, 20)) || id, '') FROM note";
        connection.query_row(sum, [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(dump(&again), dump(&trial.copy));
}

#[tokio::test]
async fn parts_whose_answers_are_lost_arrive_once() {
    for size in [SMALL, BIG] {
        let trial = Trial::of(&context(), size).await;
        let notes = i64::try_from(trial.copy.manifest.rows["note"]).unwrap();
        let faults = [
            Fault::Dropped,
            Fault::Torn,
            Fault::Refused,
            Fault::internal(),
            Fault::Repeated,
            Fault::html(504),
        ];
        let few = if size == BIG { 2 } else { faults.len() };
        for (generation, fault) in (2..).zip(faults.into_iter().take(few)) {
            let name = format!("{fault:?}");
            let hits = trial.server.faults().add(Rule::new(fault).kind(Kind::Raw).times(2));
            trial.restore().await.unwrap_or_else(|e| panic!("{name}: {}", e.to_chain()));
            assert_eq!(hits.count(), 2);
            trial.server.faults().clear();
            trial.require(notes, generation).await;
        }
    }
}

#[tokio::test]
async fn what_fails_on_the_way_leaves_the_old_database() {
    let trial = Trial::start(&context()).await;
    for (kind, fault) in [
        (Kind::Create, Fault::quota()),
        (Kind::Create, Fault::error(400, 7400, "no")),
        (Kind::Raw, Fault::error(400, 7500, "near \"x\": syntax error: SQLITE_ERROR")),
        (Kind::Raw, Fault::FailedResult(0, "no such table: x: SQLITE_ERROR".to_owned())),
        (Kind::Raw, Fault::failed_envelope(7500, "no such table: x: SQLITE_ERROR")),
    ] {
        let name = format!("{kind:?} {fault:?}");
        let hits = trial.server.faults().add(Rule::new(fault).kind(kind));
        trial.restore().await.unwrap_err();
        assert!(hits.count() > 0, "{name}");
        trial.server.faults().clear();
        trial.require(2, 1).await;
    }
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
}

#[tokio::test]
async fn a_copy_that_is_not_what_its_manifest_says_changes_nothing() {
    let mut trial = Trial::start(&context()).await;
    let good = trial.copy.manifest.clone();
    trial.copy.manifest.sha256 = "0".repeat(64);
    assert_eq!(trial.restore().await.unwrap_err().kind(), ErrorKind::Corrupt);
    trial.copy.manifest.clone_from(&good);
    trial.copy.manifest.rows.insert("note".to_owned(), 7);
    assert_eq!(trial.restore().await.unwrap_err().kind(), ErrorKind::Corrupt);
    trial.copy.manifest.clone_from(&good);
    trial.copy.bytes.truncate(4096);
    assert_eq!(trial.restore().await.unwrap_err().kind(), ErrorKind::Corrupt);
    trial.require(2, 1).await;
    let other = tenant("other");
    let mut source = trial.copy.bytes.as_slice();
    let options = mt_core::RestoreOptions::default();
    let error = trial.factory.restore(&other, &good, &mut source, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
}

#[tokio::test]
async fn what_a_restore_that_died_left_is_cleared() {
    let trial = Trial::start(&context()).await;
    let name = trial.next_name().await;
    trial.make(&name).await;
    trial.restore().await.unwrap();
    assert_eq!(trial.factory.describe(&trial.tenant).await.unwrap().name.as_str(), name);
    trial.require(1, 2).await;
}

#[tokio::test]
async fn what_a_dead_restore_left_half_filled_is_its_own() {
    let context = context();
    let trial = Trial::start(&context).await;
    let next = trial.next_name().await;
    trial.make(&next).await;
    let half = uuid(&trial.factory, &next).await;
    query(&trial.server, &half, "CREATE TABLE note (text TEXT)").await;
    // Its tables are those of somebody, for all that can be seen.
    assert_eq!(trial.restore().await.unwrap_err().kind(), ErrorKind::NameTaken);
    let before = placement(&context, &trial.tenant).await;
    let mut arriving = before.clone();
    arriving.attributes.insert("arriving_uuid".to_owned(), half);
    context.placements.compare_and_set(&trial.tenant, &before, &arriving).await.unwrap();
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
}

#[tokio::test]
async fn somebody_elses_database_under_the_new_name_stays() {
    let trial = Trial::start(&context()).await;
    let name = trial.next_name().await;
    // An installation with the same prefix, whose tenant is in its second database.
    let placements = MemoryPlacements::default();
    let first = Placement::derived(Generation::FIRST);
    let next = Placement::derived(Generation::FIRST.next());
    placements.compare_and_set(&trial.tenant, &first, &next).await.unwrap();
    let stranger =
        FactoryContext::new(DeploymentId::random()).with_placements(Arc::new(placements));
    let stranger = factory(&trial.server, &stranger);
    stranger.provision(&trial.tenant).await.unwrap();
    assert_eq!(stranger.describe(&trial.tenant).await.unwrap().name.as_str(), name);

    let error = trial.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken, "{}", error.to_chain());
    stranger.describe(&trial.tenant).await.unwrap();
    assert_eq!(trial.generation().await, Generation::FIRST);
}

#[tokio::test]
async fn another_installations_database_is_not_replaced() {
    let trial = Trial::start(&context()).await;
    // Another installation's database under this tenant's name.
    let stranger = factory(&trial.server, &context());
    let error = trial.copy.restore(&stranger, &trial.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{}", error.to_chain());
    trial.require(2, 1).await;
}

/// The copy of a tenant on SQLite in whose file `sql` was run past all handles.
async fn copy_of_file(files: &SqliteFactory, folder: &Path, tenant: &TenantId, sql: &str) -> Copy {
    files.provision(tenant).await.unwrap();
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .find(|path| path.to_string_lossy().contains(tenant.as_str()))
        .unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
    copy_of(files, tenant).await
}

#[tokio::test]
async fn lines_of_a_trigger_end_as_the_service_can_cut_them() {
    let trial = Trial::start(&context()).await;
    let folder = tempfile::tempdir().unwrap();
    let files = SqliteFactory::builder().with_directory(folder.path());
    let files = files.with_context(context()).build().unwrap();
    let windows = tenant("windows");
    let sql = "CREATE TABLE note (text TEXT);\r\n\
               CREATE TRIGGER t AFTER INSERT ON note BEGIN -- a\r\n  \
               UPDATE note SET text = 'a\r\nb' || new.text;\r\n\r\nEND;";
    let copy = copy_of_file(&files, folder.path(), &windows, sql).await;
    copy.restore(&trial.factory, &windows).await.unwrap();
    let data = trial.factory.get_adapters(&windows).await.unwrap();
    execute(&data, "INSERT INTO note VALUES ('c')").await.unwrap();
    assert_eq!(count(&data, "note WHERE text = 'a' || char(13, 10) || 'bc'").await, 1);
    let lines = "sqlite_master WHERE type = 'trigger' \
                 AND length(sql) - length(replace(sql, char(13, 10), '')) = 2";
    assert_eq!(count(&data, lines).await, 1);
}

#[tokio::test]
async fn what_the_service_does_not_take_is_refused_before_anything_is_made() {
    let trial = Trial::start(&context()).await;
    let folder = tempfile::tempdir().unwrap();
    let files = SqliteFactory::builder().with_directory(folder.path());
    let files = files.with_context(context()).build().unwrap();
    for (name, sql) in [
        (
            "dangling",
            "PRAGMA foreign_keys = OFF; CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES a); INSERT INTO a VALUES (1, 7)",
        ),
        ("contentless", "CREATE VIRTUAL TABLE a USING fts5 (b, content = '')"),
        ("module", "CREATE VIRTUAL TABLE a USING fts4 (b)"),
        ("service", "CREATE TABLE _cf_a (b)"),
        (
            "compound",
            "CREATE VIEW a AS SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6",
        ),
        (
            "cycle",
            "CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES a, c BLOB); INSERT INTO a VALUES (1, 2, zeroblob(3000000)), (2, 1, NULL)",
        ),
    ] {
        let whose = tenant(name);
        let copy = copy_of_file(&files, folder.path(), &whose, sql).await;
        let made = trial.server.requests().of_kind(Kind::Create);
        let error = copy.restore(&trial.factory, &whose).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {}", error.to_chain());
        assert_eq!(trial.server.requests().of_kind(Kind::Create), made, "{name}");
    }
}

#[tokio::test]
async fn without_a_store_that_can_change_nothing_is_restored() {
    let trial = Trial::start(&context()).await;
    let derived = factory(&trial.server, &FactoryContext::new(DeploymentId::random()));
    assert!(!derived.capabilities().restore && derived.capabilities().backup);
    let before = trial.server.requests().total();
    let error = trial.copy.restore(&derived, &trial.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(trial.server.requests().total(), before);
}

#[tokio::test]
async fn a_switch_whose_answer_is_lost_is_looked_up() {
    let store = Arc::new(MemoryPlacements::default());
    let context =
        FactoryContext::new(DeploymentId::random()).with_placements(Arc::clone(&store) as _);
    let trial = Trial::start(&context).await;
    store.fail(Some(PlacementFault::Made));
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
    store.fail(Some(PlacementFault::NotMade));
    assert_eq!(trial.restore().await.unwrap_err().kind(), ErrorKind::Unavailable);
    trial.require(1, 2).await;
}

#[tokio::test]
async fn handles_of_before_are_closed() {
    let trial = Trial::start(&context()).await;
    let data = trial.factory.get_adapters(&trial.tenant).await.unwrap();
    trial.restore().await.unwrap();
    execute(&data, "INSERT INTO note VALUES ('lost')").await.unwrap_err();
    trial.require(1, 2).await;
}

#[tokio::test]
async fn two_restores_of_a_tenant_take_turns() {
    let trial = Trial::start(&context()).await;
    // The second begins while the first has made its database and sends the copy.
    let slow = Rule::new(Fault::Slow(Duration::from_millis(300))).kind(Kind::Raw);
    trial.server.faults().add(slow);
    let (one, other) = tokio::join!(trial.restore(), trial.restore());
    one.unwrap();
    other.unwrap();
    trial.server.faults().clear();
    trial.require(1, 3).await;
}

/// A store at which another process steps in between two questions.
#[derive(Debug, Default)]
struct Interrupted {
    inner: MemoryPlacements,
    /// At which question from now, whose client it uses, and the name it makes anew.
    by: Mutex<Option<(u32, D1Client, String)>>,
}

#[async_trait]
impl PlacementStore for Interrupted {
    async fn get(&self, tenant: &TenantId) -> Result<Option<Placement>> {
        let now = {
            let mut by = self.by.lock().unwrap();
            if let Some((left, ..)) = by.as_mut() {
                *left -= 1;
            }
            by.take_if(|(left, ..)| *left == 0)
        };
        if let Some((_, client, name)) = now {
            let there = client.database_by_name(&name).await.unwrap().unwrap();
            client.delete(&there.uuid).await.unwrap();
            make(&client, &name).await;
        }
        self.inner.get(tenant).await
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
async fn what_another_process_has_just_made_is_no_leftover() {
    let store = Arc::new(Interrupted::default());
    let context =
        FactoryContext::new(DeploymentId::random()).with_placements(Arc::clone(&store) as _);
    let trial = Trial::start(&context).await;
    let name = trial.next_name().await;
    trial.make(&name).await;
    let client = trial.factory.client().clone();
    // The first question is where the tenant is, the second comes after the look at the leftover.
    *store.by.lock().unwrap() = Some((2, client.clone(), name.clone()));
    let error = trial.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.to_chain());
    assert!(store.by.lock().unwrap().is_none());
    assert!(client.database_by_name(&name).await.unwrap().is_some());
    assert_eq!(trial.generation().await, Generation::FIRST);
}

#[tokio::test]
async fn a_restore_that_dies_on_the_way_can_be_repeated_or_removed() {
    for stuck in [Fault::Slow(Duration::from_secs(60)), Fault::Late(Duration::from_secs(60))] {
        let trial = Trial::of(&context(), BIG).await;
        for newcomer in [false, true] {
            let whose = if newcomer { tenant("newcomer") } else { trial.tenant.clone() };
            let creates = trial.server.requests().of_kind(Kind::Create);
            // Given up once it is on its way: nothing of ours runs any more, as after a kill.
            let restore = trial.copy.restore(&trial.factory, &whose);
            let dies = async {
                while trial.server.requests().of_kind(Kind::Create) == creates {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let raw = trial.server.requests().of_kind(Kind::Raw);
                // Of the parts, the first has arrived.
                while trial.server.requests().of_kind(Kind::Raw) < raw + 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let hits =
                    trial.server.faults().add(Rule::new(stuck.clone()).kind(Kind::Raw).times(1));
                while hits.count() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                restored = restore => panic!("{restored:?}"),
                () = dies => {}
            }
            trial.server.faults().clear();
            if newcomer {
                // What is there is not the tenant's, and not in the way of the copy either.
                trial.copy.restore(&trial.factory, &whose).await.unwrap();
                let data = trial.factory.get_adapters(&whose).await.unwrap();
                assert_eq!(count(&data, "note").await, 600);
                drop(data);
                trial.factory.deprovision(&whose).await.unwrap();
                let error = trial.factory.describe(&whose).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TenantNotFound);
            } else {
                trial.restore().await.unwrap();
                trial.require(600, 2).await;
            }
        }
    }
}

#[tokio::test]
async fn nobody_is_let_in_while_a_restore_goes_on_that_nobody_waits_for() {
    let trial = Trial::of(&context(), BIG).await;
    let slow = Rule::new(Fault::Slow(Duration::from_millis(500))).kind(Kind::Delete);
    let hits = trial.server.faults().add(slow);
    let switched = async {
        while hits.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        restored = trial.restore() => panic!("{restored:?}"),
        () = switched => {}
    }
    let error = trial.factory.get_adapters(&trial.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    trial.require(600, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_engine_leaves_a_whole_database() {
    let context = context();
    let trial = Trial::of(&context, BIG).await;
    for delay in [0, 40, 150, 400] {
        let restoring = trial.restore();
        let killing = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            trial.server.workerd().kill().unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            trial.server.workerd().restart().await.unwrap();
        };
        let before = placement(&context, &trial.tenant).await.generation;
        let (restored, ()) = tokio::join!(restoring, killing);
        let (notes, generation) = match restored {
            Ok(()) => (600, before.next()),
            Err(_) if before == Generation::FIRST => (601, before),
            Err(_) => (600, before),
        };
        let data = trial.factory.get_adapters(&trial.tenant).await.unwrap();
        assert_eq!(count(&data, "note").await, notes, "after {delay} ms");
        assert_eq!(trial.generation().await, generation);
    }
    trial.restore().await.unwrap();
    let last = trial.generation().await.get();
    trial.require(600, last).await;
}
