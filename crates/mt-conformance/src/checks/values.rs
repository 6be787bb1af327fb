use chrono::{DateTime, Duration, NaiveDate, NaiveTime};
use sea_orm::{
    ActiveModelTrait as _, DbBackend, EntityTrait as _, IntoActiveModel as _, QueryOrder as _,
    Schema,
};
use uuid::Uuid;

use crate::{
    fault::{Doing as _, Fault, Outcome, ensure},
    probe,
    trial::Trial,
};

#[expect(unreachable_pub, reason = "what the derive makes is public, and so is what it names")]
mod kinds {
    use sea_orm::entity::prelude::*;

    /// One column of each kind that a factory must keep, required and optional.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "mt_probe_values")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub flag: bool,
        pub small: i32,
        pub big: i64,
        pub real: f64,
        #[sea_orm(column_type = "Text")]
        pub text: String,
        pub bytes: Vec<u8>,
        pub uuid: Uuid,
        pub json: Json,
        pub instant: DateTimeUtc,
        pub moment: DateTime,
        pub date: Date,
        pub time: Time,
        pub maybe_flag: Option<bool>,
        pub maybe_small: Option<i32>,
        pub maybe_big: Option<i64>,
        pub maybe_real: Option<f64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub maybe_text: Option<String>,
        pub maybe_bytes: Option<Vec<u8>>,
        pub maybe_uuid: Option<Uuid>,
        pub maybe_json: Option<Json>,
        pub maybe_instant: Option<DateTimeUtc>,
        pub maybe_date: Option<Date>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) async fn values_come_back_as_they_were(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.tenant("values")?;
    trial.factory().provision(&tenant).await.doing("provision")?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    let table = Schema::new(backend).create_table_from_entity(kinds::Entity);
    trial.create(&tenant, &[table]).await?;

    let written = samples(backend)?;
    for sample in &written {
        let returned = sample.clone().into_active_model().insert(&data).await;
        let returned = returned.doing(&format!("inserting {sample:?}"))?;
        expect_same(&returned, sample, "an insert returned")?;
    }
    let fresh = trial.open(&tenant).await?;
    let found = kinds::Entity::find()
        .order_by_asc(kinds::Column::Id)
        .all(&fresh)
        .await
        .doing("reading the values back")?;
    ensure!(found.len() == written.len(), "{} of {} rows came back", found.len(), written.len());
    for (found, written) in found.iter().zip(&written) {
        expect_same(found, written, "a select found")?;
    }
    Ok(())
}

fn expect_same(found: &kinds::Model, written: &kinds::Model, what: &str) -> Outcome {
    ensure!(found == written, "{what} {found:?} where {written:?} was written");
    // `==` takes -0.0 for 0.0.
    let (found, written) = (found.real, written.real);
    ensure!(found.to_bits() == written.to_bits(), "{what} {found:?} where {written:?} was written");
    Ok(())
}

/// Zero, empty or missing in every column.
fn plain() -> kinds::Model {
    kinds::Model {
        id: 1,
        flag: false,
        small: 0,
        big: 0,
        real: 0.0,
        text: String::new(),
        bytes: Vec::new(),
        uuid: Uuid::nil(),
        json: serde_json::json!({}),
        instant: DateTime::UNIX_EPOCH,
        moment: DateTime::UNIX_EPOCH.naive_utc(),
        date: DateTime::UNIX_EPOCH.date_naive(),
        time: NaiveTime::MIN,
        maybe_flag: None,
        maybe_small: None,
        maybe_big: None,
        maybe_real: None,
        maybe_text: None,
        maybe_bytes: None,
        maybe_uuid: None,
        maybe_json: None,
        maybe_instant: None,
        maybe_date: None,
    }
}

fn samples(backend: DbBackend) -> Outcome<Vec<kinds::Model>> {
    let missing = || Fault::new("the sample values are no dates");
    let epoch = DateTime::UNIX_EPOCH;
    let leap_day = NaiveDate::from_ymd_opt(2024, 2, 29).ok_or_else(missing)?;
    let evening = NaiveTime::from_hms_micro_opt(23, 59, 59, 999_999).ok_or_else(missing)?;
    // Before the epoch and to the microsecond, which is what PostgreSQL keeps.
    let instant = epoch - Duration::microseconds(1_234_567_890_123);
    let plain = plain();
    let some = kinds::Model {
        id: i64::MAX,
        flag: true,
        small: i32::MAX,
        big: i64::MAX,
        real: f64::MAX,
        text: "it's; \"quoted\" -- \\ %_ $1 ?1 :a\r\n\t é 漢字 🦀👩‍👩‍👧 \u{202e}\u{feff}".to_owned(),
        bytes: (0..=u8::MAX).collect(),
        uuid: Uuid::from_u128(u128::MAX - 1),
        json: serde_json::json!({
            "a": [1, -2.5, true, null, "é🦀\u{1}"], "b": {"c": "it's"}, "big": 9_007_199_254_740_993_i64
        }),
        instant,
        moment: instant.naive_utc(),
        date: leap_day,
        time: evening,
        maybe_flag: Some(false),
        maybe_small: Some(0),
        maybe_big: Some(i64::MIN),
        maybe_real: Some(1.0),
        maybe_text: Some(String::new()),
        maybe_bytes: Some(Vec::new()),
        maybe_uuid: Some(Uuid::from_u128(1)),
        maybe_json: Some(serde_json::json!([])),
        maybe_instant: Some(epoch),
        maybe_date: Some(leap_day),
    };
    let mut samples = vec![plain.clone(), some];
    // Whole numbers too: some protocols cannot tell 1.0 from 1.
    for real in [1.0, -1.0, 1e15, 9_007_199_254_740_994.0, 0.1, -2.5, f64::MIN_POSITIVE, f64::MIN] {
        samples.push(kinds::Model { real, maybe_real: Some(real), ..plain.clone() });
    }
    for big in [i64::MIN, -1, 9_007_199_254_740_993, i64::MAX - 1] {
        samples.push(kinds::Model { big, maybe_big: Some(big), ..plain.clone() });
    }
    samples.push(kinds::Model { small: i32::MIN, maybe_small: Some(-1), ..plain.clone() });
    let mut texts = vec!["null", "NULL", "0", "1.0", "true", "2024-02-29", " padded "];
    if backend == DbBackend::Sqlite {
        // PostgreSQL has no text with a NUL in it.
        texts.push("before\0after");
    }
    for text in texts {
        let text = text.to_owned();
        samples.push(kinds::Model { maybe_text: Some(text.clone()), text, ..plain.clone() });
    }
    let long = kinds::Model { text: "é".repeat(100_000), bytes: vec![0; 100_000], ..plain };
    samples.push(long);
    for (id, sample) in (2..).zip(samples.iter_mut().skip(2)) {
        sample.id = id;
    }
    samples.sort_by_key(|sample| sample.id);
    Ok(samples)
}
