//! An entity with a column of every kind that SeaORM keeps in SQLite.

use chrono::{Duration, NaiveDate, NaiveTime, TimeZone as _};
use sea_orm::{EntityTrait as _, QueryOrder as _, entity::prelude::*};
use time::macros::{date, datetime, time};

#[expect(
    unreachable_pub,
    unnameable_types,
    reason = "what the derive makes is public, and so is what it names"
)]
mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
    #[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "snake_case")]
    pub enum Word {
        One,
        Other,
    }

    #[derive(Clone, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
    #[sea_orm(rs_type = "i32", db_type = "Integer")]
    pub enum Number {
        #[sea_orm(num_value = -1)]
        Low,
        #[sea_orm(num_value = 7)]
        High,
    }

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "every_column")]
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
        pub f32: f32,
        pub f64: f64,
        pub string: String,
        #[sea_orm(column_type = "Text")]
        pub text: String,
        pub bytes: Vec<u8>,
        pub uuid: Uuid,
        // Has no optional sister: SeaORM 2.0.4 cannot read its NULL, on any provider.
        pub text_uuid: TextUuid,
        pub json: Json,
        pub decimal: Decimal,
        pub word: Word,
        pub number: Number,
        pub date: Date,
        pub time: Time,
        pub moment: DateTime,
        pub utc: DateTimeUtc,
        pub local: DateTimeLocal,
        pub zoned: DateTimeWithTimeZone,
        pub unix: ChronoUnixTimestamp,
        pub unix_millis: ChronoUnixTimestampMillis,
        pub time_date: TimeDate,
        pub time_time: TimeTime,
        pub time_moment: TimeDateTime,
        pub time_zoned: TimeDateTimeWithTimeZone,
        pub time_unix: TimeUnixTimestamp,
        pub maybe_flag: Option<bool>,
        pub maybe_i8: Option<i8>,
        pub maybe_i16: Option<i16>,
        pub maybe_i32: Option<i32>,
        pub maybe_i64: Option<i64>,
        pub maybe_u8: Option<u8>,
        pub maybe_u16: Option<u16>,
        pub maybe_u32: Option<u32>,
        pub maybe_f32: Option<f32>,
        pub maybe_f64: Option<f64>,
        pub maybe_string: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub maybe_text: Option<String>,
        pub maybe_bytes: Option<Vec<u8>>,
        pub maybe_uuid: Option<Uuid>,
        pub maybe_json: Option<Json>,
        pub maybe_decimal: Option<Decimal>,
        pub maybe_word: Option<Word>,
        pub maybe_number: Option<Number>,
        pub maybe_date: Option<Date>,
        pub maybe_time: Option<Time>,
        pub maybe_moment: Option<DateTime>,
        pub maybe_utc: Option<DateTimeUtc>,
        pub maybe_local: Option<DateTimeLocal>,
        pub maybe_zoned: Option<DateTimeWithTimeZone>,
        pub maybe_unix: Option<ChronoUnixTimestamp>,
        pub maybe_unix_millis: Option<ChronoUnixTimestampMillis>,
        pub maybe_time_date: Option<TimeDate>,
        pub maybe_time_time: Option<TimeTime>,
        pub maybe_time_moment: Option<TimeDateTime>,
        pub maybe_time_zoned: Option<TimeDateTimeWithTimeZone>,
        pub maybe_time_unix: Option<TimeUnixTimestamp>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) use entity::{Column, Entity, Model, Number, Word};

/// All rows as the entity reads them, by their ids.
pub(crate) async fn read(db: &impl ConnectionTrait) -> Vec<Model> {
    Entity::find().order_by_asc(Column::Id).all(db).await.unwrap()
}

/// [`read`] found the [`samples`].
pub(crate) fn assert_samples(found: &[Model], how: &str) {
    let written = samples();
    assert_eq!(found.len(), written.len(), "{how}");
    for (found, written) in found.iter().zip(&written) {
        assert_eq!(found, written, "{how}");
    }
}

/// Rows with every extreme, one after the other by their ids.
pub(crate) fn samples() -> Vec<Model> {
    let plain = plain();
    let mut samples = vec![plain.clone(), full()];
    for i64 in [i64::MIN, i64::MAX, -1, 9_007_199_254_740_993] {
        samples.push(Model { i64, maybe_i64: Some(i64), ..plain.clone() });
    }
    // Not -0.0: a column of whole numbers and others keeps it as 0, in a file as on a server.
    for f64 in [
        1.0,
        -1.0,
        0.1,
        0.1 + 0.2,
        1.0 / 3.0,
        1e15,
        1e16,
        9_007_199_254_740_994.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        // The smallest there is.
        f64::from_bits(1),
        // Needs all 17 digits.
        f64::from_bits(0x4340_0000_0000_0001),
        2.225_073_858_507_201e-308,
    ] {
        samples.push(Model { f64, maybe_f64: Some(f64), ..plain.clone() });
    }
    for f32 in [1.0, -0.375, 16_777_216.0] {
        samples.push(Model { f32, maybe_f32: Some(f32), ..plain.clone() });
    }
    for text in ["0", "1.0", "NULL", " padded ", "2024-02-29", "before\0after", "\0"] {
        let text = text.to_owned();
        let string = text.clone();
        samples.push(Model { maybe_text: Some(text.clone()), text, string, ..plain.clone() });
    }
    for (id, sample) in (1..).zip(&mut samples) {
        sample.id = id;
    }
    samples
}

