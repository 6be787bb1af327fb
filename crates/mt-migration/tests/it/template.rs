use mt_core::{Connection, SchemaTemplate as _};
use sea_orm::{ConnectionTrait as _, Statement};

use crate::{
    factory::OneFile,
    migrations::{runner, sql},
};

#[tokio::test]
async fn it_brings_an_empty_database_to_the_schema() {
    let factory = OneFile::new();
    let runner = runner([
        sql("m1_a", "CREATE TABLE a (id integer)"),
        sql("m2_vacuum", "VACUUM").alone(),
        sql("m3_b", "CREATE TABLE b (id integer)"),
    ]);
    let db = factory.connect().await;
    let connection = Connection::from(db.clone());
    runner.apply(&connection).await.unwrap();
    // A second time it finds everything done.
    runner.apply(&connection).await.unwrap();

    let pragma = Statement::from_string(db.get_database_backend(), "PRAGMA foreign_keys");
    let row = db.query_one_raw(pragma).await.unwrap().unwrap();
    assert!(row.try_get_by_index::<bool>(0).unwrap(), "foreign keys are as they were");
    connection.close().await.unwrap();
    assert_eq!(factory.count("SELECT COUNT(*) AS n FROM seaql_migrations").await, 3);
    assert_eq!(factory.tables().await, 3);
}
