//! Rows that came through a [`Decoder`] are read as those that SeaORM's own connection read.

use std::fmt::Debug;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use mt_core::{Driver as _, Error, ErrorKind};
use mt_remote::{Column, Decoder, RemoteDriver, Row, Value};
use proptest::prelude::*;
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, FromQueryResult as _, JsonValue,
    QueryResult, Statement, TryGetable,
    prelude::{Decimal, TimeDate, TimeDateTime, TimeDateTimeWithTimeZone, TimeTime, Uuid},
};

use crate::local::Local;

/// The same database, through us and through SeaORM.
struct Both {
    ours: RemoteDriver<Local>,
    theirs: DatabaseConnection,
    _directory: tempfile::TempDir,
}

impl Both {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        let ours = RemoteDriver::new(Local::open(&path), Decoder::new(1));
        let url = format!("sqlite://{}", path.display());
        let theirs = Database::connect(url).await.unwrap();
        Self { ours, theirs, _directory: directory }
    }

    async fn query(&self, text: &str) -> (Vec<QueryResult>, Vec<QueryResult>) {
        let statement = || Statement::from_string(DbBackend::Sqlite, text);
        let ours = self.ours.query(statement()).await.unwrap();
        let theirs = self.theirs.query_all_raw(statement()).await.unwrap();
        assert_eq!(ours.len(), theirs.len());
        (ours, theirs)
    }
}

fn assert_read_alike(ours: &QueryResult, theirs: &QueryResult, what: &str) {
    assert_eq!(ours.column_names(), theirs.column_names(), "{what}");
    for at in 0..theirs.column_names().len() {
        as_type::<bool>(ours, theirs, at);
        as_type::<i8>(ours, theirs, at);
        as_type::<i32>(ours, theirs, at);
        as_type::<i64>(ours, theirs, at);
        as_type::<u32>(ours, theirs, at);
        as_type::<u64>(ours, theirs, at);
        as_type::<f32>(ours, theirs, at);
        as_type::<f64>(ours, theirs, at);
        as_type::<String>(ours, theirs, at);
        as_type::<Vec<u8>>(ours, theirs, at);
        as_type::<Uuid>(ours, theirs, at);
        as_type::<JsonValue>(ours, theirs, at);
        as_type::<Decimal>(ours, theirs, at);
        as_type::<NaiveDate>(ours, theirs, at);
        as_type::<NaiveTime>(ours, theirs, at);
        as_type::<NaiveDateTime>(ours, theirs, at);
        as_type::<DateTime<Utc>>(ours, theirs, at);
        as_type::<DateTime<FixedOffset>>(ours, theirs, at);
        as_type::<TimeDate>(ours, theirs, at);
        as_type::<TimeTime>(ours, theirs, at);
        as_type::<TimeDateTime>(ours, theirs, at);
        as_type::<TimeDateTimeWithTimeZone>(ours, theirs, at);
    }
    let json = |row: &QueryResult| JsonValue::from_query_result(row, "").map_err(|e| e.to_string());
    assert_eq!(json(ours), json(theirs), "{what}");
}

/// Values and errors alike, the errors to the word.
fn as_type<T: TryGetable + Debug>(ours: &QueryResult, theirs: &QueryResult, at: usize) {
    let read = |row: &QueryResult| format!("{:?}", row.try_get_by::<T, _>(at));
    let optional = |row: &QueryResult| format!("{:?}", row.try_get_by::<Option<T>, _>(at));
    assert_eq!(read(ours), read(theirs), "column {at}");
    assert_eq!(optional(ours), optional(theirs), "column {at}");
}

#[tokio::test]
async fn columns_of_every_declared_type_are_read_alike() {
    const TYPES: [&str; 33] = [
        "",
        "INTEGER",
        "int",
        "INT4",
        "Int8",
        "TINYINT",
        "bigint",
        "UNSIGNED BIG INT",
        "BOOLEAN",
        "bool",
        "DATE",
        "date_text",
        "TIME",
        "DATETIME",
        "timestamp",
        "timestamp_text",
        "VARCHAR(255)",
        "char",
        "NCHAR(5)",
        "CLOB",
        "TEXT",
        "json_text",
        "uuid_text",
        "BLOB",
        "varbinary_blob(16)",
        "REAL",
        "FLOAT",
        "DOUBLE PRECISION",
        "real_decimal",
        "NUMERIC",
        "DECIMAL(10,2)",
        "JSON",
        "whatever",
    ];
    const VALUES: [&str; 19] = [
        "NULL",
        "0",
        "1",
        "-1",
        "300",
        "9223372036854775807",
        "1.0",
        "1.5",
        "-0.0",
        "1e300",
        "''",
        "'text'",
        "'1'",
        "'2024-02-29'",
        "'2024-02-29 12:34:56.789'",
        "'12:34:56'",
        "'2024-02-29T12:34:56+05:45'",
        "x''",
        "x'00112233445566778899aabbccddeeff'",
    ];
    let both = Both::open().await;
    let columns: Vec<_> =
        TYPES.iter().enumerate().map(|(at, kind)| format!("\"c{at}\" {kind}")).collect();
    let mut script = format!("CREATE TABLE kinds ({});", columns.join(", "));
    for value in VALUES {
        let row = vec![value; TYPES.len()].join(", ");
        script.push_str(&format!("INSERT INTO kinds VALUES ({row});"));
    }
    both.ours.execute_unprepared(&script).await.unwrap();
    let (ours, theirs) = both.query("SELECT * FROM kinds").await;
    for ((ours, theirs), value) in ours.iter().zip(&theirs).zip(VALUES) {
        assert_read_alike(ours, theirs, value);
    }
    // Of expressions no type is declared.
    for value in VALUES {
        let text = format!("SELECT {value} AS v, {value}, count(*) AS n, (SELECT {value}) AS s");
        let (ours, theirs) = both.query(&text).await;
        assert_read_alike(&ours[0], &theirs[0], value);
    }
}

