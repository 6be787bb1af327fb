//! What migrations may ask of a database that is reached by a driver.

use std::time::Duration;

use mt_core::ErrorKind;
use mt_migration::Runner;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ConnectionTrait as _, EntityTrait as _,
    TransactionTrait as _, sea_query::Query,
};
use sea_orm_migration::{MigrationTrait, SchemaManagerConnection};

use crate::{
    factory::acme,
    migrations::{Code, code, runner, runner_of, sql},
    wire::{Request, stamped, without_transactions},
};

mod note {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notes")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub(crate) id: i32,
        pub(crate) text: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const NOTES: &str = "CREATE TABLE notes (id integer PRIMARY KEY AUTOINCREMENT, text text)";
const COUNT: &str = "SELECT COUNT(*) AS n FROM notes";

fn with_notes(migration: Code) -> Runner {
    runner_of(vec![Box::new(sql("m1_notes", NOTES)), Box::new(migration)])
}

#[tokio::test]
async fn reading_what_was_written_is_a_transaction() {
    let (factory, wire) = stamped().await;
    let reads = code("m2_reads", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_unprepared("INSERT INTO notes (text) VALUES ('a'), ('b')").await?;
            for row in note::Entity::find().all(db).await? {
                let text = row.text.unwrap().to_uppercase();
                let sql = format!("UPDATE notes SET text = '{text}' WHERE id = {}", row.id);
                db.execute_unprepared(&sql).await?;
            }
            Ok(())
        })
    });
    let report = with_notes(reads).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.ran, ["m1_notes", "m2_reads"]);
    assert_eq!(report.not_atomic, [""; 0]);
    let before = [Request::Batch(4)];
    let guard = [Request::Begin, Request::Execute, Request::Query];
    let inside = [Request::Text, Request::Query, Request::Text, Request::Execute, Request::Commit];
    assert_eq!(wire.requests(), [&before[..], &guard, &inside].concat());
    let upper = "SELECT COUNT(*) AS n FROM notes WHERE text IN ('A', 'B')";
    assert_eq!(factory.count(upper).await, 2);
}

#[tokio::test]
async fn one_that_reads_first_is_atomic() {
    let (factory, wire) = stamped().await;
    let adds = code("m2_adds", |manager| {
        Box::pin(async move {
            if !manager.has_column("notes", "pinned").await? {
                let add = "ALTER TABLE notes ADD COLUMN pinned boolean";
                manager.get_connection().execute_unprepared(add).await?;
            }
            Ok(())
        })
    });
    let report = with_notes(adds).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.not_atomic, [""; 0]);
    assert_eq!(wire.requests(), [Request::Batch(4), Request::Query, Request::Batch(4)]);
    let pinned = "SELECT COUNT(*) AS n FROM pragma_table_info('notes') WHERE name = 'pinned'";
    assert_eq!(factory.count(pinned).await, 1);
}

#[tokio::test]
async fn a_failure_after_a_read_keeps_what_was_recorded_before_it() {
    let (factory, _wire) = stamped().await;
    let fails = code("m2_fails", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            assert!(manager.has_table("notes").await?);
            assert!(!manager.has_table("nothing").await?);
            assert!(!manager.has_index("notes", "nothing").await?);
            db.execute_unprepared("INSERT INTO notes (id) VALUES (1)").await?;
            db.execute_unprepared("INSERT INTO nowhere VALUES (1)").await.map(drop)
        })
    });
    let runner = with_notes(fails);
    let error = runner.up(&factory, &acme()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MigrationFailed);
    assert!(error.to_string().contains("kept: `m1_notes`"), "{error}");
    assert_eq!(runner.status(&factory, &acme()).await.unwrap().pending, ["m2_fails"]);
    assert_eq!(factory.count(COUNT).await, 0);
}

#[tokio::test]
async fn one_that_is_not_atomic_is_recorded_before_the_next_can_fail() {
    let (factory, _wire) = without_transactions().await;
    let torn = code("m2_torn", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            db.execute_unprepared("INSERT INTO notes (id) VALUES (1)").await?;
            manager.has_table("notes").await.map(drop)
        })
    });
    let broken = sql("m3_broken", "INSERT INTO nowhere VALUES (1)");
    let migrations: Vec<Box<dyn MigrationTrait>> =
        vec![Box::new(sql("m1_notes", NOTES)), Box::new(torn), Box::new(broken)];
    let runner = runner_of(migrations);
    let error = runner.up(&factory, &acme()).await.unwrap_err();
    assert!(error.to_string().contains("kept: `m1_notes`, `m2_torn`"), "{error}");
    assert_eq!(runner.status(&factory, &acme()).await.unwrap().pending, ["m3_broken"]);
    assert_eq!(factory.count(COUNT).await, 1);
}

#[tokio::test]
async fn a_row_inserted_by_sea_orm_comes_back() {
    let (factory, _wire) = stamped().await;
    let inserts = code("m2_inserts", |manager| {
        Box::pin(async move {
            let db = manager.get_connection();
            let first = note::ActiveModel { text: Set(Some("a".to_owned())), ..Default::default() };
            let first = first.insert(db).await?;
            assert_eq!((first.id, first.text.as_deref()), (1, Some("a")));
            let second = note::ActiveModel { text: Set(None), ..Default::default() };
            assert_eq!(second.insert(db).await?.id, 2);
            Ok(())
        })
    });
    let report = with_notes(inserts).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.not_atomic, [""; 0]);
    assert_eq!(factory.count(COUNT).await, 2);
}

