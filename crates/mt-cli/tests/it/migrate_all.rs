use std::sync::atomic::{AtomicBool, Ordering};

use mt_cli::{Application, Exit};
use mt_migration::Migrator;
use sea_orm_migration::prelude::*;
use serde_json::{Value, json};

use crate::support::Place;

/// The reference schema, and one migration more.
pub(crate) struct Next;

impl MigratorTrait for Next {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = Migrator::migrations();
        migrations.push(Box::new(AddTeams));
        migrations
    }
}

/// Whether the migration fails in a database that has the table `trap`.
static IS_BROKEN: AtomicBool = AtomicBool::new(true);

struct AddTeams;

const ADD_TEAMS: &str = "m29990101_000001_add_teams";

impl MigrationName for AddTeams {
    fn name(&self) -> &str {
        ADD_TEAMS
    }
}

#[async_trait::async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as `MigrationTrait` writes it")]
impl MigrationTrait for AddTeams {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE teams (id INTEGER PRIMARY KEY)";
        manager.get_connection().execute_unprepared(create).await?;
        if manager.has_table("trap").await? && IS_BROKEN.load(Ordering::SeqCst) {
            return Err(DbErr::Custom("stepped into the trap".to_owned()));
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE teams").await.map(drop)
    }
}

/// The outcome per tenant, of a report.
fn outcomes(report: &Value) -> Vec<[&str; 2]> {
    let tenants = report["tenants"].as_array().unwrap().iter();
    tenants.map(|one| ["tenant", "outcome"].map(|key| one[key].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_reported_and_only_it_is_left() {
    let place = Place::new();
    let trapped = Application::<Migrator>::new().with_isolation(|isolation| {
        isolation.seed(|data| async move {
            if data.tenant().as_str() == "t3" {
                data.execute_unprepared("CREATE TABLE trap (id INTEGER)").await?;
            }
            Ok::<(), DbErr>(())
        })
    });
    for tenant in ["t1", "t2", "t3", "t4", "t5"] {
        place.run_as(&trapped, &["provision", tenant]).await.done();
    }
    let next = Application::<Next>::new();

    let dry = place.run_as(&next, &["migrate-all", "--dry-run", "--json"]).await.done().json();
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["counts"]["pending"], 5);

    let first = place.run_as(&next, &["migrate-all", "--json"]).await;
    assert_eq!(first.exit, Exit::Failed);
    let report = first.json();
    assert_eq!(
        outcomes(&report),
        [
            ["t1", "migrated"],
            ["t2", "migrated"],
            ["t3", "failed"],
            ["t4", "migrated"],
            ["t5", "migrated"]
        ]
    );
    let error = report["tenants"][2]["error"].as_str().unwrap();
    assert!(error.contains("stepped into the trap"), "{error}");
    let status = place.run_as(&next, &["status", "t3", "--json"]).await.done().json();
    assert_eq!(status["tenants"][0]["schema"]["pending"], json!([ADD_TEAMS]));

    let text = place.run_as(&next, &["migrate-all"]).await;
    assert_eq!(text.exit, Exit::Failed);
    assert!(text.out.contains("4 up to date, 1 failed"), "{text:?}");
    assert!(text.out.contains("t3: ") && text.out.contains("stepped into"), "{text:?}");

    IS_BROKEN.store(false, Ordering::SeqCst);
    let second = place.run_as(&next, &["migrate-all", "--json"]).await.done().json();
    assert_eq!(second["counts"]["migrated"], 1);
    assert_eq!(second["counts"]["up_to_date"], 4);
    let third = ["migrate-all", "--verify", "--jobs", "2", "--json"];
    let third = place.run_as(&next, &third).await.done().json();
    assert_eq!(third["counts"]["up_to_date"], 5);
    let text = place.run_as(&next, &["migrate-all"]).await.done();
    assert_eq!(text.out.lines().count(), 1, "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_chosen_and_left_out_by_name() {
    let place = Place::new();
    for tenant in ["a", "b", "c"] {
        place.run(&["provision", tenant]).await.done();
    }
    let chosen = ["migrate-all", "--tenants", "a,b", "--skip", "b", "--json"];
    let report = place.run(&chosen).await.done().json();
    assert_eq!(outcomes(&report), [["a", "up_to_date"]]);
    let unknown = place.run(&["migrate-all", "--tenants", "a,x", "--json"]).await;
    assert_eq!(unknown.exit, Exit::Failed);
    assert_eq!(unknown.json()["error"]["tenant"], "x");
    assert_eq!(place.run(&["migrate-all", "--jobs", "0"]).await.exit, Exit::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tenants_there_is_nothing_to_migrate() {
    let ran = Place::new().run(&["migrate-all"]).await.done();
    assert!(ran.out.starts_with("no tenants"), "{ran:?}");
}
