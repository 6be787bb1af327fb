//! Values as SQL writes them, exactly, on one line.

use std::fmt::Write as _;

/// A name, quoted.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text of any bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let is_plain = |text: &&str| !text.contains(['\0', '\n', '\r']);
    match std::str::from_utf8(bytes).ok().filter(is_plain) {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => format!("CAST({} AS TEXT)", blob(bytes)),
    }
}

/// Bytes.
pub(crate) fn blob(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(2 * bytes.len() + 3);
    literal.push_str("X'");
    for byte in bytes {
        // Writing to a string does not fail.
        let _written = write!(literal, "{byte:02X}");
    }
    literal.push('\'');
    literal
}

/// A number with a point. SQLite reads decimal digits exactly only while they and the power of ten
/// are small; any other is put together from what is exact: an integer and powers of two.
pub(crate) fn real(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "9e999" } else { "-9e999" }.to_owned();
    }
    let decimal = format!("{number:e}");
    let (digits, exponent) = decimal.split_once('e').unwrap_or((&decimal, "0"));
    let digits = digits.trim_start_matches('-').replace('.', "").len();
    let exponent: i32 = exponent.parse().unwrap_or(i32::MAX);
    // 15 digits fit into 53 bits, and so do powers of ten up to the 22nd.
    if digits <= 15 && (-7..=22).contains(&exponent) {
        return decimal;
    }
    let (mantissa, mut power) = parts(number);
    let mut literal = format!("({mantissa}*1.0");
    while power != 0 {
        // `1<<60` is the largest of these that every step can take.
        let step = power.unsigned_abs().min(60);
        let sign = if power > 0 { '*' } else { '/' };
        let _written = write!(literal, "{sign}(1<<{step})");
        power = if power > 0 { power - step.cast_signed() } else { power + step.cast_signed() };
    }
    literal.push(')');
    literal
}

/// `number = mantissa * 2^power`, with the smallest mantissa that does.
fn parts(number: f64) -> (i64, i32) {
    const FRACTION_BITS: u32 = 52;
    /// What is added to an exponent, and the width of the fraction.
    const BIAS: i32 = 1_023 + 52;

    let bits = number.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let exponent = i32::try_from((bits >> FRACTION_BITS) & 0x7ff).unwrap_or_default();
    // The smallest numbers have no hidden bit.
    let (mantissa, power) = match exponent {
        0 => (fraction, 1 - BIAS),
        _ => (fraction | (1 << FRACTION_BITS), exponent - BIAS),
    };
    if mantissa == 0 {
        return (0, 0);
    }
    let zeros = mantissa.trailing_zeros();
    let mantissa = (mantissa >> zeros).cast_signed();
    (if number < 0.0 { -mantissa } else { mantissa }, power + zeros.cast_signed())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn sqlite_reads_every_number_as_it_was() {
        let sqlite = Connection::open_in_memory().unwrap();
        let mut numbers = vec![
            0.0,
            1.0,
            -1.5,
            0.1,
            1.0 / 3.0,
            1e22,
            1e23,
            -123_456_789_012_345.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::from_bits(0x000f_ffff_ffff_ffff),
            f64::EPSILON,
            9_007_199_254_740_993.0,
            9.223_372_036_854_776e18,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        let mut state = 1_u64;
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = f64::from_bits(state);
            if !number.is_nan() {
                numbers.push(number);
            }
        }
        for number in numbers {
            let sql = format!("SELECT {}", real(number));
            let read: f64 = sqlite.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(read.to_bits(), number.to_bits(), "{number:e} as {sql}");
        }
    }

    #[test]
    fn sqlite_reads_every_text_as_it_was() {
        let sqlite = Connection::open_in_memory().unwrap();
        for bytes in [&b""[..], b"it's", b"a\0b", b"a;\nb", b"\r", "\u{1f980}".as_bytes()] {
            let sql = format!("SELECT {}", text(bytes));
            assert_eq!(sql.lines().count(), 1);
            let read: String = sqlite.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(read.as_bytes(), bytes);
        }
    }
}
