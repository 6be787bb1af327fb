//! Adapters and entities against the schema that `mt-migration` makes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{error::Error as _, slice};

use chrono::{TimeDelta, Utc};
use mt_core::{
    Connection, DataAdapters, DeploymentId, Generation, SchemaTemplate as _, Stamp, TenantId,
};
use mt_entity::{
    CreateError, NewLog, NewUser, Page, TenantAdapters as _, Users, credential, log, role, session,
    user,
};
use mt_migration::{Migrator, Runner};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectOptions, ConnectionTrait as _, Database,
    DatabaseConnection, DbBackend, EntityTrait as _, IntoActiveModel as _, ModelTrait as _, NotSet,
    QueryFilter as _, Schema, Set, SqlErr, Statement, TransactionSession as _,
    TransactionTrait as _,
};

async fn migrated() -> DatabaseConnection {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await.unwrap();
    let runner = Runner::of::<Migrator>().unwrap();
    runner.apply(&Connection::from(db.clone())).await.unwrap();
    db
}

async fn data() -> DataAdapters {
    let db = migrated().await;
    let tenant = TenantId::new("acme").unwrap();
    let stamp = Stamp::new(DeploymentId::random(), &tenant, Generation::FIRST);
    for statement in stamp.to_statements(DbBackend::Sqlite, None) {
        db.execute_raw(statement).await.unwrap();
    }
    DataAdapters::open(&tenant, stamp.deployment, db).await.unwrap()
}

fn ann() -> NewUser {
    NewUser { email: "Ann@Example.com".to_owned(), name: "Ann".to_owned() }
}

fn log(user_id: Option<uuid::Uuid>, message: &str) -> NewLog {
    NewLog { user_id, kind: "test".to_owned(), message: message.to_owned() }
}

#[tokio::test]
async fn a_user_is_found_as_it_was_created() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    assert_eq!(ann.email, "Ann@Example.com");
    assert_eq!(data.users().find(ann.id).await.unwrap().as_ref(), Some(&ann));
    assert_eq!(data.users().find_by_email("ANN@example.com").await.unwrap().as_ref(), Some(&ann));
    assert_eq!(data.read().users().count().await.unwrap(), 1);
    assert!(data.users().rename(ann.id, "Anna").await.unwrap());
    let renamed = data.users().find(ann.id).await.unwrap().unwrap();
    assert_eq!(renamed.name, "Anna");
    assert!(renamed.updated_at > ann.updated_at);
    assert!(data.users().delete(ann.id).await.unwrap());
    assert!(!data.users().delete(ann.id).await.unwrap());
}