#[tokio::test]
async fn names_are_read_alike() {
    let both = Both::open().await;
    let text =
        "SELECT 1 AS a, 2 AS a, 3 AS \"\", 4 AS \"a \"\"b\"\"\", 5 AS \"?1 $1 :x -- \", 6 AS A, 7";
    let (ours, theirs) = both.query(text).await;
    assert_read_alike(&ours[0], &theirs[0], text);
    for name in ["a", "", "a \"b\"", "?1 $1 :x -- ", "A", "7", "missing"] {
        let read = |row: &QueryResult| format!("{:?}", row.try_get::<i64>("", name));
        assert_eq!(read(&ours[0]), read(&theirs[0]), "{name}");
    }
}

fn column(name: &str) -> Column {
    Column { name: name.to_owned(), declared: None }
}

#[tokio::test]
async fn what_cannot_be_a_row_is_refused() {
    let decoder = Decoder::new(1);
    let refused = async |columns: &[Column], row: Row| {
        let error = decoder.rows(columns, vec![row]).await.unwrap_err();
        assert_eq!(Error::in_db_err(&error).unwrap().kind(), ErrorKind::Internal);
    };
    refused(&[], vec![]).await;
    refused(&[column("a")], vec![]).await;
    refused(&[column("a")], vec![Value::Null, Value::Null]).await;
    refused(&[column("a\0b")], vec![Value::Null]).await;
    let many: Vec<Column> = (0..2_001).map(|at| column(&format!("c{at}"))).collect();
    refused(&many, vec![Value::Null; 2_001]).await;
    let most = decoder.rows(&many[..2_000], vec![vec![Value::Integer(1); 2_000]; 3]).await;
    assert_eq!(most.unwrap()[2].try_get_by::<i64, _>(1_999).unwrap(), 1);
    assert_eq!(decoder.rows(&[], vec![]).await.unwrap().len(), 0);
}

#[test]
fn a_decoder_outlives_its_runtime() {
    let decoder = Decoder::new(1);
    let decode = async || {
        let rows = decoder.rows(&[column("a")], vec![vec![Value::Text("x\0y".into())]]).await;
        rows.unwrap()[0].try_get::<String>("", "a").unwrap()
    };
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(decode()), "x\0y");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(decode()), "x\0y");
}

#[tokio::test]
async fn a_decoding_that_nobody_waits_for_leaves_nothing() {
    use futures_util::FutureExt as _;

    let decoder = Decoder::new(1);
    let rows = |n: i64| (0..n).map(|at| vec![Value::Integer(at)]).collect::<Vec<Row>>();
    decoder.rows(&[column("a")], rows(1)).await.unwrap();
    for _ in 0..20 {
        assert!(decoder.rows(&[column("a")], rows(5_000)).now_or_never().is_none());
        let decoded = decoder.rows(&[column("b")], rows(3)).await.unwrap();
        let decoded: Vec<i64> = decoded.iter().map(|row| row.try_get("", "b").unwrap()).collect();
        assert_eq!(decoded, [0, 1, 2]);
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("NaN is NULL", |value| !value.is_nan()).prop_map(Value::Real),
        "(?s).{0,20}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
    ]
}

fn table() -> impl Strategy<Value = (Vec<Column>, Vec<Row>)> {
    (1_usize..8, 0_usize..400).prop_flat_map(|(columns, rows)| {
        let names = proptest::collection::vec("[^\0]{0,8}", columns);
        let row = proptest::collection::vec(value(), columns);
        let names = names.prop_map(|names| names.iter().map(|name| column(name)).collect());
        (names, proptest::collection::vec(row, rows))
    })
}

fn read(row: &QueryResult, at: usize) -> Value {
    if let Ok(value) = row.try_get_by::<Option<i64>, _>(at) {
        return value.map_or(Value::Null, Value::Integer);
    }
    if let Ok(value) = row.try_get_by(at) {
        return Value::Real(value);
    }
    if let Ok(value) = row.try_get_by(at) {
        return Value::Text(value);
    }
    Value::Blob(row.try_get_by(at).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_rows_come_back((columns, rows) in table()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let decoded = runtime.block_on(Decoder::new(1).rows(&columns, rows.clone())).unwrap();
        prop_assert_eq!(decoded.len(), rows.len());
        for (decoded, row) in decoded.iter().zip(rows) {
            let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
            prop_assert_eq!(decoded.column_names(), names);
            for (at, value) in row.into_iter().enumerate() {
                prop_assert_eq!(read(decoded, at), value);
            }
        }
    }
}
