use mt_sqlite_copy::{FileBuilder, Filling};
use rusqlite::{Connection, types::Value};

use crate::{schema, scratch};

fn builder() -> FileBuilder {
    let source = Connection::open_in_memory().unwrap();
    source
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE ledger (version TEXT);")
        .unwrap();
    FileBuilder::create(scratch(), &schema(&source)).unwrap()
}

fn row(id: i64) -> Vec<Value> {
    vec![Value::Integer(id), Value::Text("x".repeat(1000))]
}

#[tokio::test]
async fn rows_come_one_by_one_and_all_arrive() {
    let mut filling = Filling::start(builder(), Some("ledger".to_owned()));
    for (id, version) in [(1, "m1"), (2, "m2")] {
        let version = Value::Text(version.to_owned());
        filling.insert(0, vec![Value::Integer(id), version]).await.unwrap();
    }
    for id in 1..=3000 {
        filling.insert(1, row(id)).await.unwrap();
    }
    let built = filling.finish().await.unwrap();
    assert_eq!(built.contents.rows["t"], 3000);
    assert_eq!(built.contents.schema_version.as_deref(), Some("m2"));
}

#[tokio::test]
async fn the_first_row_that_cannot_be_written_is_told() {
    let mut filling = Filling::start(builder(), None);
    filling.insert(1, row(1)).await.unwrap();
    let failed = async {
        for _ in 0..10_000 {
            filling.insert(1, row(1)).await?;
        }
        Ok::<_, mt_core::Error>(())
    };
    let error = failed.await.unwrap_err();
    assert!(error.to_chain().contains("UNIQUE"), "{}", error.to_chain());
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_no_file() {
    let file = scratch();
    let path = file.path().to_owned();
    let source = Connection::open_in_memory().unwrap();
    source.execute_batch("CREATE TABLE t (a)").unwrap();
    let builder = FileBuilder::create(file, &schema(&source)).unwrap();
    let mut filling = Filling::start(builder, None);
    filling.insert(0, vec![Value::Integer(1), Value::Null]).await.unwrap();
    assert!(path.exists());
    filling.abandon().await;
    assert!(!path.exists());
}