#[tokio::test]
async fn counts_are_true_and_rows_that_are_only_added_stay_atomic() {
    let (factory, wire) = stamped().await;
    let adds = code("m2_adds", |manager| {
        Box::pin(async move {
            let insert = Query::insert()
                .into_table("notes")
                .columns(["text"])
                .values_panic(["a".into()])
                .values_panic(["b".into()])
                .to_owned();
            let added = manager.get_connection().execute(&insert).await?;
            assert_eq!(added.rows_affected(), 2);
            Ok(())
        })
    });
    let deletes = code("m3_deletes", |manager| {
        Box::pin(async move {
            let deleted = note::Entity::delete_many().exec(manager.get_connection()).await?;
            assert_eq!(deleted.rows_affected, 2);
            Ok(())
        })
    });
    let migrations: Vec<Box<dyn MigrationTrait>> =
        vec![Box::new(sql("m1_notes", NOTES)), Box::new(adds), Box::new(deletes)];
    let report = runner_of(migrations).up(&factory, &acme()).await.unwrap();
    assert_eq!(report.not_atomic, [""; 0]);
    let guard = [Request::Batch(6), Request::Begin, Request::Execute, Request::Query];
    let inside = [Request::Execute, Request::Execute, Request::Commit];
    assert_eq!(wire.requests(), [&guard[..], &inside].concat());
    assert_eq!(factory.count(COUNT).await, 0);
}

#[tokio::test]
async fn transactions_of_its_own_are_refused() {
    let by_handle = code("m2_own", |manager| {
        Box::pin(async move {
            let transaction = manager.get_connection().begin().await?;
            transaction.execute_unprepared("INSERT INTO notes (id) VALUES (1)").await?;
            transaction.commit().await
        })
    });
    let empty =
        code("m2_own", |manager| Box::pin(async move { manager.begin().await?.commit().await }));
    let by_text = code("m2_own", |manager| {
        Box::pin(async move {
            let text = "INSERT INTO notes (id) VALUES (1); COMMIT; BEGIN";
            manager.get_connection().execute_unprepared(text).await.map(drop)
        })
    });
    let foreign_keys = code("m2_own", |manager| {
        Box::pin(async move {
            // A migration that goes on regardless is refused all the same.
            let off = "PRAGMA foreign_keys = OFF";
            drop(manager.get_connection().execute_unprepared(off).await);
            Ok(())
        })
    });
    for migration in [by_handle, empty, by_text, foreign_keys] {
        let (factory, _wire) = stamped().await;
        let error = with_notes(migration).up(&factory, &acme()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("`m2_own`"), "{error}");
        assert_eq!(factory.tables().await, 1);
    }
}

#[tokio::test]
async fn deferred_foreign_keys_are_checked_at_the_end() {
    let (factory, _wire) = stamped().await;
    let tree = "PRAGMA defer_foreign_keys = ON;
        CREATE TABLE tree (id integer PRIMARY KEY, up integer REFERENCES tree (id));
        INSERT INTO tree VALUES (1, 2); INSERT INTO tree VALUES (2, NULL)";
    runner([sql("m1_tree", tree)]).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM tree").await, 2);
}

#[tokio::test]
async fn a_trigger_stays_in_one_piece() {
    let (factory, _wire) = stamped().await;
    let text = "CREATE TABLE a (id integer); CREATE TABLE b (id integer);
        CREATE TRIGGER copy AFTER INSERT ON a BEGIN
            INSERT INTO b VALUES (new.id); INSERT INTO b VALUES (-new.id);
        END;
        INSERT INTO a VALUES (1);";
    runner([sql("m1_trigger", text)]).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM b").await, 2);
}

fn waits() -> Code {
    code("m2_waits", |manager| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let text = tokio::spawn(async { "spawned" }).await.unwrap();
            assert!(manager.has_table("notes").await?);
            let sql = format!("INSERT INTO notes (text) VALUES ('{text}')");
            manager.get_connection().execute_unprepared(&sql).await.map(drop)
        })
    })
}

#[tokio::test(flavor = "current_thread")]
async fn a_migration_may_use_tokio_on_one_thread() {
    let (factory, _wire) = stamped().await;
    with_notes(waits()).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count(COUNT).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_may_use_tokio_on_several_threads() {
    let (factory, _wire) = stamped().await;
    with_notes(waits()).up(&factory, &acme()).await.unwrap();
    assert_eq!(factory.count(COUNT).await, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_task_that_a_migration_spawns_is_refused_and_blocks_nobody() {
    let (factory, _wire) = stamped().await;
    let spawns = code("m2_spawns", |manager| {
        Box::pin(async move {
            let SchemaManagerConnection::Connection(db) = manager.get_connection() else {
                panic!("not a connection");
            };
            let db = (*db).clone();
            let task = tokio::spawn(async move { db.execute_unprepared("SELECT 1").await });
            assert!(task.await.unwrap().is_err());
            manager.has_table("notes").await.map(drop)
        })
    });
    with_notes(spawns).up(&factory, &acme()).await.unwrap();
}
