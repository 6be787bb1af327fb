//! What is bound is what sqlx binds.

use chrono::{DateTime, Duration, FixedOffset, Local as LocalZone, NaiveDate, NaiveTime};
use mt_core::{Driver as _, Error, ErrorKind};
use mt_remote::{Decoder, RemoteDriver};
use sea_orm::{
    ConnectionTrait as _, Database, DbBackend, QueryResult, Statement, Value,
    prelude::Decimal,
    sea_query::{Enum, OptionEnum},
};
use time::macros::{date, datetime, time};
use uuid::Uuid;

use crate::local::Local;

/// A value or several of each variant that the features of this workspace turn on.
fn values() -> Vec<Value> {
    let moment = |seconds: i64, nanos: u32| DateTime::from_timestamp(seconds, nanos).unwrap();
    let moments = [(0, 0), (1_700_000_000, 120_000_000), (-1, 999_999_999), (253_402_300_799, 1)]
        .map(|(seconds, nanos)| moment(seconds, nanos));
    let mut values = vec![
        true.into(),
        false.into(),
        i8::MIN.into(),
        i16::MAX.into(),
        i32::MIN.into(),
        i64::MAX.into(),
        i64::MIN.into(),
        u8::MAX.into(),
        u16::MAX.into(),
        u32::MAX.into(),
        i64::MAX.cast_unsigned().into(),
        0_u64.into(),
        0.1_f32.into(),
        f32::NAN.into(),
        f32::INFINITY.into(),
        0.1_f64.into(),
        1.0_f64.into(),
        (-0.0_f64).into(),
        f64::NAN.into(),
        f64::NEG_INFINITY.into(),
        f64::from_bits(1).into(),
        "".into(),
        "a\0b 🦀".into(),
        Value::Enum(OptionEnum::Some(Box::new(Enum {
            type_name: "kind".into(),
            value: "on".into(),
        }))),
        'é'.into(),
        Vec::<u8>::new().into(),
        vec![0_u8, 255].into(),
        serde_json::json!({"b": [1, 2.5, null, "é\u{1}"], "a": 1e300}).into(),
        serde_json::Value::Null.into(),
        NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().into(),
        NaiveDate::from_ymd_opt(-44, 3, 15).unwrap().into(),
        NaiveDate::from_ymd_opt(12_345, 1, 1).unwrap().into(),
        NaiveTime::from_hms_opt(1, 2, 3).unwrap().into(),
        NaiveTime::from_hms_nano_opt(23, 59, 59, 1).unwrap().into(),
        NaiveTime::from_hms_milli_opt(23, 59, 59, 1_500).unwrap().into(),
        date!(2024 - 02 - 29).into(),
        date!(-0044 - 03 - 15).into(),
        time!(1:02:03).into(),
        time!(23:59:59.000_000_001).into(),
        datetime!(2024-02-29 23:59:59.5).into(),
        datetime!(0001-01-01 0:00).into(),
        datetime!(2024-02-29 23:59:59.5 UTC).into(),
        datetime!(2024-02-29 23:59:59 -3:30).into(),
        Uuid::from_u128(7).into(),
        Decimal::new(110, 2).into(),
        Decimal::MAX.into(),
        Decimal::new(-1, 28).into(),
    ];
    for moment in moments {
        let east = FixedOffset::east_opt(20_700).unwrap();
        values.extend([
            moment.naive_utc().into(),
            moment.into(),
            moment.with_timezone(&LocalZone).into(),
            moment.with_timezone(&east).into(),
            (moment + Duration::microseconds(1)).into(),
        ]);
    }
    let empty: Vec<Value> = values.iter().map(Value::as_null).collect();
    values.extend(empty);
    values
}

fn read(row: &QueryResult) -> (String, Option<Vec<u8>>) {
    (row.try_get_by(0).unwrap(), row.try_get_by(1).unwrap())
}

#[tokio::test]
async fn each_value_is_bound_as_sqlx_binds_it() {
    let directory = tempfile::tempdir().unwrap();
    let ours = RemoteDriver::new(Local::open(&directory.path().join("database")), Decoder::new(1));
    let theirs = Database::connect("sqlite::memory:").await.unwrap();
    for value in values() {
        // The bytes of a value, so that nothing of it is read by anybody's idea of its type; for
        // numbers, its shortest exact text.
        let text =
            "SELECT typeof(?1), CASE typeof(?1) WHEN 'integer' THEN CAST(CAST(?1 AS text) AS blob)
            WHEN 'real' THEN CAST(format('%!.20e', ?1) AS blob) ELSE CAST(?1 AS blob) END";
        let statement = || Statement::from_sql_and_values(DbBackend::Sqlite, text, [value.clone()]);
        let expected = theirs.query_one_raw(statement()).await.unwrap().unwrap();
        let seen = ours.query(statement()).await.unwrap();
        assert_eq!(read(&seen[0]), read(&expected), "{value:?}");
    }
}

#[tokio::test]
async fn what_has_no_form_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ours = RemoteDriver::new(Local::open(&directory.path().join("database")), Decoder::new(1));
    // sqlx leaves such a date out, and what follows takes its place.
    let beyond = datetime!(0001-01-01 0:00 UTC).replace_date(date!(-0001 - 01 - 01));
    for value in [u64::MAX.into(), Value::from(beyond)] {
        let values = [1.into(), value.clone()];
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT ?, ?", values);
        let error = ours.query(statement).await.unwrap_err();
        let error = Error::in_db_err(&error).unwrap();
        assert_eq!(error.kind(), ErrorKind::Statement, "{value:?}");
        assert!(error.to_string().contains("parameter 2"), "{error}");
    }
}
