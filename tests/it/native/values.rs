//! Every column type, written by one and read by the other.
//!
//! What a value has to be is what SeaORM keeps in a plain file, read by SQLite itself.

use mt_core::DatabaseFactory as _;

use super::{
    Both,
    columns::{assert_samples, read},
    raw::{self, Raw},
};
use crate::support::outside;

/// The samples as they lie in a tenant's file.
async fn in_a_file(both: &Both) -> Vec<Vec<Raw>> {
    let (factory, tenant) = (both.site.sqlite(), &both.tenant);
    factory.provision(tenant).await.unwrap();
    raw::write_samples(&factory.get_adapters(tenant).await.unwrap()).await;
    let connection = outside(&factory.database_path(tenant).await.unwrap());
    let mut statement = connection.prepare(&raw::select()).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|at| Ok(row.get::<_, rusqlite::types::Value>(at)?.into())).collect()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn assert_same(found: &[Vec<Raw>], expected: &[Vec<Raw>]) {
    assert_eq!(found.len(), expected.len());
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (column, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "row {row}, column {column}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[tokio::test]
async fn libsql_reads_what_an_entity_writes() {
    let both = Both::open().await;
    let expected = in_a_file(&both).await;
    raw::write_samples(&both.ours).await;
    assert_same(&raw::query(&both.theirs, &raw::select()).await, &expected);
    let classes = raw::query(&both.theirs, &raw::select_classes()).await;
    let class = |value: &Raw| Raw::Text(value.class().to_owned());
    let expected: Vec<Vec<Raw>> =
        expected.iter().map(|row| row.iter().map(class).collect()).collect();
    assert_same(&classes, &expected);
}

#[tokio::test]
async fn an_entity_reads_what_libsql_writes() {
    let both = Both::open().await;
    let rows = in_a_file(&both).await;
    raw::make_table(&both.ours).await;
    for row in rows {
        let values: Vec<libsql::Value> = row.into_iter().map(Into::into).collect();
        both.theirs.execute(&raw::insert(), values).await.unwrap();
    }
    assert_samples(&read(&both.ours).await, "read by us");
    assert_samples(&read(&both.ours.read()).await, "read with a token for reading");
}