#[tokio::test]
async fn an_address_that_differs_only_by_case_is_taken() {
    let data = data().await;
    data.users().create(ann()).await.unwrap();
    let again = NewUser { email: "ann@EXAMPLE.com".to_owned(), ..ann() };
    let error = data.users().create(again).await.unwrap_err();
    assert!(matches!(error, CreateError::Taken("email")), "{error:?}");
    assert_eq!(data.users().count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_user_of_a_program_that_does_not_normalize_is_found_by_the_exact_address() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    let mut row = ann.into_active_model();
    row.email_normalized = Set(None);
    row.update(&data).await.unwrap();
    assert!(data.users().find_by_email("Ann@Example.com").await.unwrap().is_some());
    assert!(data.users().find_by_email("ann@example.com").await.unwrap().is_none());
}

#[tokio::test]
async fn a_read_only_view_creates_nothing() {
    let data = data().await;
    let error = data.read().users().create(ann()).await.unwrap_err();
    assert!(matches!(error, CreateError::Database(_)), "{error:?}");
    assert!(error.source().is_some());
    assert_eq!(data.users().count().await.unwrap(), 0);
}

#[tokio::test]
async fn adapters_take_part_in_a_transaction() {
    let data = data().await;
    let transaction = data.begin().await.unwrap();
    transaction.users().create(ann()).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(data.users().count().await.unwrap(), 0);

    let transaction = data.begin().await.unwrap();
    let ann = transaction.users().create(ann()).await.unwrap();
    transaction.logs().create(log(Some(ann.id), "signed up")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(data.logs().list_of(ann.id, Page::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn adapters_work_on_any_sea_orm_connection() {
    let db = migrated().await;
    Users::new(&db).create(ann()).await.unwrap();
    assert_eq!(Users::new(&db).count().await.unwrap(), 1);
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let data = data().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let user = NewUser { email: format!("{n}@example.com"), name: n.to_string() };
        ids.push(data.users().create(user).await.unwrap().id);
        data.logs().create(log(None, &n.to_string())).await.unwrap();
    }
    let (mut read, mut page) = (Vec::new(), Page::first(2).unwrap());
    loop {
        let users = data.users().list(page).await.unwrap();
        assert!(users.len() <= 2);
        let Some(last) = users.last() else { break };
        page = Page::first(2).unwrap().after(last.id);
        read.extend(users.iter().map(|user| user.id));
    }
    assert_eq!(read, ids);

    let newest = data.logs().list(Page::first(2).unwrap()).await.unwrap();
    assert_eq!(newest.iter().map(|log| &*log.message).collect::<Vec<_>>(), ["4", "3"]);
    let rest = data.logs().list(Page::default().after(newest[1].id)).await.unwrap();
    assert_eq!(rest.iter().map(|log| &*log.message).collect::<Vec<_>>(), ["2", "1", "0"]);
}

#[tokio::test]
async fn logs_are_written_found_and_removed_by_age() {
    let data = data().await;
    let entry = data.logs().create(log(None, "hello")).await.unwrap();
    assert_eq!(data.logs().find(entry.id).await.unwrap().as_ref(), Some(&entry));
    assert_eq!(data.logs().delete_before(entry.created_at).await.unwrap(), 0);
    let later = entry.created_at + TimeDelta::microseconds(1);
    assert_eq!(data.logs().delete_before(later).await.unwrap(), 1);
    assert!(!data.logs().delete(entry.id).await.unwrap());
    let of_nobody = data.logs().create(log(Some(uuid::Uuid::now_v7()), "ghost")).await.unwrap_err();
    assert!(matches!(of_nobody.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))));
}

#[tokio::test]
async fn times_sort_by_time_whatever_their_fraction() {
    let data = data().await;
    let base = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for micros in [0, 1_000, 1_500, 1_000_000] {
        let row = log::ActiveModel {
            id: NotSet,
            user_id: Set(None),
            kind: Set("time".to_owned()),
            message: Set(micros.to_string()),
            created_at: Set(base + TimeDelta::microseconds(micros)),
        };
        row.insert(&data).await.unwrap();
    }
    for (micros, gone) in [(0, 0), (1_000, 1), (1_500, 1), (2_000_000, 2)] {
        let before = base + TimeDelta::microseconds(micros);
        assert_eq!(data.logs().delete_before(before).await.unwrap(), gone, "{micros}");
    }
}

#[tokio::test]
async fn settings_are_set_and_overwritten() {
    let data = data().await;
    data.settings().set("theme", "dark").await.unwrap();
    data.settings().set("theme", "light").await.unwrap();
    data.settings().set("locale", "de").await.unwrap();
    assert_eq!(data.settings().find("theme").await.unwrap().as_deref(), Some("light"));
    let all = data.settings().list(Page::default()).await.unwrap();
    assert_eq!(all.iter().map(|row| &*row.key).collect::<Vec<_>>(), ["locale", "theme"]);
    let rest = data.settings().list(Page::default().after("locale".to_owned())).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert!(data.settings().delete("theme").await.unwrap());
    assert_eq!(data.settings().find("theme").await.unwrap(), None);
}

#[tokio::test]
async fn roles_are_granted_once_and_revoked() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    let admin = data.roles().create("admin").await.unwrap();
    let taken = data.roles().create("admin").await.unwrap_err();
    assert!(matches!(taken, CreateError::Taken("name")), "{taken:?}");
    data.roles().grant(ann.id, admin.id).await.unwrap();
    data.roles().grant(ann.id, admin.id).await.unwrap();
    assert_eq!(data.roles().list_of(ann.id).await.unwrap(), slice::from_ref(&admin));
    assert_eq!(ann.find_related(role::Entity).all(&data).await.unwrap(), slice::from_ref(&admin));
    assert_eq!(admin.find_related(user::Entity).all(&data).await.unwrap(), slice::from_ref(&ann));
    assert!(data.roles().revoke(ann.id, admin.id).await.unwrap());
    assert!(!data.roles().revoke(ann.id, admin.id).await.unwrap());
    assert!(data.roles().find_by_name("admin").await.unwrap().is_some());
    assert!(data.roles().delete(admin.id).await.unwrap());
    assert!(data.roles().list(Page::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn sessions_end_when_they_expire() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    let hour = TimeDelta::hours(1);
    let current = data.sessions().create(ann.id, "current", Utc::now() + hour).await.unwrap();
    data.sessions().create(ann.id, "expired", Utc::now() - hour).await.unwrap();
    assert_eq!(data.sessions().find("current").await.unwrap().as_ref(), Some(&current));
    assert_eq!(data.sessions().find("expired").await.unwrap(), None);
    assert_eq!(data.sessions().delete_expired().await.unwrap(), 1);
    assert!(data.sessions().delete(current.id).await.unwrap());
    data.sessions().create(ann.id, "other", Utc::now() + hour).await.unwrap();
    assert_eq!(data.sessions().delete_of(ann.id).await.unwrap(), 1);
}

#[tokio::test]
async fn hashes_are_stored_and_not_shown() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    data.credentials().set(ann.id, "password", "first-hash").await.unwrap();
    data.credentials().set(ann.id, "password", "second-hash").await.unwrap();
    let credential = data.credentials().find(ann.id, "password").await.unwrap().unwrap();
    assert_eq!(credential.secret_hash, "second-hash");
    let session = data.sessions().create(ann.id, "token-hash", Utc::now()).await.unwrap();
    let shown = format!("{credential:?} {session:?}");
    assert!(!shown.contains("-hash"), "{shown}");
    assert!(data.credentials().delete(ann.id, "password").await.unwrap());
    assert_eq!(data.credentials().find(ann.id, "password").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_a_users_goes_with_the_user() {
    let data = data().await;
    let ann = data.users().create(ann()).await.unwrap();
    let admin = data.roles().create("admin").await.unwrap();
    data.roles().grant(ann.id, admin.id).await.unwrap();
    data.credentials().set(ann.id, "password", "hash").await.unwrap();
    data.sessions().create(ann.id, "hash", Utc::now()).await.unwrap();
    data.logs().create(log(Some(ann.id), "signed up")).await.unwrap();
    data.logs().create(log(None, "kept")).await.unwrap();
    assert!(data.users().delete(ann.id).await.unwrap());
    assert!(credential::Entity::find().all(&data).await.unwrap().is_empty());
    assert!(session::Entity::find().all(&data).await.unwrap().is_empty());
    assert!(data.roles().list_of(ann.id).await.unwrap().is_empty());
    let kept = log::Entity::find().filter(log::Column::UserId.is_null());
    assert_eq!(kept.all(&data).await.unwrap().len(), 1);
    assert_eq!(data.logs().list(Page::default()).await.unwrap().len(), 1);
}

/// What SQLite says of the columns of each table, but for their defaults.
async fn columns(db: &DatabaseConnection) -> Vec<(String, String, String, i64, i64)> {
    let select = r#"SELECT t.name AS "table", c.name, c.type, c."notnull", c.pk
        FROM sqlite_master t, pragma_table_info(t.name) c
        WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'seaql_migrations'
        ORDER BY 1, 2"#;
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, select)).await.unwrap();
    rows.iter().map(|row| row.try_get_many_by_index().unwrap()).collect()
}

#[tokio::test]
async fn the_entities_have_the_columns_that_the_migrations_make() {
    let by_migrations = columns(&migrated().await).await;
    assert!(by_migrations.len() > 25, "{by_migrations:?}");
    let db = Database::connect("sqlite::memory:").await.unwrap();
    let schema = Schema::new(DbBackend::Sqlite);
    for table in [
        schema.create_table_from_entity(user::Entity),
        schema.create_table_from_entity(credential::Entity),
        schema.create_table_from_entity(session::Entity),
        schema.create_table_from_entity(role::Entity),
        schema.create_table_from_entity(mt_entity::user_role::Entity),
        schema.create_table_from_entity(mt_entity::setting::Entity),
        schema.create_table_from_entity(log::Entity),
    ] {
        db.execute(&table).await.unwrap();
    }
    assert_eq!(columns(&db).await, by_migrations);
}
