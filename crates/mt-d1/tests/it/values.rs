//! Values through SeaORM, exactly, and what they cost in requests.

use mt_core::{DataAdapters, DatabaseFactory as _, ErrorKind};
use mt_devservers::{D1, d1::Kind};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue, ColumnTrait as _, ConnectionTrait as _, DbBackend,
    EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    Schema, SqlErr, TransactionTrait as _,
};

use self::reading::{Column, Entity, Model};
use crate::support::{context, factory, kind_of, requests, select, server, tenant};

#[expect(unreachable_pub, reason = "what the derive makes is public, and so is what it names")]
mod reading {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "readings")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(unique)]
        pub name: String,
        pub level: f64,
        pub at: DateTimeUtc,
        pub raw: Vec<u8>,
        pub note: Option<String>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Whole levels too, which JSON has no other form for than an integer's.
fn model(id: i64) -> Model {
    let level = f64::from(i32::try_from(id % 1_000).unwrap()) / 8.0;
    Model {
        id: i64::MAX - id,
        name: format!("reading {id} \u{1f980}{}", if id % 10 == 7 { "\0" } else { "" }),
        level: if id % 2 == 0 { level.round() } else { level / 10.0 },
        at: chrono::DateTime::from_timestamp(id, 1_000).unwrap(),
        raw: id.to_be_bytes().to_vec(),
        note: (id % 3 == 0).then(|| "i7".to_owned()),
    }
}

async fn opened(server: &D1) -> DataAdapters {
    let factory = factory(server, &context());
    let acme = tenant("acme");
    factory.provision(&acme).await.unwrap();
    let data = factory.get_adapters(&acme).await.unwrap();
    let table = Schema::new(DbBackend::Sqlite).create_table_from_entity(Entity);
    data.execute(&table).await.unwrap();
    data
}

#[tokio::test]
async fn a_thousand_models_are_inserted_in_one_request() {
    let server = server().await;
    let data = opened(&server).await;
    let models: Vec<_> = (0..1_000).map(model).collect();
    let insert = Entity::insert_many(models.iter().cloned().map(Model::into_active_model));
    let ([raw], inserted) =
        requests(&server, [Kind::Raw], insert.exec_without_returning(&data)).await;
    assert_eq!((raw, inserted.unwrap()), (1, 1_000));
    let ids = (0..5_000).map(|id| i64::MAX - id);
    let find = Entity::find().filter(Column::Id.is_in(ids)).order_by_desc(Column::Id);
    let ([raw], found) = requests(&server, [Kind::Raw], find.all(&data)).await;
    assert_eq!(raw, 1);
    assert!(found.unwrap() == models);
}

#[tokio::test]
async fn what_sea_orm_does_takes_a_request_each() {
    let server = server().await;
    let data = opened(&server).await;
    let ([n], inserted) =
        requests(&server, [Kind::Raw], model(7).into_active_model().insert(&data)).await;
    assert_eq!(inserted.unwrap(), model(7));
    assert_eq!(n, 1, "insert");
    let ([n], found) =
        requests(&server, [Kind::Raw], Entity::find_by_id(model(7).id).one(&data)).await;
    assert_eq!(found.unwrap(), Some(model(7)));
    assert_eq!(n, 1, "find");
    let ([n], count) = requests(&server, [Kind::Raw], Entity::find().count(&data)).await;
    assert_eq!(count.unwrap(), 1);
    assert_eq!(n, 1, "count");
    let mut change = model(7).into_active_model();
    change.level = ActiveValue::Set(3.0);
    let ([n], changed) = requests(&server, [Kind::Raw], change.update(&data)).await;
    assert_eq!(changed.unwrap(), Model { level: 3.0, ..model(7) });
    assert_eq!(n, 1, "update");
    let ([n], deleted) =
        requests(&server, [Kind::Raw], Entity::delete_by_id(model(7).id).exec(&data)).await;
    assert_eq!(deleted.unwrap().rows_affected, 1);
    assert_eq!(n, 1, "delete");
    // What only the schema tells is learnt once.
    for expected in [2, 1] {
        let sql = select("SELECT id, typeof(level) FROM readings UNION ALL SELECT 5, 'none'");
        let ([n], rows) = requests(&server, [Kind::Raw], data.query_all_raw(sql)).await;
        assert_eq!(rows.unwrap()[0].try_get_by::<i64, _>("id").unwrap(), 5);
        assert_eq!(n, expected, "raw text");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_it_is_sent() {
    let server = server().await;
    let data = opened(&server).await;
    let refused = async {
        assert_eq!(kind_of(&data.begin().await.unwrap_err()), ErrorKind::Unsupported);
        for sql in [
            "INSERT INTO readings (name) VALUES ('a') RETURNING *",
            "PRAGMA ignore_check_constraints = ON",
            "PRAGMA foreign_keys = OFF",
            "SAVEPOINT a",
        ] {
            let error = data.execute_raw(select(sql)).await.unwrap_err();
            assert_eq!(kind_of(&error), ErrorKind::Unsupported, "{sql}");
        }
    };
    let ([raw], ()) = requests(&server, [Kind::Raw], refused).await;
    assert_eq!(raw, 0);
}

#[tokio::test]
async fn a_violation_is_told_as_sea_orm_knows_it() {
    let server = server().await;
    let data = opened(&server).await;
    model(1).into_active_model().insert(&data).await.unwrap();
    let twice = Model { id: 1, ..model(1) };
    let error = twice.into_active_model().insert(&data).await.unwrap_err();
    let words = "UNIQUE constraint failed: readings.name".to_owned();
    assert_eq!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(words)));
}

/// One factory serves tenants whose schemas differ, as during a migration of the fleet.
#[tokio::test]
async fn a_tenants_column_names_are_its_own() {
    let server = server().await;
    let factory = factory(&server, &context());
    let mut opened = Vec::new();
    for (id, table) in [
        ("old", "CREATE TABLE notes (secret INTEGER PRIMARY KEY)"),
        ("new", "CREATE TABLE notes (number INTEGER PRIMARY KEY, done INTEGER DEFAULT 1)"),
    ] {
        factory.provision(&tenant(id)).await.unwrap();
        let data = factory.get_adapters(&tenant(id)).await.unwrap();
        for sql in [table, "INSERT INTO notes DEFAULT VALUES"] {
            data.execute_unprepared(sql).await.unwrap();
        }
        opened.push(data);
    }
    let names = async |data: &DataAdapters, sql: &str| {
        let row = data.query_one_raw(select(sql)).await.unwrap().unwrap();
        row.column_names()
    };
    let (old, new) = (&opened[0], &opened[1]);
    for _ in 0..2 {
        assert_eq!(names(old, "SELECT rowid FROM notes").await, ["secret"]);
        assert_eq!(names(new, "SELECT rowid FROM notes").await, ["number"]);
        // Without such a column it is a text, and is called what it says.
        let done = r#"SELECT "done" FROM notes"#;
        assert_eq!(names(old, done).await, [r#""done""#]);
        let row = new.query_one_raw(select(done)).await.unwrap().unwrap();
        assert_eq!(row.try_get::<i64>("", "done").unwrap(), 1);
    }
    new.execute_unprepared("ALTER TABLE notes RENAME COLUMN number TO place").await.unwrap();
    assert_eq!(names(new, "SELECT rowid FROM notes").await, ["place"]);
}
