//! Floating point numbers as arithmetic that gives every bit of them.
//!
//! SQLite's own reading of a decimal fraction is not always the nearest double, and D1's parameters
//! are documented to be strings. But a whole number below 2^53 is a double exactly, and IEEE 754
//! rounds a product and a quotient of two doubles correctly.

/// How a number comes of a whole one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exact {
    pub(super) whole: i64,
    /// What follows the whole number in an expression.
    pub(super) then: String,
}

/// The largest power of ten that is a double exactly.
const MAX_TEN: i32 = 22;
/// The bits of a double's fraction.
const FRACTION: u32 = 52;

/// A number that is finite and not zero.
pub(super) fn exact(value: f64) -> Exact {
    decimal(value).unwrap_or_else(|| binary(value))
}

/// `225` and `/1e2`: short, and right for what people write.
fn decimal(value: f64) -> Option<Exact> {
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e')?;
    let fraction = digits.split_once('.').map_or("", |(_, fraction)| fraction);
    let whole: i64 = digits.replacen('.', "", 1).parse().ok()?;
    let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?;
    if whole.unsigned_abs() >= 1 << (FRACTION + 1) || exponent.abs() > MAX_TEN {
        return None;
    }
    let sign = if exponent < 0 { '/' } else { '*' };
    Some(Exact { whole, then: format!("{sign}1e{}", exponent.abs()) })
}

/// A whole number times a power of two, which is exact however it is cut into factors.
fn binary(value: f64) -> Exact {
    const STEP: i32 = 62;
    let bits = value.to_bits();
    let fraction = bits & ((1 << FRACTION) - 1);
    let biased = (bits >> FRACTION) & 0x7ff;
    // Without its hidden bit, a subnormal number has the exponent of the smallest normal one.
    let whole = if biased == 0 { fraction } else { fraction | 1 << FRACTION };
    let exponent = i32::from_ne_bytes(u32_of(biased.max(1)).to_ne_bytes()) - 1_075;
    let zeros = whole.trailing_zeros();
    let whole = (whole >> zeros).cast_signed();
    let exponent = exponent + zeros.cast_signed();
    let sign = if exponent < 0 { '/' } else { '*' };
    let mut then = "*1.0".to_owned();
    let mut left = exponent.abs();
    while left > 0 {
        let step = left.min(STEP);
        then.push_str(&format!("{sign}(1<<{step})"));
        left -= step;
    }
    Exact { whole: if value.is_sign_negative() { -whole } else { whole }, then }
}

/// The eleven bits of an exponent.
fn u32_of(exponent: u64) -> u32 {
    u32::try_from(exponent).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_where_it_may_be() {
        let exact = |value| {
            let Exact { whole, then } = exact(value);
            format!("{whole}{then}")
        };
        assert_eq!(exact(2.25), "225/1e2");
        assert_eq!(exact(-1.0), "-1*1e0");
        assert_eq!(exact(1e15), "1*1e15");
        assert_eq!(exact(0.1 + 0.2), "1351079888211149*1.0/(1<<52)");
        assert_eq!(exact(f64::from_bits(1)).matches("(1<<62)").count(), 17);
    }
}
