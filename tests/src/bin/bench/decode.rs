//! Rows that came over a wire, made SeaORM's, beside the same rows fetched from a table.

use anyhow::{Result, ensure};
use mt_remote::{Column, Decoder, Row, Value};
use sea_orm::sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection, query,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use serde_json::json;

use crate::figure::{Figure, Times, millis};

const COLUMNS: [(&str, &str); 6] = [
    ("id", "INTEGER"),
    ("name", "TEXT"),
    ("score", "REAL"),
    ("missing", "TEXT"),
    ("payload", "BLOB"),
    ("count", "INTEGER"),
];

fn row(id: i64) -> Row {
    vec![
        Value::Integer(id),
        Value::Text(format!("a name of thirty letters, {id:04}")),
        Value::Real(id as f64 * 0.1),
        Value::Null,
        Value::Blob(id.to_be_bytes().repeat(4)),
        Value::Integer(i64::MAX - id),
    ]
}

/// Decodes `count` rows, and fetches as many from a table in memory, `rounds` times in turns.
///
/// Each has a thread, and fetching one row takes 7 microseconds where the system wakes it on the
/// core of whoever asks, and 50 where it does not: for as long as the process lives, and by luck. So
/// all of it is done on one core, where that can be had.
pub(crate) async fn decode(count: i64, rounds: usize) -> Result<Figure> {
    let rows: Vec<Row> = (0..count).map(row).collect();
    let columns = COLUMNS.map(|(name, declared)| Column {
        name: name.to_owned(),
        declared: Some(declared.to_owned()),
    });
    let decoder = Decoder::new(1);
    let mut table = table(&rows).await?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 0..=rounds {
        let taken = rows.clone();
        let decoded = ours.take(async { Ok(decoder.rows(&columns, taken).await?) }).await?;
        let fetched = theirs.take(fetch(&mut table)).await?;
        ensure!(decoded.len() == rows.len() && fetched.len() == rows.len(), "rows are missing");
        let last: i64 = decoded[decoded.len() - 1].try_get_by("count")?;
        ensure!(last == i64::MAX - (count - 1), "a row is another");
        if round == 0 {
            // What is prepared once was prepared then.
            (ours, theirs) = (Times::default(), Times::default());
        }
    }
    let (ours, theirs) = (ours.median(), theirs.median());
    let conditions = json!({
        "rows": count,
        "columns": "i64, text, f64, NULL, blob, i64",
        "rounds": rounds,
        "theirs": "sqlx-sqlite, SELECT of all rows of a table in memory, prepared, nothing logged",
        "ours_ms_median": millis(ours, 1),
        "theirs_ms_median": millis(theirs, 1),
    });
    Ok(Figure { value: ours.as_secs_f64() / theirs.as_secs_f64(), conditions })
}

/// A table in memory with `rows`.
async fn table(rows: &[Row]) -> Result<SqliteConnection> {
    // As quick as it can be set to be.
    let options = SqliteConnectOptions::new().disable_statement_logging().row_buffer_size(256);
    let mut connection = options.connect().await?;
    let columns = COLUMNS.map(|(name, declared)| format!("{name} {declared}")).join(", ");
    let create = AssertSqlSafe(format!("CREATE TABLE t ({columns})"));
    query(create).execute(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    for row in rows {
        let mut insert = query("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)");
        for value in row.clone() {
            insert = match value {
                Value::Null => insert.bind(None::<i64>),
                Value::Integer(value) => insert.bind(value),
                Value::Real(value) => insert.bind(value),
                Value::Text(value) => insert.bind(value),
                Value::Blob(value) => insert.bind(value),
            };
        }
        insert.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(connection)
}

async fn fetch(table: &mut SqliteConnection) -> Result<Vec<SqliteRow>> {
    let select = query("SELECT id, name, score, missing, payload, count FROM t");
    Ok(select.fetch_all(table).await?)
}
