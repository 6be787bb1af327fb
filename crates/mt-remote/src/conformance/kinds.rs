//! An entity with a column of each of SeaORM's types that SQLite can give back.

use chrono::{DateTime, Duration, FixedOffset, Local, NaiveDate, NaiveTime};
use sea_orm::{DbBackend, Schema, Statement, prelude::Decimal};
use time::macros::{date, datetime, time};
use uuid::Uuid;

pub(crate) use self::entity::{ActiveModel, Column, Entity, Model, State};
use super::fault::{Fault, Outcome};

#[expect(
    unreachable_pub,
    unnameable_types,
    reason = "what the derive makes is public, and so is what it names"
)]
mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "kinds")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub flag: bool,
        pub i8: i8,
        pub i16: i16,
        pub i32: i32,
        pub i64: i64,
        pub u8: u8,
        pub u16: u16,
        pub u32: u32,
        pub float: f32,
        pub double: f64,
        pub text: String,
        pub bytes: Vec<u8>,
        pub state: State,
        pub uuid: Uuid,
        pub json: Json,
        pub decimal: Decimal,
        pub date: ChronoDate,
        pub time: ChronoTime,
        pub date_time: ChronoDateTime,
        pub utc: ChronoDateTimeUtc,
        pub local: ChronoDateTimeLocal,
        pub zoned: ChronoDateTimeWithTimeZone,
        pub time_date: TimeDate,
        pub time_time: TimeTime,
        pub time_date_time: TimeDateTime,
        pub time_zoned: TimeDateTimeWithTimeZone,
        pub maybe_flag: Option<bool>,
        pub maybe_i32: Option<i32>,
        pub maybe_i64: Option<i64>,
        pub maybe_u32: Option<u32>,
        pub maybe_float: Option<f32>,
        pub maybe_double: Option<f64>,
        pub maybe_text: Option<String>,
        pub maybe_bytes: Option<Vec<u8>>,
        pub maybe_state: Option<State>,
        pub maybe_uuid: Option<Uuid>,
        pub maybe_json: Option<Json>,
        pub maybe_decimal: Option<Decimal>,
        pub maybe_date: Option<ChronoDate>,
        pub maybe_time: Option<ChronoTime>,
        pub maybe_date_time: Option<ChronoDateTime>,
        pub maybe_utc: Option<ChronoDateTimeUtc>,
        pub maybe_zoned: Option<ChronoDateTimeWithTimeZone>,
        pub maybe_time_date: Option<TimeDate>,
        pub maybe_time_time: Option<TimeTime>,
        pub maybe_time_date_time: Option<TimeDateTime>,
        pub maybe_time_zoned: Option<TimeDateTimeWithTimeZone>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
    #[sea_orm(rs_type = "String", db_type = "String(StringLen::None)")]
    pub enum State {
        #[sea_orm(string_value = "on")]
        On,
        #[sea_orm(string_value = "off")]
        Off,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The statement that makes the table.
pub(crate) fn table() -> Statement {
    DbBackend::Sqlite.build(&Schema::new(DbBackend::Sqlite).create_table_from_entity(Entity))
}

/// Rows with ids from 1 on: one that is plain and without what is optional, one that is full, and
/// the ends of ranges.
pub(crate) fn samples() -> Outcome<Vec<Model>> {
    let (plain, full) = (plain(), full()?);
    let mut samples = vec![plain.clone(), full];
    for i64 in [i64::MIN, -1, 9_007_199_254_740_993, i64::MAX - 1] {
        samples.push(Model { i64, maybe_i64: Some(i64), ..plain.clone() });
    }
    // Whole numbers too, which some protocols cannot tell from integers. Not -0.0, which loses its
    // sign in a column of SQLite.
    for double in [1.0, -1.0, 1e15, 0.1, f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX] {
        samples.push(Model { double, maybe_double: Some(-double), ..plain.clone() });
    }
    for text in ["", "null", "0", "1.0", "2024-02-29", " padded ", "before\0after", "{}"] {
        let text = text.to_owned();
        samples.push(Model { maybe_text: Some(text.clone()), text, ..plain.clone() });
    }
    samples.push(Model {
        i8: i8::MIN,
        i16: i16::MIN,
        i32: i32::MIN,
        float: f32::MIN_POSITIVE,
        maybe_i32: Some(-1),
        maybe_flag: Some(true),
        maybe_json: Some(serde_json::Value::Null),
        ..plain
    });
    for (id, sample) in (1..).zip(&mut samples) {
        sample.id = id;
    }
    Ok(samples)
}

fn plain() -> Model {
    let epoch = DateTime::UNIX_EPOCH;
    Model {
        id: 0,
        flag: false,
        i8: 0,
        i16: 0,
        i32: 0,
        i64: 0,
        u8: 0,
        u16: 0,
        u32: 0,
        float: 0.0,
        double: 0.0,
        text: String::new(),
        bytes: Vec::new(),
        state: State::Off,
        uuid: Uuid::nil(),
        json: serde_json::json!({}),
        decimal: Decimal::ZERO,
        date: epoch.date_naive(),
        time: NaiveTime::MIN,
        date_time: epoch.naive_utc(),
        utc: epoch,
        local: epoch.with_timezone(&Local),
        zoned: epoch.fixed_offset(),
        time_date: date!(1970 - 01 - 01),
        time_time: time!(00:00),
        time_date_time: datetime!(1970-01-01 00:00),
        time_zoned: datetime!(1970-01-01 00:00 UTC),
        maybe_flag: None,
        maybe_i32: None,
        maybe_i64: None,
        maybe_u32: None,
        maybe_float: None,
        maybe_double: None,
        maybe_text: None,
        maybe_bytes: None,
        maybe_state: None,
        maybe_uuid: None,
        maybe_json: None,
        maybe_decimal: None,
        maybe_date: None,
        maybe_time: None,
        maybe_date_time: None,
        maybe_utc: None,
        maybe_zoned: None,
        maybe_time_date: None,
        maybe_time_time: None,
        maybe_time_date_time: None,
        maybe_time_zoned: None,
    }
}

fn full() -> Outcome<Model> {
    let missing = || Fault::new("the sample values are no dates");
    let leap_day = NaiveDate::from_ymd_opt(2024, 2, 29).ok_or_else(missing)?;
    let evening = NaiveTime::from_hms_nano_opt(23, 59, 59, 999_999_999).ok_or_else(missing)?;
    let east = FixedOffset::east_opt(5 * 3600 + 45 * 60).ok_or_else(missing)?;
    // Before the epoch and to the nanosecond.
    let utc = DateTime::UNIX_EPOCH - Duration::nanoseconds(1_234_567_890_123_456_789);
    let json = serde_json::json!({
        "a": [1, -2.5, true, null, "é🦀\u{1}"], "b": {"c": "it's"}, "big": 9_007_199_254_740_993_i64
    });
    Ok(Model {
        id: 0,
        flag: true,
        i8: i8::MAX,
        i16: i16::MAX,
        i32: i32::MAX,
        i64: i64::MAX,
        u8: u8::MAX,
        u16: u16::MAX,
        u32: u32::MAX,
        float: 0.1,
        double: f64::MAX,
        text: "it's; \"quoted\" -- \\ %_ $1 ?1 :a\r\n\t é 漢字 🦀👩‍👩‍👧 \u{202e}שלום\u{feff}"
            .to_owned(),
        bytes: (0..=u8::MAX).collect(),
        state: State::On,
        uuid: Uuid::from_u128(u128::MAX - 1),
        json: json.clone(),
        // SQLite keeps a decimal as a floating point number.
        decimal: Decimal::new(-123_456_789, 4),
        date: leap_day,
        time: evening,
        date_time: utc.naive_utc(),
        utc,
        local: utc.with_timezone(&Local),
        zoned: utc.with_timezone(&east),
        time_date: date!(2024 - 02 - 29),
        time_time: time!(23:59:59.999999999),
        time_date_time: datetime!(1930-11-18 00:28:29.876543211),
        time_zoned: datetime!(2024-02-29 23:59:59.5 +05:45),
        maybe_flag: Some(false),
        maybe_i32: Some(0),
        maybe_i64: Some(i64::MIN),
        maybe_u32: Some(0),
        maybe_float: Some(-1.0),
        maybe_double: Some(1.0),
        maybe_text: Some(String::new()),
        maybe_bytes: Some(Vec::new()),
        maybe_state: Some(State::Off),
        maybe_uuid: Some(Uuid::nil()),
        maybe_json: Some(json),
        maybe_decimal: Some(Decimal::new(110, 2)),
        maybe_date: Some(leap_day),
        maybe_time: Some(NaiveTime::MIN),
        maybe_date_time: Some(utc.naive_utc()),
        maybe_utc: Some(utc),
        maybe_zoned: Some(utc.with_timezone(&east)),
        maybe_time_date: Some(date!(0001 - 01 - 01)),
        maybe_time_time: Some(time!(00:00)),
        maybe_time_date_time: Some(datetime!(9999-12-31 23:59:59)),
        maybe_time_zoned: Some(datetime!(1970-01-01 00:00 -12)),
    })
}
