use mt_core::ErrorKind;
use sea_orm::{
    DbBackend, DbErr, EntityTrait as _, FromQueryResult as _, QueryOrder as _, QueryResult,
    QueryTrait as _, TryGetable, Value,
};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Outcome, ensure, ensure_eq, expect_kind},
    kinds, probe,
};

pub(crate) async fn values_come_back_as_they_were(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    driver.execute(kinds::table()).await.doing("CREATE TABLE")?;
    let samples = kinds::samples()?;
    for sample in &samples {
        let insert = kinds::Entity::insert(kinds::ActiveModel::from(sample.clone()));
        let insert = insert.build(DbBackend::Sqlite);
        driver.execute(insert).await.doing(&format!("inserting {sample:?}"))?;
    }
    let select = kinds::Entity::find().order_by_asc(kinds::Column::Id).build(DbBackend::Sqlite);
    let found = driver.query(select).await.doing("reading the values back")?;
    ensure_eq!(found.len(), samples.len(), "the number of rows that came back");
    for (found, written) in found.iter().zip(&samples) {
        let found =
            kinds::Model::from_query_result(found, "").doing(&format!("decoding {written:?}"))?;
        ensure_eq!(found, *written, "what was read back");
    }
    Ok(())
}

pub(crate) async fn parameters_come_back_to_the_bit(subject: &DriverSubject) -> Outcome {
    const WHOLE: i64 = 9_007_199_254_740_993;
    for value in [0, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, WHOLE, -WHOLE, 1 << 32] {
        let (kind, seen) = echo::<i64>(subject, value.into()).await?;
        ensure_eq!((kind.as_str(), seen), ("integer", value), "the integer {value}");
    }
    for value in [u64::from(u32::MAX) + 1, i64::MAX.cast_unsigned()] {
        let (kind, seen) = echo::<i64>(subject, value.into()).await?;
        let seen = seen.cast_unsigned();
        ensure_eq!((kind.as_str(), seen), ("integer", value), "the u64 {value}");
    }
    for value in reals() {
        let (kind, seen) = echo::<f64>(subject, value.into()).await?;
        ensure_eq!(kind, "real", "the storage class of {value:?}");
        ensure_eq!(seen.to_bits(), value.to_bits(), "{value:?} came back as {seen:?}; its bits");
    }
    for value in texts() {
        let (kind, seen) = echo::<String>(subject, value.clone().into()).await?;
        ensure_eq!((kind.as_str(), &seen), ("text", &value), "a text");
    }
    for value in [vec![], vec![0], vec![0; 1_000], (0..=255).collect::<Vec<u8>>()] {
        let (kind, seen) = echo::<Vec<u8>>(subject, value.clone().into()).await?;
        ensure_eq!((kind.as_str(), &seen), ("blob", &value), "a blob");
    }
    for value in [Value::BigInt(None), Value::String(None), Value::Double(Some(f64::NAN))] {
        let (kind, seen) = echo::<Option<String>>(subject, value.clone()).await?;
        ensure_eq!((kind.as_str(), seen), ("null", None), "{value:?}");
    }
    Ok(())
}

/// Whole numbers too, which some protocols cannot tell from integers, and the ends of the range.
fn reals() -> impl Iterator<Item = f64> {
    let tiny = f64::from_bits(1);
    let positive = [
        0.0,
        1.0,
        0.1,
        0.1 + 0.2,
        1e15,
        9_007_199_254_740_993.0,
        1e300,
        f64::MAX,
        f64::MIN_POSITIVE,
        tiny,
        std::f64::consts::PI,
    ];
    positive.into_iter().flat_map(|value| [value, -value])
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "a",
        "\0",
        "before\0after",
        "it's; \"quoted\" -- \\ %_ $1 ?1 :a\r\n\t",
        "é 漢字 🦀👩‍👩‍👧",
        "\u{202e}rtl שלום\u{feff}",
        "1",
        "1.0",
        "null",
        " padded ",
        "\u{1}\u{7f}\u{ffff}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("é🦀".repeat(50_000));
    texts
}

/// What a bound value is to the engine, and as what it comes back.
async fn echo<T: TryGetable>(subject: &DriverSubject, value: Value) -> Outcome<(String, T)> {
    let statement = probe::bound("SELECT typeof(?), ? AS value", [value.clone(), value.clone()]);
    let row = probe::one(subject.driver().as_ref(), statement).await?;
    let read = |row: &QueryResult| -> Result<_, DbErr> {
        Ok((row.try_get_by(0)?, row.try_get("", "value")?))
    };
    let mut told = format!("reading back {value:?}");
    told.truncate(told.floor_char_boundary(200));
    read(&row).doing(&told)
}

pub(crate) async fn infinity_comes_back_or_is_refused(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let literal = || sea_orm::Statement::from_string(DbBackend::Sqlite, "SELECT 9e999 AS value");
    for value in [f64::INFINITY, f64::NEG_INFINITY] {
        if subject.abilities().infinity {
            let (class, back) = echo::<f64>(subject, value.into()).await?;
            ensure!(class == "real" && back == value, "{value} came back as {back}, a {class}");
            continue;
        }
        let insert = || probe::bound("INSERT INTO probe (id) VALUES (?)", [value.into()]);
        let kind = ErrorKind::Unsupported;
        expect_kind(driver.execute(insert()).await, kind, "execute of an infinite number")?;
        expect_kind(driver.query(literal()).await, kind, "reading an infinite number")?;
    }
    let rows = probe::rows(driver).await?;
    ensure!(rows.is_empty(), "a refused number was stored in another form: {rows:?}");
    Ok(())
}

pub(crate) async fn a_value_without_a_form_is_refused(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    for value in [u64::MAX, i64::MAX.cast_unsigned() + 1] {
        let statement = || probe::bound("INSERT INTO probe (id) VALUES (?)", [value.into()]);
        expect_kind(driver.execute(statement()).await, ErrorKind::Statement, "execute of a u64")?;
        expect_kind(driver.query(statement()).await, ErrorKind::Statement, "query of a u64")?;
        let batch = vec![probe::insertion(1, "a"), statement()];
        expect_kind(driver.batch(batch).await, ErrorKind::Statement, "batch of a u64")?;
    }
    let rows = probe::rows(driver).await?;
    ensure!(rows.is_empty(), "a value was stored in another form: {rows:?}");
    Ok(())
}
