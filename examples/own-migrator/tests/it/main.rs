//! Two releases of the team's application, one after the other, on the same data.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod processes;

use std::{
    path::Path,
    process::{Command, Output},
};

use multi_tenancy::{
    Catalog, DatabaseIsolation, MultiTenancy, TenantId, migration::Runner, sqlite::SqliteFactory,
};
use own_migrator::{Migrator, project, task};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait as _, EntityTrait as _,
    ModelTrait as _, QueryFilter as _, Set, SqlErr,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use serde_json::Value;

/// The schema of the first release.
struct FirstRelease;

impl MigratorTrait for FirstRelease {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = Migrator::migrations();
        migrations.truncate(2);
        migrations
    }
}

fn tenants() -> [TenantId; 2] {
    ["acme", "globex"].map(|id| TenantId::new(id).unwrap())
}

/// The application as released with migrator `M`, in the folders that the command line uses too.
async fn open<M: MigratorTrait>(data: &Path) -> MultiTenancy {
    let schema = Runner::of::<M>().unwrap();
    let catalog = Catalog::open(data.join("control.db")).await.unwrap();
    let factory = SqliteFactory::builder()
        .with_directory(data.join("tenants"))
        .with_context(catalog.context(&schema))
        .build()
        .unwrap();
    MultiTenancy::builder()
        .with_catalog(catalog)
        .with_database_isolation(DatabaseIsolation::new(factory))
        .with_schema(schema)
        .build()
        .await
        .unwrap()
}

async fn close(app: MultiTenancy) {
    app.shutdown().await.unwrap();
    app.catalog().close().await.unwrap();
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_own-migrator");

/// The team's own command line, as a process of its own, in nobody's environment.
fn run(data: &Path, args: &[&str]) -> Output {
    command(Command::new(PROGRAM), data, args).output().unwrap()
}

fn command(mut command: Command, data: &Path, args: &[&str]) -> Command {
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("MT_")) {
        command.env_remove(name);
    }
    // Where there is no settings file.
    command.current_dir(data).args(args).arg("--json").arg("--data-dir").arg(data);
    command
}

fn answer(data: &Path, args: &[&str]) -> Value {
    let output = run(data, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_later_release_migrates_every_tenant_and_keeps_the_rows() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let first = open::<FirstRelease>(data).await;
    for tenant in tenants() {
        first.provision(&tenant).await.unwrap();
        let db = first.get_adapters(&tenant).await.unwrap();
        let insert = format!("INSERT INTO projects (name) VALUES ('{tenant}')");
        db.execute_unprepared(&insert).await.unwrap();
        assert!(project::Entity::find().all(&db).await.is_err(), "the column is of later");
    }
    close(first).await;

    let added = "m20260612_000001_archive_projects";
    let report = answer(data, &["migrate-all"]);
    let text = report.to_string();
    assert_eq!(text.matches(added).count(), 2, "both, and only what was pending: {text}");
    assert!(!text.contains("m20260301_000001"), "{text}");
    assert!(!answer(data, &["migrate-all"]).to_string().contains(added), "nothing is left to do");

    let second = open::<Migrator>(data).await;
    for tenant in tenants() {
        let db = second.get_adapters(&tenant).await.unwrap();
        assert_eq!(db.schema_version(), Some(added));
        let projects = project::Entity::find().all(&db).await.unwrap();
        let [old] = projects.as_slice() else { panic!("{projects:?}") };
        assert_eq!((old.name.as_str(), old.archived), (tenant.as_str(), false));
    }
    close(second).await;
}

#[tokio::test]
async fn own_entities_work_on_each_tenants_database() {
    let data = tempfile::tempdir().unwrap();
    let app = open::<Migrator>(data.path()).await;
    for tenant in tenants() {
        app.provision(&tenant).await.unwrap();
        let db = app.get_adapters(&tenant).await.unwrap();
        let new = |name: &str| project::ActiveModel {
            name: Set(name.to_owned()),
            archived: Set(false),
            ..Default::default()
        };
        // The same name in both: unique within a tenant.
        let project = new("launch").insert(&db).await.unwrap();
        let again = new("launch").insert(&db).await.unwrap_err();
        assert!(matches!(again.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{again}");
        let task = task::ActiveModel {
            project_id: Set(project.id),
            title: Set(format!("tell {tenant}")),
            done: Set(false),
            ..Default::default()
        };
        task.insert(&db).await.unwrap();
    }
    let [acme, globex] = tenants();
    let db = app.get_adapters(&acme).await.unwrap();
    let open = task::Entity::find().filter(task::Column::Done.eq(false));
    let found = open.find_also_related(project::Entity).all(&db.read()).await.unwrap();
    let [(task, Some(project))] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((task.title.as_str(), project.name.as_str()), ("tell acme", "launch"));

    project.clone().delete(&db).await.unwrap();
    assert!(task::Entity::find().all(&db).await.unwrap().is_empty(), "the tasks go with it");
    let db = app.get_adapters(&globex).await.unwrap();
    assert_eq!(task::Entity::find().all(&db).await.unwrap().len(), 1);
    drop(db);
    close(app).await;
}

#[tokio::test]
async fn the_own_command_line_administers_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    answer(data, &["provision", "acme"]);
    assert_eq!(run(data, &["provision", "../acme"]).status.code(), Some(2));
    let app = open::<Migrator>(data).await;
    let db = app.get_adapters(&TenantId::new("acme").unwrap()).await.unwrap();
    assert!(project::Entity::find().all(&db).await.unwrap().is_empty());
    drop(db);
    close(app).await;
    answer(data, &["deprovision", "acme", "--confirm", "acme"]);
    assert_eq!(run(data, &["status", "acme"]).status.code(), Some(1));
}
