//! Migrations, and the reference schema's entities on what they made.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind, FactoryContext, TenantId, Work};
use mt_d1::{D1Factory, D1FactoryBuilder};
use mt_devservers::{
    D1,
    d1::{Fault, Kind, Rule},
};
use mt_entity::{CreateError, NewLog, NewUser, Page, TenantAdapters as _, log, role, user};
use mt_migration::{Migrator, Runner};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, EntityTrait as _,
    IntoActiveModel as _, ModelTrait as _, QueryFilter as _, Set, SqlErr,
};
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::support::{
    builder, context, count, execute, placement, requests, select, server, tenant,
};

/// A migration made of statements separated by semicolons.
#[derive(Clone, Copy)]
struct Sql(&'static str, &'static str);

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.0
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.1).await.map(drop)
    }
}

const NOTES: Sql = Sql("m1_notes", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)");
const MORE: [Sql; 2] = [
    Sql("m2_done", "ALTER TABLE notes ADD COLUMN done INTEGER NOT NULL DEFAULT 0"),
    Sql("m3_tags", "CREATE INDEX notes_done ON notes (done); CREATE TABLE tags (tag TEXT)"),
];

fn runner(all: impl IntoIterator<Item = Sql>) -> Runner {
    let all = all.into_iter().map(|migration| Box::new(migration) as Box<dyn MigrationTrait>);
    Runner::new("seaql_migrations", all.collect()).unwrap()
}

fn newer() -> Runner {
    runner([NOTES].into_iter().chain(MORE))
}

fn made_with(server: &D1, context: &FactoryContext, schema: &Runner) -> D1FactoryBuilder {
    builder(server, &context.clone().with_template(Arc::new(schema.clone())))
}

fn migrating(server: &D1, context: &FactoryContext, schema: &Runner) -> D1Factory {
    made_with(server, context, schema).build().unwrap()
}

/// Tenants whose databases have the oldest schema, in one installation.
async fn fleet(server: &D1, count: usize) -> (FactoryContext, Vec<TenantId>) {
    let context = context();
    let factory = migrating(server, &context, &runner([NOTES]));
    let ids: Vec<_> = (0..count).map(|n| tenant(&format!("t{n}"))).collect();
    for made in join_all(ids.iter().map(|id| factory.provision(id))).await {
        made.unwrap();
    }
    (context, ids)
}

#[tokio::test]
async fn all_that_is_pending_costs_two_requests_and_nothing_pending_one() {
    let server = server().await;
    let context = context();
    let empty = migrating(&server, &context, &Runner::new("seaql_migrations", vec![]).unwrap());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    for id in [&acme, &globex] {
        empty.provision(id).await.unwrap();
    }
    let schema = Runner::of::<Migrator>().unwrap();
    let factory = migrating(&server, &context, &schema);
    for id in [&acme, &globex] {
        let (counts, report) = requests(&server, [Kind::Raw], schema.up(&factory, id)).await;
        let report = report.unwrap();
        assert_eq!((counts, report.ran.len(), report.not_atomic.len()), ([2], 6, 0), "{id}");
        let (counts, report) = requests(&server, [Kind::Raw], schema.up(&factory, id)).await;
        assert_eq!((counts, report.unwrap().ran.len()), ([1], 0), "{id}");
    }
    let keeping = made_with(&server, &context, &newer()).with_bookmark_before_migrations(true);
    let keeping = keeping.build().unwrap();
    let work = newer();
    let work = work.up(&keeping, &acme);
    let (counts, report) = requests(&server, [Kind::Raw, Kind::Bookmark], work).await;
    assert_eq!((counts, report.unwrap().ran.len()), ([2, 1], 3));
    assert!(placement(&context, &acme).await.attributes.contains_key("bookmark"));
}

#[tokio::test]
async fn a_new_tenant_has_the_whole_schema_after_two_requests() {
    let server = server().await;
    let schema = Runner::of::<Migrator>().unwrap();
    let factory = migrating(&server, &context(), &schema);
    let acme = tenant("acme");
    let work = factory.provision(&acme);
    let (counts, made) = requests(&server, [Kind::Create, Kind::Raw], work).await;
    made.unwrap();
    assert_eq!(counts, [1, 1]);
    assert!(schema.status(&factory, &acme).await.unwrap().is_current());
}

#[tokio::test]
async fn what_work_will_cost_is_told_beforehand() {
    let server = server().await;
    let context = context();
    // A token of its own: what others of this process set must not hold here.
    let ours = |builder: D1FactoryBuilder| {
        let builder = builder.with_api_token("a-token-that-only-this-test-has");
        builder.with_requests_per_window(1_200).build().unwrap()
    };
    let plain = ours(builder(&server, &context));
    let cost = |factory: &D1Factory, work| factory.forecast(work).unwrap().requests;
    assert_eq!(cost(&plain, Work::default()), 0);
    assert_eq!(cost(&plain, Work::provision(10)), 20);
    assert_eq!(cost(&plain, Work::migrate(10).with_looks(5)), 25);
    let large = plain.forecast(Work::migrate(600)).unwrap();
    // 1,200 requests: a burst, and then the rate.
    assert!((200..=360).contains(&large.duration.as_secs()), "{large:?}");
    let keeping = ours(builder(&server, &context).with_bookmark_before_migrations(true));
    assert_eq!(cost(&keeping, Work::migrate(10)), 30);
    assert_eq!(keeping.budget().usage().limit, 1_200);
}

