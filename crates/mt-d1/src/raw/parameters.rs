//! Which value stands at which parameter.

use std::collections::HashMap;

use mt_core::{Error, ErrorKind, Result, SqlToken};

use super::text::Text;

/// The largest number that SQLite knows for a parameter.
const MAX_NUMBER: usize = 32_766;

/// For each parameter of a statement, in the order of the text, the place of its value.
///
/// As sqlx counts them on a file: SQLite gives each its number, and then `?5` and `$5` take the
/// fifth value, wherever they stand, and each that has no name takes the next one.
///
/// # Errors
/// `Statement`: a parameter is written in another way, or asks for a value beyond `values`.
pub(super) fn places(text: &Text<'_>, values: usize) -> Result<Vec<usize>> {
    let mut numbers = Vec::new();
    let mut named: HashMap<usize, usize> = HashMap::new();
    let mut dollars: HashMap<&str, usize> = HashMap::new();
    let mut last = 0;
    for piece in &text.pieces {
        let SqlToken::Parameter(written) = piece.token else { continue };
        let number = if written == "?" {
            last += 1;
            last
        } else if let Some(number) = written.strip_prefix('?') {
            let number = parsed(written, number)?;
            named.entry(number).or_insert(number);
            number
        } else if let Some(of_value) = written.strip_prefix('$') {
            let of_value = parsed(written, of_value)?;
            let number = *dollars.entry(written).or_insert(last + 1);
            named.insert(number, of_value);
            number
        } else {
            return Err(unknown(written));
        };
        last = last.max(number);
        numbers.push(number);
    }
    let mut next = 0;
    let of_number: Vec<usize> = (1..=last)
        .map(|number| {
            named.get(&number).copied().unwrap_or_else(|| {
                next += 1;
                next
            })
        })
        .collect();
    numbers
        .into_iter()
        .map(|number| match of_number.get(number - 1) {
            Some(&place) if place <= values => Ok(place - 1),
            _ => Err(Error::new(
                ErrorKind::Statement,
                format!("the statement has a parameter {number}, and {values} values are bound"),
            )),
        })
        .collect()
}

fn parsed(written: &str, number: &str) -> Result<usize> {
    match number.parse() {
        Ok(number @ 1..=MAX_NUMBER) => Ok(number),
        _ => Err(unknown(written)),
    }
}

fn unknown(written: &str) -> Error {
    let why = format!(
        "the parameter `{written}` cannot be bound; parameters are `?`, `?1` to `?{MAX_NUMBER}`, \
         and `$1`"
    );
    Error::new(ErrorKind::Statement, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Result<Vec<usize>> {
        places(&Text::of_one(sql), 3)
    }

    #[test]
    fn values_are_found_as_sqlx_finds_them() {
        for (sql, expected) in [
            ("SELECT 1", vec![]),
            ("SELECT ?, ?, ?", vec![0, 1, 2]),
            ("SELECT ?2, ?1, ?2", vec![1, 0, 1]),
            ("SELECT $2, $1, $2", vec![1, 0, 1]),
            ("SELECT ?, ?1", vec![0, 0]),
            // The number 1 is nobody's, and it takes a value away.
            ("SELECT ?2, ?", vec![1, 1]),
            ("SELECT '?', \"?\", [?], ? -- ?", vec![0]),
            ("SELECT a FROM t WHERE b=?AND c=?", vec![0, 1]),
        ] {
            assert_eq!(of(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn others_are_refused() {
        for sql in [
            "SELECT :a",
            "SELECT @a",
            "SELECT $a",
            "SELECT ?0",
            "SELECT ?32767",
            "SELECT ?4",
            "SELECT ?, ?, ?, ?",
        ] {
            assert_eq!(of(sql).unwrap_err().kind(), ErrorKind::Statement, "{sql}");
        }
    }
}