/// Zero, empty or missing in every column.
fn plain() -> Model {
    let epoch = chrono::DateTime::UNIX_EPOCH;
    let time_epoch = datetime!(1970-01-01 0:00);
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
        f32: 0.0,
        f64: 0.0,
        string: String::new(),
        text: String::new(),
        bytes: Vec::new(),
        uuid: Uuid::nil(),
        text_uuid: Uuid::nil().into(),
        json: serde_json::json!({}),
        decimal: Decimal::ZERO,
        word: Word::One,
        number: Number::Low,
        date: epoch.date_naive(),
        time: NaiveTime::MIN,
        moment: epoch.naive_utc(),
        utc: epoch,
        local: epoch.into(),
        zoned: epoch.into(),
        unix: ChronoUnixTimestamp(epoch),
        unix_millis: ChronoUnixTimestampMillis(epoch),
        time_date: time_epoch.date(),
        time_time: time_epoch.time(),
        time_moment: time_epoch,
        time_zoned: time_epoch.assume_utc(),
        time_unix: TimeUnixTimestamp(time_epoch.assume_utc()),
        maybe_flag: None,
        maybe_i8: None,
        maybe_i16: None,
        maybe_i32: None,
        maybe_i64: None,
        maybe_u8: None,
        maybe_u16: None,
        maybe_u32: None,
        maybe_f32: None,
        maybe_f64: None,
        maybe_string: None,
        maybe_text: None,
        maybe_bytes: None,
        maybe_uuid: None,
        maybe_json: None,
        maybe_decimal: None,
        maybe_word: None,
        maybe_number: None,
        maybe_date: None,
        maybe_time: None,
        maybe_moment: None,
        maybe_utc: None,
        maybe_local: None,
        maybe_zoned: None,
        maybe_unix: None,
        maybe_unix_millis: None,
        maybe_time_date: None,
        maybe_time_time: None,
        maybe_time_moment: None,
        maybe_time_zoned: None,
        maybe_time_unix: None,
    }
}

/// Something to be found in every column, and `Some` of what is easily taken for `None`.
fn full() -> Model {
    let utc = chrono::DateTime::UNIX_EPOCH - Duration::microseconds(1_234_567_890_123);
    let offset = chrono::FixedOffset::west_opt(9 * 3600 + 1800).unwrap();
    let leap_day = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let evening = NaiveTime::from_hms_nano_opt(23, 59, 59, 999_999_999).unwrap();
    let whole = chrono::Utc.timestamp_opt(4_102_444_800, 0).unwrap();
    let moment = datetime!(2024-02-29 23:59:59.123_456_789);
    let zoned = moment.assume_offset(time::macros::offset!(+5:45));
    Model {
        id: 0,
        flag: true,
        i8: i8::MIN,
        i16: i16::MIN,
        i32: i32::MIN,
        i64: i64::MIN,
        u8: u8::MAX,
        u16: u16::MAX,
        u32: u32::MAX,
        f32: -2.5,
        f64: -2.5,
        string: "it's; \"quoted\" -- ?1 :a".to_owned(),
        text: "\r\n\t é 漢字 🦀👩‍👩‍👧 \u{202e}\u{feff}".to_owned(),
        bytes: (0..=u8::MAX).collect(),
        uuid: Uuid::from_u128(u128::MAX - 1),
        text_uuid: Uuid::from_u128(u128::MAX - 1).into(),
        json: serde_json::json!({"a": [1, -2.5, null, "é🦀\u{1}"], "big": i64::MAX}),
        decimal: Decimal::new(-1_234_567, 3),
        word: Word::Other,
        number: Number::High,
        date: leap_day,
        time: evening,
        moment: utc.naive_utc(),
        utc,
        local: utc.into(),
        zoned: utc.with_timezone(&offset),
        unix: ChronoUnixTimestamp(whole),
        unix_millis: ChronoUnixTimestampMillis(whole + Duration::milliseconds(1)),
        time_date: date!(2024 - 02 - 29),
        time_time: time!(23:59:59.999_999_999),
        time_moment: moment,
        time_zoned: zoned,
        time_unix: TimeUnixTimestamp(datetime!(2100-01-01 0:00).assume_utc()),
        maybe_flag: Some(false),
        maybe_i8: Some(0),
        maybe_i16: Some(0),
        maybe_i32: Some(0),
        maybe_i64: Some(0),
        maybe_u8: Some(0),
        maybe_u16: Some(0),
        maybe_u32: Some(0),
        maybe_f32: Some(0.0),
        maybe_f64: Some(0.0),
        maybe_string: Some(String::new()),
        maybe_text: Some(String::new()),
        maybe_bytes: Some(Vec::new()),
        maybe_uuid: Some(Uuid::nil()),
        maybe_json: Some(serde_json::json!([])),
        maybe_decimal: Some(Decimal::ONE),
        maybe_word: Some(Word::One),
        maybe_number: Some(Number::Low),
        maybe_date: Some(leap_day),
        maybe_time: Some(NaiveTime::MIN),
        maybe_moment: Some(utc.naive_utc()),
        maybe_utc: Some(utc),
        maybe_local: Some(utc.into()),
        maybe_zoned: Some(utc.with_timezone(&offset)),
        maybe_unix: Some(ChronoUnixTimestamp(whole)),
        maybe_unix_millis: Some(ChronoUnixTimestampMillis(whole)),
        maybe_time_date: Some(date!(1970 - 01 - 01)),
        maybe_time_time: Some(time!(0:00)),
        maybe_time_moment: Some(moment),
        maybe_time_zoned: Some(zoned),
        maybe_time_unix: Some(TimeUnixTimestamp(datetime!(1970-01-01 0:00).assume_utc())),
    }
}
