//! Real numbers, to the last bit.
//!
//! The protocol's JSON has them in decimal, which sqld 0.24.32 does not read exactly, so what is
//! written here is written in Protobuf. What libsql writes is in JSON and may be a unit off; what it
//! reads it reads exactly.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::{
    Both,
    raw::{self, Raw},
};

/// Extremes, and many that take all 17 digits.
fn reals() -> Vec<f64> {
    let narrow = [f32::MIN, f32::MAX, f32::MIN_POSITIVE, f32::EPSILON, 0.1, 1.0 / 3.0];
    let mut reals: Vec<f64> = narrow.map(f64::from).to_vec();
    reals.extend([f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::EPSILON, 0.1 + 0.2, 1.0 / 3.0]);
    // A Weyl sequence over all bit patterns, and over the numbers from 1 to 2.
    for step in 1..=500_u64 {
        let bits = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let number = f64::from_bits(bits);
        reals.extend(number.is_finite().then_some(number));
        reals.push(f64::from_bits(0x3FF0_0000_0000_0000 | (bits >> 12)));
    }
    reals
}

#[tokio::test]
async fn real_numbers_arrive_to_the_last_bit() {
    let Both { site: _site, ours, theirs, .. } = Both::open().await;
    ours.execute_unprepared("CREATE TABLE reals (value REAL NOT NULL)").await.unwrap();
    let insert = |real: &f64| {
        let sql = "INSERT INTO reals VALUES (?)";
        Statement::from_sql_and_values(DbBackend::Sqlite, sql, [(*real).into()])
    };
    ours.batch(reals().iter().map(insert)).await.unwrap();

    let select = "SELECT value FROM reals ORDER BY rowid";
    let rows = ours.query_all_raw(Statement::from_string(DbBackend::Sqlite, select)).await;
    let read: Vec<f64> = rows.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    let by_libsql = raw::query(&theirs, select).await;
    assert_eq!((read.len(), by_libsql.len()), (reals().len(), reals().len()));
    let mut wrong = Vec::new();
    for ((written, read), by_libsql) in reals().into_iter().zip(read).zip(by_libsql) {
        // Both see what is there.
        assert_eq!(by_libsql, [Raw::Real(read.to_bits())]);
        if read.to_bits() != written.to_bits() {
            wrong.push((written, read));
        }
    }
    assert!(wrong.is_empty(), "{} of {}, such as {:?}", wrong.len(), reals().len(), wrong[0]);
}
