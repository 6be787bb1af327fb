//! What a restore leaves when something goes wrong on the way.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use mt_conformance::{MemoryPlacements, PlacementFault};
use mt_core::{
    DataAdapters, DatabaseFactory as _, DeploymentId, ErrorKind, FactoryContext, Generation,
    Placement, PlacementStore, Result, TenantId,
};
use mt_devservers::{
    Turso,
    turso::{Fault, Rule},
};
use mt_turso::{
    Authorization, CreateDatabase, Expiration, PlatformClient, TokenScope, TursoFactory,
};

use crate::{
    backup::{Copy, copy_of, provisioned},
    support::{context, count, execute, factory, kind_of, query, server, tenant},
};

/// A tenant with one note at the time of the copy, and two now.
struct Trial {
    server: Turso,
    factory: TursoFactory,
    tenant: TenantId,
    copy: Copy,
}

impl Trial {
    async fn start(context: &FactoryContext) -> Self {
        let server = server().await;
        let factory = factory(&server, context);
        let tenant = tenant("acme");
        let notes = ["CREATE TABLE note (text TEXT)", "INSERT INTO note VALUES ('old')"];
        provisioned(&factory, &tenant, &notes).await;
        let copy = copy_of(&factory, &tenant).await;
        let data = factory.get_adapters(&tenant).await.unwrap();
        execute(&data, "INSERT INTO note VALUES ('new')").await.unwrap();
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
        assert_eq!(self.generation().await.get(), generation);
        assert_eq!(self.names().await.len(), 1);
    }

    /// Of all databases that are there.
    async fn names(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let databases = self.factory.platform().databases(mt_turso::DatabaseFilter::default());
        databases.map_ok(|database| database.name).try_collect().await.unwrap()
    }

    /// The name that the tenant's next database will have.
    async fn next_name(&self) -> String {
        let elsewhere = Self::start(&context()).await;
        elsewhere.restore().await.unwrap();
        elsewhere.factory.describe(&elsewhere.tenant).await.unwrap().name.to_string()
    }