#[tokio::test]
async fn a_rebuild_that_would_take_rows_along_is_refused() {
    let server = server().await;
    let context = context();
    let tables = Sql(
        "m1_tables",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id INTEGER PRIMARY KEY, \
         parent INTEGER REFERENCES parent (id) ON DELETE CASCADE);
         INSERT INTO parent VALUES (1);
         INSERT INTO child VALUES (1, 1)",
    );
    let rebuild = Sql(
        "m2_rebuild",
        "CREATE TABLE new_parent (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO new_parent (id) SELECT id FROM parent;
         DROP TABLE parent;
         ALTER TABLE new_parent RENAME TO parent",
    );
    let acme = tenant("acme");
    migrating(&server, &context, &runner([tables])).provision(&acme).await.unwrap();
    let schema = runner([tables, rebuild]);
    let factory = migrating(&server, &context, &schema);
    let error = schema.up(&factory, &acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    for part in ["parent", "child"] {
        assert!(error.to_chain().contains(part), "{}", error.to_chain());
    }
    let data = factory.get_adapters(&acme).await.unwrap();
    assert_eq!(count(&data, "child").await, 1);
    assert!(schema.status(&factory, &acme).await.unwrap().pending.contains(&"m2_rebuild".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_migrators_at_once_run_each_migration_once() {
    let server = server().await;
    let (context, ids) = fleet(&server, 10).await;
    let counting = Sql("m4_count", "INSERT INTO tags VALUES ('ran')");
    let schema = runner([NOTES].into_iter().chain(MORE).chain([counting]));
    let runs = (0..2).map(|_| {
        let (schema, ids) = (schema.clone(), ids.clone());
        let factory = migrating(&server, &context, &schema);
        tokio::spawn(async move {
            let mut ran = 0;
            for report in join_all(ids.iter().map(|id| schema.up(&factory, id))).await {
                ran += report.unwrap().ran.len();
            }
            ran
        })
    });
    let runs: Vec<_> = runs.collect();
    let ran: usize = join_all(runs).await.into_iter().map(|ran| ran.unwrap()).sum();
    assert_eq!(ran, 3 * ids.len());
    let factory = migrating(&server, &context, &schema);
    for id in &ids {
        assert_eq!(count(&factory.get_adapters(id).await.unwrap(), "tags").await, 1, "{id}");
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_migration_is_looked_up() {
    let server = server().await;
    let (context, ids) = fleet(&server, 3).await;
    let schema = newer();
    let factory = migrating(&server, &context, &schema);
    for (id, fault) in ids.iter().zip([Fault::Dropped, Fault::Torn, Fault::WrongJson]) {
        let status = schema.status(&factory, id).await.unwrap();
        let hits = server.faults().add(Rule::new(fault).kind(Kind::Raw).times(1));
        let report = schema.up_from(&factory, id, &status).await.unwrap();
        assert_eq!((hits.count(), report.ran.len()), (1, 2));
        server.faults().clear();
        assert_eq!(factory.describe(id).await.unwrap().applied.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_migrating_leaves_whole_tenants() {
    let server = server().await;
    let (context, ids) = fleet(&server, 30).await;
    let schema = newer();
    let factory = Arc::new(migrating(&server, &context, &schema));
    let begun = server.requests().total();
    let migrations = {
        let (schema, factory, ids) = (schema.clone(), Arc::clone(&factory), ids.clone());
        tokio::spawn(async move {
            let mut reports = Vec::new();
            for id in &ids {
                reports.push(schema.up(&*factory, id).await);
            }
            reports
        })
    };
    // In the midst of it, as the server's own count of requests tells.
    while server.requests().total() < begun + 25 {
        tokio::task::yield_now().await;
    }
    server.workerd().kill().unwrap();
    server.workerd().restart().await.unwrap();
    for report in migrations.await.unwrap() {
        let Err(error) = report else { continue };
        let kinds = [ErrorKind::Unavailable, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
    for id in &ids {
        let applied = factory.describe(id).await.unwrap().applied;
        assert!([1, 3].contains(&applied.len()), "{id}: {applied:?}");
        schema.up(&*factory, id).await.unwrap();
        assert_eq!(factory.describe(id).await.unwrap().applied.len(), 3);
        let data = factory.get_adapters(id).await.unwrap();
        execute(&data, "INSERT INTO notes (text) VALUES ('written')").await.unwrap();
    }
}

fn ann() -> NewUser {
    NewUser { email: "Ann@Example.com".to_owned(), name: "Ann".to_owned() }
}

async fn reference(server: &D1) -> (D1Factory, DataAdapters) {
    let factory = migrating(server, &context(), &Runner::of::<Migrator>().unwrap());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    (factory, data)
}

#[tokio::test]
async fn the_reference_entities_work_as_on_a_file() {
    let server = server().await;
    let (_factory, data) = reference(&server).await;
    let ann = data.users().create(ann()).await.unwrap();
    assert_eq!(data.users().find(ann.id).await.unwrap().as_ref(), Some(&ann));
    assert_eq!(data.users().find_by_email("ANN@example.com").await.unwrap().as_ref(), Some(&ann));
    assert_eq!(data.read().users().count().await.unwrap(), 1);
    assert!(data.users().rename(ann.id, "Anna").await.unwrap());
    let renamed = data.users().find(ann.id).await.unwrap().unwrap();
    assert!(renamed.name == "Anna" && renamed.updated_at > ann.updated_at);
    let again = NewUser { email: "ann@EXAMPLE.com".to_owned(), name: "Ann".to_owned() };
    let error = data.users().create(again).await.unwrap_err();
    assert!(matches!(error, CreateError::Taken("email")), "{error:?}");
    let error = data.read().users().create(NewUser::clone(&self::ann())).await.unwrap_err();
    assert!(matches!(error, CreateError::Database(_)), "{error:?}");

    let mut row = renamed.into_active_model();
    row.email_normalized = Set(None);
    row.update(&data).await.unwrap();
    let found = user::Entity::find().filter(user::Column::EmailNormalized.is_null());
    assert_eq!(found.all(&data).await.unwrap().len(), 1);

    data.settings().set("theme", "dark").await.unwrap();
    data.settings().set("theme", "light").await.unwrap();
    assert_eq!(data.settings().find("theme").await.unwrap().as_deref(), Some("light"));
    let admin = data.roles().create("admin").await.unwrap();
    data.roles().grant(ann.id, admin.id).await.unwrap();
    data.roles().grant(ann.id, admin.id).await.unwrap();
    let ann_now = data.users().find(ann.id).await.unwrap().unwrap();
    assert_eq!(ann_now.find_related(role::Entity).all(&data).await.unwrap(), [admin]);
    let hour = TimeDelta::hours(1);
    let current = data.sessions().create(ann.id, "current", Utc::now() + hour).await.unwrap();
    data.sessions().create(ann.id, "expired", Utc::now() - hour).await.unwrap();
    assert_eq!(data.sessions().find("current").await.unwrap().as_ref(), Some(&current));
    assert_eq!(data.sessions().delete_expired().await.unwrap(), 1);
    data.credentials().set(ann.id, "password", "hash").await.unwrap();

    let of_ann = |message: &str| NewLog {
        user_id: Some(ann.id),
        kind: "test".to_owned(),
        message: message.to_owned(),
    };
    let entry = data.logs().create(of_ann("hello")).await.unwrap();
    assert_eq!(data.logs().find(entry.id).await.unwrap().as_ref(), Some(&entry));
    let ghost = NewLog { user_id: Some(uuid_of_nobody(&data).await), ..of_ann("ghost") };
    let ghost = data.logs().create(ghost).await.unwrap_err();
    assert!(matches!(ghost.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))), "{ghost}");

    // What is a user's goes with the user.
    assert!(data.users().delete(ann.id).await.unwrap());
    assert!(data.credentials().find(ann.id, "password").await.unwrap().is_none());
    assert_eq!(data.logs().list(Page::default()).await.unwrap().len(), 0);
    let kept = log::Entity::find().all(&data).await.unwrap();
    assert!(kept.is_empty(), "{kept:?}");
}

/// An id that was a user's.
async fn uuid_of_nobody(data: &DataAdapters) -> sea_orm::prelude::Uuid {
    let gone = NewUser { email: "gone@example.com".to_owned(), name: "Gone".to_owned() };
    let gone = data.users().create(gone).await.unwrap();
    data.users().delete(gone.id).await.unwrap();
    gone.id
}

#[tokio::test]
async fn a_schema_older_than_the_newest_says_so_when_it_is_opened() {
    let server = server().await;
    let (context, ids) = fleet(&server, 1).await;
    let schema = newer();
    let factory = migrating(&server, &context, &schema);
    let data = factory.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(data.schema_version(), Some("m1_notes"));
    let rows = data.query_all_raw(select("SELECT version FROM seaql_migrations")).await.unwrap();
    assert_eq!(rows.len(), 1);
    schema.up(&factory, &ids[0]).await.unwrap();
    let data = crate::support::factory(&server, &factory_context(&context, &schema));
    let data = data.get_adapters(&ids[0]).await.unwrap();
    assert_eq!(data.schema_version(), Some("m3_tags"));
    assert!(factory.describe(&ids[0]).await.unwrap().size_bytes.is_some());
}

fn factory_context(context: &FactoryContext, schema: &Runner) -> FactoryContext {
    context.clone().with_template(Arc::new(schema.clone()))
}
