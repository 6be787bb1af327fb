//! Databases being made and removed, while the service does what services do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{TryStreamExt as _, future::join_all};
use mt_core::{
    Connection, DatabaseFactory as _, Error, ErrorKind, FactoryContext, Result, SchemaTemplate,
};
use mt_d1::{CreateDatabase, D1Config, D1Factory, Jurisdiction, LocationHint};
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use serde_json::Value;

use crate::support::{
    ask, builder, context, count, execute, factory, placement, query, requests, select, server,
    tenant, uuid, without_store,
};

/// A schema that is one statement.
#[derive(Debug)]
struct Schema(&'static str);

const GOOD: Schema = Schema("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY)");
const BROKEN: Schema = Schema("INSERT INTO no_such_table VALUES (1)");

#[async_trait]
impl SchemaTemplate for Schema {
    fn fingerprint(&self) -> &str {
        self.0
    }

    fn ledger(&self) -> &'static str {
        "ledger"
    }

    async fn apply(&self, connection: &Connection) -> Result<()> {
        let Connection::Driver(driver) = connection else { panic!("not a driver") };
        let failed =
            |e| Error::from_db_err(e, ErrorKind::MigrationFailed, "the schema cannot be applied");
        let refused = driver.batch(vec![select(self.0)]).await.map(drop).map_err(failed);
        // As a runner does: what the database answered is a failed migration.
        refused.map_err(|e| match e.kind() {
            ErrorKind::Statement => {
                Error::new(ErrorKind::MigrationFailed, "the schema is wrong").with_source(e)
            }
            _ => e,
        })
    }
}

fn with_schema(context: &FactoryContext, schema: Schema) -> FactoryContext {
    context.clone().with_template(Arc::new(schema))
}

/// Gives up soon, where the service is out of order for good.
fn hasty(server: &D1, context: &FactoryContext) -> D1Factory {
    let mut config = D1Config::default();
    config.request_timeout_ms = 1_000;
    config.operation_timeout_ms = 2_000;
    config.ready_timeout_ms = 1_000;
    config.api_url = server.api_url();
    config.account_id = server.account_id().to_owned();
    config.api_token = server.api_token().to_owned();
    D1Factory::builder().with_config(config).with_context(context.clone()).build().unwrap()
}

#[tokio::test]
async fn whatever_becomes_of_an_answer_there_is_one_database() {
    let server = server().await;
    let factory = factory(&server, &with_schema(&context(), GOOD));
    let faults = [
        Fault::Dropped,
        Fault::Torn,
        Fault::WrongJson,
        Fault::Refused,
        Fault::Repeated,
        Fault::html(502),
        Fault::html(504),
        Fault::internal(),
        Fault::failed_envelope(7500, "internal error; reference = abc"),
        Fault::too_many_requests(1),
    ];
    let mut made = 0;
    for kind in [Kind::Create, Kind::Raw] {
        for fault in &faults {
            let id = tenant(&format!("t{made}"));
            let hits = server.faults().add(Rule::new(fault.clone()).kind(kind).times(1));
            let outcome = factory.provision(&id).await;
            assert_eq!(hits.count(), 1, "{kind:?} {fault:?}");
            server.faults().clear();
            if let Err(error) = outcome {
                let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
                assert!(kinds.contains(&error.kind()), "{kind:?} {fault:?}: {error:?}");
                factory.provision(&id).await.unwrap();
            }
            let data = factory.get_adapters(&id).await.unwrap();
            execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
            made += 1;
        }
    }
    let listed: Vec<_> = factory.list().try_collect().await.unwrap();
    assert_eq!(listed.len(), made);
}

