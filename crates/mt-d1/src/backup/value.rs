//! Values on their way here: JSON has neither integers nor bytes, so each says what it is.

use mt_core::{Error, ErrorKind, Result};
use rusqlite::types::Value;
use serde_json::Value as Json;

use crate::NAME;

/// From this length on a value comes as bytes: written in hexadecimal it would be longer than the
/// 2,000,000 bytes that a value can have (<https://developers.cloudflare.com/d1/platform/limits/>).
const LONG_BYTES: usize = 500_000;

/// Reads `column` so that its value comes exactly.
///
/// Numbers are reals; a real that JSON has not is a text that begins with `r`. Other texts begin
/// with `i` for an integer, `t` for a text, `b` for a blob in hexadecimal. A long text or blob is a
/// list of its bytes, the first of them the same letter. In texts U+FFFD is escaped: where one
/// comes, the service put it in the place of what is not UTF-8.
pub(super) fn packed(column: &str) -> String {
    format!(
        "CASE typeof({column}) WHEN 'integer' THEN 'i'||{column} \
         WHEN 'real' THEN CASE WHEN {column}=9e999 THEN 'r+' WHEN {column}=-9e999 THEN 'r-' \
         WHEN {column}=0 AND atan2({column},-1)<0 THEN 'r0' ELSE {column} END \
         WHEN 'null' THEN NULL ELSE CASE WHEN octet_length({column})>{LONG_BYTES} \
         THEN CAST(substr(typeof({column}),1,1)||{column} AS BLOB) \
         WHEN typeof({column})='blob' THEN 'b'||hex({column}) \
         ELSE 't'||replace(replace({column},char(1),char(1)||'1'),char(65533),char(1)||'2') END END"
    )
}

/// Measures a row of `columns`: at most what [`bytes_of`] its values add up to.
pub(crate) fn measure(columns: &[String]) -> String {
    let lengths: Vec<_> =
        columns.iter().map(|column| format!("coalesce(octet_length({column}),0)")).collect();
    format!("{}*2+{}", balanced_sum(&lengths), columns.len() * VALUE_BYTES)
}

/// Adds up: an expression is at most 100 levels deep, so that columns cannot be added one after the other.
pub(crate) fn balanced_sum(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [term] => term.clone(),
        terms => {
            let (left, right) = terms.split_at(terms.len() / 2);
            format!("({}+{})", balanced_sum(left), balanced_sum(right))
        }
    }
}

/// What a value takes up beside its content.
const VALUE_BYTES: usize = 8;
/// No number's text is longer.
const NUMBER_BYTES: usize = 30;

/// How much of a page a value takes up.
pub(super) fn bytes_of(value: &Value) -> usize {
    let content = match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => NUMBER_BYTES,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    };
    content * 2 + VALUE_BYTES
}

/// The value that came as [`packed`] has it, from `table`.
pub(super) fn unpacked(table: &str, value: Json) -> Result<Value> {
    let broken = || unreadable(table, "a value of another form than it was asked for");
    match value {
        Json::Null => Ok(Value::Null),
        Json::Number(number) => number.as_f64().map(Value::Real).ok_or_else(broken),
        Json::String(text) => unpacked_text(table, text),
        Json::Array(bytes) => {
            let byte = |byte: Json| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let mut bytes = bytes.into_iter().map(byte);
            let kind = bytes.next().flatten();
            let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or_else(broken)?;
            match kind {
                Some(b'b') => Ok(Value::Blob(bytes)),
                Some(b't') => {
                    String::from_utf8(bytes).map(Value::Text).map_err(|_invalid| no_text(table))
                }
                _ => Err(broken()),
            }
        }
        Json::Bool(_) | Json::Object(_) => Err(broken()),
    }
}

fn unpacked_text(table: &str, mut text: String) -> Result<Value> {
    let broken = || unreadable(table, "a value of another form than it was asked for");
    match text.as_str() {
        "r+" => return Ok(Value::Real(f64::INFINITY)),
        "r-" => return Ok(Value::Real(f64::NEG_INFINITY)),
        "r0" => return Ok(Value::Real(-0.0)),
        _ => {}
    }
    if text.is_empty() {
        return Err(broken());
    }
    match text.remove(0) {
        'i' => text.parse().map(Value::Integer).map_err(|_not_one| broken()),
        'b' => from_hex(&text).map(Value::Blob).ok_or_else(broken),
        't' if text.contains('\u{fffd}') => Err(no_text(table)),
        't' if text.contains('\u{1}') => {
            Ok(Value::Text(text.replace("\u{1}2", "\u{fffd}").replace("\u{1}1", "\u{1}")))
        }
        't' => Ok(Value::Text(text)),
        _ => Err(broken()),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

fn unreadable(table: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the service answered {what}, from table `{table}`"))
        .with_provider(NAME)
}

fn no_text(table: &str) -> Error {
    let what = format!(
        "copy table `{table}`, which has a text that is not UTF-8; make it a blob or correct it"
    );
    Error::unsupported(NAME, what)
}

/// Values that go into a statement, exactly.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pub(super) params: Vec<Json>,
}

impl Bound {
    /// Adds a value; answers what stands for it in the statement.
    pub(super) fn push(&mut self, value: &Value) -> String {
        match value {
            Value::Null => return "NULL".to_owned(),
            Value::Integer(value) => return value.to_string(),
            // A parameter is a text as far as anything is promised.
            Value::Real(value) => return real(*value),
            Value::Text(text) => self.params.push(Json::from(text.as_str())),
            Value::Blob(bytes) => {
                self.params.push(Json::from(to_hex(bytes)));
                return format!("unhex(?{})", self.params.len());
            }
        }
        format!("?{}", self.params.len())
    }
}

/// Bytes as `unhex` takes them.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02X}").ok();
        text
    })
}

/// A real as an expression that gives it to the last bit.
pub(crate) fn real(value: f64) -> String {
    let (whole, power) = halves(value);
    format!("(CAST({whole} AS REAL)*pow(2,{power}))")
}

/// A real as a whole number times a power of two, which is exact where decimals need not be.
pub(crate) fn halves(value: f64) -> (i64, i32) {
    /// Beyond what a real can have: infinite, and from the other end 0.
    const BEYOND: i32 = 2_000;
    let sign = if value.is_sign_negative() { -1 } else { 1 };
    if value.is_infinite() {
        return (sign, BEYOND);
    }
    if value == 0.0 {
        return (sign, -BEYOND);
    }
    let bits = value.to_bits();
    let fraction = i64::try_from(bits & ((1 << 52) - 1)).unwrap_or_default();
    match i32::try_from((bits >> 52) & 0x7ff).unwrap_or_default() {
        0 => (sign * fraction, -1_074),
        exponent => (sign * (fraction | 1 << 52), exponent - 1_075),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_is_a_whole_number_and_a_power_of_two() {
        for value in [1.0, -1.0, 0.1, 1e300, 5e-324, f64::MAX, f64::MIN_POSITIVE, 2.5e-310] {
            let (whole, power) = halves(value);
            #[expect(clippy::cast_precision_loss, reason = "it has 53 bits")]
            let whole = whole as f64;
            assert_eq!(
                (whole * 2.0_f64.powf(f64::from(power))).to_bits(),
                value.to_bits(),
                "{value:e}"
            );
        }
        assert_eq!((halves(f64::INFINITY), halves(-0.0)), ((1, 2_000), (-1, -2_000)));
    }
}
