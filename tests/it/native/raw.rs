//! Values as SQLite has them, whoever reads them.

use mt_core::DataAdapters;
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, IntoActiveModel as _, Iterable as _, Schema,
};

use super::columns::{Column, Entity, samples};

/// A value with its storage class. Real numbers are their bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Null,
    Integer(i64),
    Real(u64),
    Text(String),
    Blob(Vec<u8>),
}

impl Raw {
    /// As `typeof` calls it.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
        }
    }
}

impl From<libsql::Value> for Raw {
    fn from(value: libsql::Value) -> Self {
        use libsql::Value;
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value.to_bits()),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<Raw> for libsql::Value {
    fn from(value: Raw) -> Self {
        match value {
            Raw::Null => Self::Null,
            Raw::Integer(value) => Self::Integer(value),
            Raw::Real(bits) => Self::Real(f64::from_bits(bits)),
            Raw::Text(value) => Self::Text(value),
            Raw::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<rusqlite::types::Value> for Raw {
    fn from(value: rusqlite::types::Value) -> Self {
        use rusqlite::types::Value;
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value.to_bits()),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

/// The names of the entity's columns, `wrap` around each.
pub(crate) fn columns(wrap: impl Fn(&str) -> String) -> String {
    let names = Column::iter().map(|column| wrap(sea_orm::IdenStatic::as_str(&column)));
    names.collect::<Vec<_>>().join(", ")
}

/// Every row of the entity's table.
pub(crate) fn select() -> String {
    format!("SELECT {} FROM every_column ORDER BY id", columns(|name| format!("\"{name}\"")))
}

/// The storage class of every value, as the server tells it.
pub(crate) fn select_classes() -> String {
    let columns = columns(|name| format!("typeof(\"{name}\")"));
    format!("SELECT {columns} FROM every_column ORDER BY id")
}

/// One row of the entity's table.
pub(crate) fn insert() -> String {
    let [names, marks] = [columns(|name| format!("\"{name}\"")), columns(|_| "?".to_owned())];
    format!("INSERT INTO every_column ({names}) VALUES ({marks})")
}

pub(crate) async fn make_table(data: &DataAdapters) {
    let table = Schema::new(data.get_database_backend()).create_table_from_entity(Entity);
    data.execute(&table).await.unwrap();
}

/// Makes the table and writes the samples through the entity.
pub(crate) async fn write_samples(data: &DataAdapters) {
    make_table(data).await;
    for sample in samples() {
        sample.into_active_model().insert(data).await.unwrap();
    }
}

/// Everything in the table of a database that libsql opened.
pub(crate) async fn query(connection: &libsql::Connection, sql: &str) -> Vec<Vec<Raw>> {
    let mut rows = connection.query(sql, ()).await.unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        let values = (0..row.column_count()).map(|at| row.get_value(at).unwrap().into());
        found.push(values.collect());
    }
    found
}