#[tokio::test]
async fn a_create_that_worked_and_timed_out_is_adopted() {
    let server = server().await;
    let factory = hasty(&server, &context());
    let late = Fault::Late(Duration::from_secs(60));
    let hits = server.faults().add(Rule::new(late).kind(Kind::Create).times(1));
    let acme = tenant("acme");
    if let Err(error) = factory.provision(&acme).await {
        let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
    assert_eq!(hits.count(), 1);
    factory.provision(&acme).await.unwrap();
    factory.get_adapters(&acme).await.unwrap();
    let listed: Vec<_> = factory.list().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_new_database_is_waited_for_until_it_is_known() {
    let server = server().await;
    let schema = with_schema(&context(), GOOD);
    let factory = factory(&server, &schema);
    let hits = server.faults().add(Rule::new(Fault::Hidden).kind(Kind::Raw).times(3));
    factory.provision(&tenant("acme")).await.unwrap();
    assert_eq!(hits.count(), 3);
    server.faults().clear();
    assert_eq!(count(&factory.get_adapters(&tenant("acme")).await.unwrap(), "t").await, 0);

    // For good, it is told as what may be repeated.
    server.faults().add(Rule::new(Fault::Hidden).kind(Kind::Raw));
    let hasty = hasty(&server, &schema);
    let error = hasty.provision(&tenant("globex")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    server.faults().clear();
    hasty.provision(&tenant("globex")).await.unwrap();
    hasty.get_adapters(&tenant("globex")).await.unwrap();
}

#[tokio::test]
async fn a_full_account_is_a_quota() {
    let server = D1::builder().quota(1).start().await.unwrap();
    let context = without_store();
    factory(&server, &context).provision(&tenant("acme")).await.unwrap();
    // A process of its own, which has nothing in memory.
    let factory = factory(&server, &context);
    let error = factory.provision(&tenant("globex")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error:?}");
    assert_eq!((error.tenant(), error.is_transient()), (Some(&tenant("globex")), false));
    // What is there is still there, and can be asked for again: even where the account's limit is
    // looked at before the name is.
    server.faults().add(Rule::new(Fault::quota()).kind(Kind::Create));
    factory.provision(&tenant("acme")).await.unwrap();
}

#[tokio::test]
async fn many_at_once_make_one() {
    let server = server().await;
    let context = with_schema(&context(), GOOD);
    let factories: Vec<Arc<D1Factory>> =
        (0..4).map(|_| Arc::new(factory(&server, &context))).collect();
    let acme = tenant("acme");
    let makers = factories.iter().flat_map(|factory| [factory, factory]).map(|factory| {
        let (factory, acme) = (Arc::clone(factory), acme.clone());
        tokio::spawn(async move { factory.provision(&acme).await })
    });
    for made in join_all(makers).await {
        made.unwrap().unwrap();
    }
    let data = factories[0].get_adapters(&acme).await.unwrap();
    assert_eq!(data.stamp().tenant, acme);
    execute(&data, "INSERT INTO t VALUES (1)").await.unwrap();
    let listed: Vec<_> = factories[0].list().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn provisioning_costs_two_requests_and_opening_one() {
    let server = server().await;
    let context = with_schema(&context(), GOOD);
    let here = factory(&server, &context);
    let acme = tenant("acme");
    let (counts, made) = requests(&server, [Kind::Create, Kind::Raw], here.provision(&acme)).await;
    made.unwrap();
    assert_eq!(counts, [1, 1]);
    let stored = placement(&context, &acme).await;
    assert_eq!(stored.attributes["uuid"], uuid(&here, "tenant_acme").await);
    assert!(stored.secret.is_none());

    // A process of its own, without anything in memory, asks the store alone.
    let other = factory(&server, &context);
    for work in [other.provision(&acme), Box::pin(async { other.describe(&acme).await.map(drop) })]
    {
        let (counts, done) = requests(&server, [Kind::Raw], work).await;
        done.unwrap();
        assert_eq!(counts, [1]);
    }
    let info = other.describe(&acme).await.unwrap();
    assert!(info.size_bytes.is_some_and(|size| size > 4_096), "{info:?}");
    let (counts, opened) = requests(&server, [Kind::Raw], here.get_adapters(&acme)).await;
    drop(opened.unwrap());
    assert_eq!(counts, [1]);

    let (counts, removed) =
        requests(&server, [Kind::Get, Kind::Raw, Kind::Delete], other.deprovision(&acme)).await;
    removed.unwrap();
    // Its name, and the next generation's, which a restore that died may have left.
    assert_eq!(counts, [2, 1, 1]);
}

#[tokio::test]
async fn without_a_store_a_name_is_looked_up_once() {
    let server = server().await;
    let context = without_store();
    let here = factory(&server, &context);
    let acme = tenant("acme");
    here.provision(&acme).await.unwrap();
    let other = factory(&server, &context);
    for expected in [[1, 1], [0, 1]] {
        let work = other.get_adapters(&acme);
        let (counts, opened) = requests(&server, [Kind::Get, Kind::Raw], work).await;
        drop(opened.unwrap());
        assert_eq!(counts, expected);
    }
    let (counts, removed) =
        requests(&server, [Kind::Get, Kind::Raw, Kind::Delete], other.deprovision(&acme)).await;
    removed.unwrap();
    assert_eq!(counts, [1, 1, 1]);
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_taken() {
    let server = server().await;
    let (context, theirs) = (context(), context());
    let (ours, other) = (factory(&server, &context), factory(&server, &theirs));
    // Another deployment's.
    other.provision(&tenant("acme")).await.unwrap();
    // Nobody's, with a table.
    ours.client().create(&CreateDatabase::new("tenant_globex")).await.unwrap();
    let globex = uuid(&ours, "tenant_globex").await;
    query(&server, &globex, "CREATE TABLE precious (id INTEGER)").await;
    for id in ["acme", "globex"] {
        let error = ours.provision(&tenant(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken, "{id}: {error:?}");
        assert_eq!(error.tenant(), Some(&tenant(id)));
        for refused in [
            ours.get_adapters(&tenant(id)).await.map(drop).unwrap_err(),
            ours.deprovision(&tenant(id)).await.unwrap_err(),
        ] {
            assert_eq!(refused.kind(), ErrorKind::ForeignDatabase, "{id}: {refused:?}");
        }
    }
    other.get_adapters(&tenant("acme")).await.unwrap();
    let tables = "SELECT name FROM sqlite_master WHERE name NOT LIKE '_cf%'";
    let tables = query(&server, &globex, tables).await;
    assert_eq!(tables["result"][0]["results"]["rows"], serde_json::json!([["precious"]]));

    // An empty one is adopted.
    ours.client().create(&CreateDatabase::new("tenant_initech")).await.unwrap();
    ours.provision(&tenant("initech")).await.unwrap();
    ours.get_adapters(&tenant("initech")).await.unwrap();
}

/// A stamp that somebody removed makes a tenant's rows nobody's; they are no free database.
#[tokio::test]
async fn what_has_lost_its_stamp_is_not_given_to_another() {
    let server = server().await;
    let schema = || with_schema(&context(), GOOD);
    let (ours, other) = (factory(&server, &schema()), factory(&server, &schema()));
    let tenants = ["row", "view", "ledger", "none"].map(tenant);
    for (id, left) in tenants.iter().zip([
        "INSERT INTO t VALUES (1)",
        "CREATE VIEW v AS SELECT 1",
        "INSERT INTO ledger VALUES ('m1', 0)",
        "SELECT 1",
    ]) {
        other.provision(id).await.unwrap();
        let database = uuid(&other, &format!("tenant_{id}")).await;
        query(&server, &database, left).await;
        query(&server, &database, "DELETE FROM _mt_tenant").await;
        if id.as_str() != "row" {
            query(&server, &database, "DROP TABLE t").await;
        }
    }
    let (free, taken) = tenants.split_last().unwrap();
    for id in taken {
        let error = ours.provision(id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken, "{id}: {error:?}");
        for refused in [
            ours.get_adapters(id).await.map(drop).unwrap_err(),
            ours.describe(id).await.map(drop).unwrap_err(),
            ours.deprovision(id).await.unwrap_err(),
            other.deprovision(id).await.unwrap_err(),
        ] {
            assert_eq!(refused.kind(), ErrorKind::ForeignDatabase, "{id}: {refused:?}");
        }
        uuid(&ours, &format!("tenant_{id}")).await;
    }
    // With the tables of a stamp and a ledger and nothing in them there is nothing to lose.
    ours.provision(free).await.unwrap();
    ours.get_adapters(free).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_fails_leaves_no_database() {
    let server = server().await;
    let context = context();
    let broken = factory(&server, &with_schema(&context, BROKEN));
    let acme = tenant("acme");
    let error = broken.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed, "{error:?}");
    assert!(broken.client().database_by_name("tenant_acme").await.unwrap().is_none());
    assert_eq!(broken.describe(&acme).await.unwrap_err().kind(), ErrorKind::TenantNotFound);

    // One that was there before stays, empty as it was.
    broken.client().create(&CreateDatabase::new("tenant_acme")).await.unwrap();
    broken.provision(&acme).await.unwrap_err();
    let mended = factory(&server, &with_schema(&context, GOOD));
    mended.provision(&acme).await.unwrap();
    assert_eq!(count(&mended.get_adapters(&acme).await.unwrap(), "t").await, 0);
}

#[tokio::test]
async fn one_that_could_not_be_taken_back_is_nobodys_until_the_next_call() {
    let server = server().await;
    let context = context();
    let broken = factory(&server, &with_schema(&context, BROKEN));
    let acme = tenant("acme");
    let stays = Fault::error(403, 10000, "Authentication error");
    server.faults().add(Rule::new(stays).kind(Kind::Delete));
    let error = broken.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed, "{error:?}");
    assert!(error.to_chain().contains("could not be removed"), "{}", error.to_chain());
    let error = broken.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{error:?}");

    server.faults().clear();
    let left = uuid(&broken, "tenant_acme").await;
    let mended = factory(&server, &with_schema(&context, GOOD));
    mended.provision(&acme).await.unwrap();
    assert_eq!(count(&mended.get_adapters(&acme).await.unwrap(), "t").await, 0);
    assert_ne!(uuid(&mended, "tenant_acme").await, left);
}

#[tokio::test]
async fn a_wrong_account_and_a_wrong_token_are_told_apart() {
    let server = server().await;
    let context = context();
    let acme = tenant("acme");
    let account = builder(&server, &context).with_account_id("0".repeat(32)).build().unwrap();
    let error = account.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let token = builder(&server, &context).with_api_token("hunter2").build().unwrap();
    let error = token.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(!error.to_chain().contains("hunter2"));
    let refused = token.list().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((refused.kind(), refused.provider()), (ErrorKind::Unauthenticated, Some("d1")));
}

#[tokio::test]
async fn a_database_is_made_where_the_settings_say() {
    let server = server().await;
    let bound = builder(&server, &context()).with_jurisdiction(Jurisdiction::Eu);
    bound.build().unwrap().provision(&tenant("acme")).await.unwrap();
    let acme = ask(&server, "GET", "/tenant_acme", Value::Null).await;
    assert_eq!(acme["result"]["jurisdiction"], "eu", "{acme}");
    let near = builder(&server, &context()).with_primary_location_hint(LocationHint::Weur);
    near.build().unwrap().provision(&tenant("globex")).await.unwrap();
    let globex = ask(&server, "GET", "/tenant_globex", Value::Null).await;
    assert!(globex["result"]["jurisdiction"].is_null(), "{globex}");
}

#[tokio::test]
async fn removing_goes_by_the_id_of_what_was_looked_at() {
    let server = server().await;
    let context = context();
    let factory = factory(&server, &context);
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    for tenant in [&acme, &globex] {
        factory.provision(tenant).await.unwrap();
    }
    // A store that has gone wrong: acme's row points at globex's database.
    let before = placement(&context, &acme).await;
    let mut wrong = before.clone();
    let other = placement(&context, &globex).await.attributes["uuid"].clone();
    wrong.attributes.insert("uuid".to_owned(), other);
    context.placements.compare_and_set(&acme, &before, &wrong).await.unwrap();
    let error = factory.get_adapters(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{error:?}");
    factory.deprovision(&acme).await.unwrap();
    assert!(factory.client().database_by_name("tenant_acme").await.unwrap().is_none());
    factory.get_adapters(&globex).await.unwrap();

    // An answer that is lost is asked for again; gone is gone.
    let hits = server.faults().add(Rule::new(Fault::Dropped).kind(Kind::Delete).times(1));
    factory.deprovision(&globex).await.unwrap();
    assert_eq!(hits.count(), 1);
    factory.deprovision(&globex).await.unwrap();
}

/// The service's word that a name is nobody's is not enough, where the id is known.
#[tokio::test]
async fn a_database_that_is_not_yet_known_by_its_name_is_removed_too() {
    let server = server().await;
    for context in [context(), without_store()] {
        let factory = factory(&server, &context);
        let acme = tenant("acme");
        factory.provision(&acme).await.unwrap();
        let rule = Rule::new(Fault::Hidden).kind(Kind::Get).path("/tenant_acme");
        server.faults().add(rule);
        let (counts, removed) = {
            let kinds = [Kind::Get, Kind::Raw, Kind::Delete];
            requests(&server, kinds, factory.deprovision(&acme)).await
        };
        removed.unwrap();
        // The names; the id; whose it is; and its end.
        assert_eq!(counts, [if context.placements.can_change() { 3 } else { 2 }, 1, 1]);
        server.faults().clear();
        assert!(factory.client().database_by_name("tenant_acme").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_a_restore_left_is_removed_where_only_its_id_is_known() {
    let server = server().await;
    let context = context();
    let factory = factory(&server, &context);
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    factory.client().create(&CreateDatabase::new("tenant_acme--g2")).await.unwrap();
    let left = uuid(&factory, "tenant_acme--g2").await;
    query(&server, &left, "CREATE TABLE half (id INTEGER)").await;
    let before = placement(&context, &acme).await;
    let mut arriving = before.clone();
    arriving.attributes.insert("arriving_uuid".to_owned(), left);
    context.placements.compare_and_set(&acme, &before, &arriving).await.unwrap();

    server.faults().add(Rule::new(Fault::Hidden).kind(Kind::Get).path("/tenant_acme--g2"));
    factory.deprovision(&acme).await.unwrap();
    server.faults().clear();
    assert!(factory.client().database_by_name("tenant_acme--g2").await.unwrap().is_none());

    // A store that has gone wrong: an id that is another tenant's stays.
    let globex = tenant("globex");
    factory.provision(&globex).await.unwrap();
    let before = placement(&context, &acme).await;
    let mut wrong = before.clone();
    let other = placement(&context, &globex).await.attributes["uuid"].clone();
    wrong.attributes.insert("uuid".to_owned(), other);
    context.placements.compare_and_set(&acme, &before, &wrong).await.unwrap();
    factory.deprovision(&acme).await.unwrap();
    factory.get_adapters(&globex).await.unwrap();
}