    async fn make(&self, name: &str) {
        let create = CreateDatabase::new(name, self.server.group());
        assert!(self.factory.platform().create_database(&create).await.unwrap().created);
    }
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
async fn an_upload_that_fails_leaves_the_old_database() {
    let trial = Trial::start(&context()).await;
    let refused = Rule::new(Fault::error(400, "the file is torn")).path("/v1/upload");
    let hits = trial.server.data_faults().add(refused);
    trial.restore().await.unwrap_err();
    assert_eq!(hits.count(), 1);
    trial.require(2, 1).await;
    trial.server.data_faults().clear();
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_looked_at() {
    let trial = Trial::start(&context()).await;
    for fault in [Fault::Dropped, Fault::Refused] {
        trial.server.data_faults().add(Rule::new(fault).path("/v1/upload").times(1));
        trial.restore().await.unwrap();
    }
    trial.require(1, 3).await;
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
async fn a_suspended_tenant_is_restored() {
    let trial = Trial::start(&context()).await;
    trial.factory.suspend(&trial.tenant).await.unwrap();
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
}

#[tokio::test]
async fn another_installations_database_is_not_replaced() {
    let trial = Trial::start(&context()).await;
    let other = DeploymentId::random();
    // Another installation's database under this tenant's name.
    let stranger =
        FactoryContext::new(other).with_placements(Arc::new(MemoryPlacements::default()));
    let stranger = factory(&trial.server, &stranger);
    let error = trial.copy.restore(&stranger, &trial.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{}", error.to_chain());
    trial.require(2, 1).await;
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

/// A handle of another process, which does not notice at once.
async fn elsewhere(trial: &Trial, context: &FactoryContext) -> DataAdapters {
    factory(&trial.server, context).get_adapters(&trial.tenant).await.unwrap()
}

#[tokio::test]
async fn nobody_writes_to_what_was_replaced() {
    let context = context();
    let trial = Trial::start(&context).await;
    let data = elsewhere(&trial, &context).await;
    // The old database cannot be removed.
    let delete = Rule::new(Fault::error(500, "not now")).method("DELETE");
    let hits = trial.server.api_faults().add(delete);
    trial.restore().await.unwrap();
    assert!(hits.count() > 0);
    let error = execute(&data, "INSERT INTO note VALUES ('lost')").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::TenantNotActive);
    assert_eq!(trial.names().await.len(), 2);
}

#[tokio::test]
async fn a_switch_that_is_refused_leaves_the_old_database_as_it_was() {
    let store = Arc::new(MemoryPlacements::default());
    let context =
        FactoryContext::new(DeploymentId::random()).with_placements(Arc::clone(&store) as _);
    let trial = Trial::start(&context).await;
    let data = elsewhere(&trial, &context).await;
    store.fail(Some(PlacementFault::NotMade));
    trial.restore().await.unwrap_err();
    execute(&data, "INSERT INTO note VALUES ('newer')").await.unwrap();
    trial.require(3, 1).await;

    let platform = trial.factory.platform();
    let name = trial.factory.describe(&trial.tenant).await.unwrap().name;
    trial.factory.suspend(&trial.tenant).await.unwrap();
    trial.restore().await.unwrap_err();
    let found = platform.database(name.as_str()).await.unwrap().unwrap();
    assert!(found.block_reads && found.block_writes, "{found:?}");
}

#[tokio::test]
async fn two_restores_of_a_tenant_take_turns() {
    let trial = Trial::start(&context()).await;
    // The second begins while the first has made its database and sends the copy.
    let slow = Rule::new(Fault::Slow(Duration::from_millis(300))).path("/v1/upload");
    trial.server.data_faults().add(slow);
    let (one, other) = tokio::join!(trial.restore(), trial.restore());
    one.unwrap();
    other.unwrap();
    trial.require(1, 3).await;
}

/// A store at which another process steps in between two questions.
#[derive(Debug, Default)]
struct Interrupted {
    inner: MemoryPlacements,
    /// At which question from now, whose platform it uses, and the name it makes anew.
    by: Mutex<Option<(u32, PlatformClient, String)>>,
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
        if let Some((_, platform, name)) = now {
            let group = platform.database(&name).await.unwrap().unwrap().group.unwrap();
            platform.delete_database(&name).await.unwrap();
            let create = CreateDatabase::new(&name, &group);
            assert!(platform.create_database(&create).await.unwrap().created);
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
    let platform = trial.factory.platform().clone();
    // The first question is where the tenant is, the second comes after the look at the leftover.
    *store.by.lock().unwrap() = Some((2, platform.clone(), name.clone()));
    let error = trial.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.to_chain());
    assert!(store.by.lock().unwrap().is_none());
    assert!(platform.database(&name).await.unwrap().is_some());
    assert_eq!(trial.generation().await, Generation::FIRST);
}

#[tokio::test]
async fn a_restore_that_dies_on_the_way_can_be_repeated_or_removed() {
    for upload in [Fault::Slow(Duration::from_secs(60)), Fault::Late(Duration::from_secs(60))] {
        let trial = Trial::start(&context()).await;
        let rule = || Rule::new(upload.clone()).path("upload").times(1);
        for newcomer in [false, true] {
            let whose = if newcomer { tenant("newcomer") } else { trial.tenant.clone() };
            let hits = trial.server.data_faults().add(rule());
            // Given up once it is on its way: nothing of ours runs any more, as after a kill.
            let restore = trial.copy.restore(&trial.factory, &whose);
            let dies = async {
                while hits.count() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                restored = restore => panic!("{restored:?}"),
                () = dies => {}
            }
            trial.server.data_faults().clear();
            if newcomer {
                // What is there is not the tenant's, and not in the way of the copy either.
                trial.copy.restore(&trial.factory, &whose).await.unwrap();
                drop(trial.factory.get_adapters(&whose).await.unwrap());
                trial.factory.deprovision(&whose).await.unwrap();
                let error = trial.factory.describe(&whose).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TenantNotFound);
            } else {
                trial.restore().await.unwrap();
                trial.require(1, 2).await;
            }
        }
    }
}

#[tokio::test]
async fn what_a_dead_restore_left_half_filled_is_its_own() {
    let context = context();
    let trial = Trial::start(&context).await;
    let next = trial.next_name().await;
    trial.make(&next).await;
    let platform = trial.factory.platform();
    let place = platform.database(&next).await.unwrap().unwrap();
    let scope = TokenScope::Database(&next);
    let hour = Expiration::After(Duration::from_secs(3_600));
    let token = platform.mint_token(scope, Authorization::FullAccess, hour).await.unwrap();
    query(&place.hostname, token.expose(), "CREATE TABLE note (text TEXT)").await;
    let before = context.placements.get(&trial.tenant).await.unwrap().unwrap();
    let mut arriving = before.clone();
    arriving.attributes.insert("arriving_database_id".to_owned(), place.id);
    // Its tables are those of somebody, for all that can be seen.
    let error = trial.factory.deprovision(&trial.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    let error = trial.restore().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    context.placements.compare_and_set(&trial.tenant, &before, &arriving).await.unwrap();
    trial.restore().await.unwrap();
    trial.require(1, 2).await;
}
