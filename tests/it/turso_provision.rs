//! Databases on libSQL whose schema cannot be applied in one piece.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mt_core::{DatabaseFactory as _, ErrorKind, FactoryContext};
use mt_devservers::Turso;
use mt_migration::Runner;
use mt_turso::{DatabaseFilter, TursoFactory};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use crate::support::{NOTES, tenant};

/// Asks for what it wrote, so it cannot leave with the others; and then does its last step.
struct Asking {
    last: &'static str,
}

impl MigrationName for Asking {
    fn name(&self) -> &str {
        "m2_asking"
    }
}

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for Asking {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("INSERT INTO notes (text) VALUES ('first')").await?;
        let count = Statement::from_string(DbBackend::Sqlite, "SELECT COUNT(*) AS n FROM notes");
        let row = db.query_one_raw(count).await?.ok_or(DbErr::RecordNotInserted)?;
        assert_eq!(row.try_get::<i64>("", "n")?, 1);
        db.execute_unprepared(self.last).await.map(drop)
    }
}

const BROKEN: &str = "INSERT INTO no_such_table VALUES (1)";
const MENDED: &str = "CREATE TABLE tags (tag text)";

fn schema(last: &'static str) -> Runner {
    Runner::new("seaql_migrations", vec![Box::new(NOTES), Box::new(Asking { last })]).unwrap()
}

fn factory(
    server: &Turso,
    context: &FactoryContext,
    last: &'static str,
    seed: bool,
) -> TursoFactory {
    let context = context.clone().with_template(std::sync::Arc::new(schema(last)));
    TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
        .with_seed_from_template(seed)
        .with_context(context)
        .build()
        .unwrap()
}

fn context() -> FactoryContext {
    FactoryContext::new(mt_core::DeploymentId::random())
}

#[tokio::test]
async fn half_a_schema_is_no_success() {
    let (server, context) = (Turso::start().await.unwrap(), context());
    let acme = tenant("acme");
    let error = factory(&server, &context, BROKEN, false).provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed, "{error:?}");
    let mended = factory(&server, &context, MENDED, false);
    mended.provision(&acme).await.unwrap();
    schema(MENDED).up(&mended, &acme).await.unwrap();
    let data = mended.get_adapters(&acme).await.unwrap();
    for (table, rows) in [("notes", 1), ("tags", 0)] {
        let count = format!("SELECT COUNT(*) AS n FROM {table}");
        let row = data.query_one_raw(Statement::from_string(DbBackend::Sqlite, count)).await;
        assert_eq!(row.unwrap().unwrap().try_get::<i64>("", "n").unwrap(), rows, "{table}");
    }
}

#[tokio::test]
async fn half_a_template_is_no_template() {
    let (server, context) = (Turso::start().await.unwrap(), context());
    let acme = tenant("acme");
    let broken = factory(&server, &context, BROKEN, true);
    for _ in 0..2 {
        let error = broken.provision(&acme).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MigrationFailed, "{error:?}");
    }
    let all: Vec<_> =
        broken.platform().databases(DatabaseFilter::default()).try_collect().await.unwrap();
    assert!(all.iter().all(|database| database.name != "tenant-acme"), "{all:?}");

    let mended = factory(&server, &context, MENDED, true);
    mended.provision(&acme).await.unwrap();
    assert!(schema(MENDED).status(&mended, &acme).await.unwrap().is_current());
    let data = mended.get_adapters(&acme).await.unwrap();
    let tags = Statement::from_string(DbBackend::Sqlite, "SELECT tag FROM tags");
    assert!(data.query_all_raw(tags).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_schema_that_fails_at_once_leaves_no_database() {
    let (server, context) = (Turso::start().await.unwrap(), context());
    let acme = tenant("acme");
    let wrong = Runner::new(
        "seaql_migrations",
        vec![Box::new(crate::support::sql("m1", "CREATE TABLE t (a) nonsense"))],
    );
    let context = context.with_template(std::sync::Arc::new(wrong.unwrap()));
    let factory = TursoFactory::builder()
        .with_api_url(server.api_url())
        .with_api_token(server.api_token())
        .with_organization(server.organization())
        .with_group(server.group())
        .with_context(context)
        .build()
        .unwrap();
    let error = factory.provision(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed, "{error:?}");
    assert!(factory.platform().database("tenant-acme").await.unwrap().is_none());
    let error = factory.describe(&acme).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotFound);
}
