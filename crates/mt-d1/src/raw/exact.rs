//! Rows in a form in which JSON and JavaScript's numbers lose nothing.
//!
//! Asked plainly, D1 rounds integers beyond 2^53, answers a whole REAL like an integer, an infinite
//! one like NULL and a negative zero like zero. So integers and text are asked for as text with a
//! letter before it; what then comes as a number is a REAL, and what comes as NULL is NULL.

use std::borrow::Cow;

use mt_core::{Error, ErrorKind, Result};
use mt_remote::{Row, Value};
use serde_json::Value as Json;

use super::{
    items::{self, Name},
    text::{Piece, Text},
};

/// The name of the common table expression that a statement becomes.
pub(super) const TABLE: &str = "_mt_rows";
/// How many terms D1 takes in a compound `SELECT` (measured).
const MAX_TERMS: usize = 5;
/// Whole numbers up to here are each another one in JavaScript.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// The expression that says what `x` is. What is common comes first.
///
/// The sign of a zero and of an infinite number is in an angle: 3 is 0.0, -3 is -0.0, 2 is infinite
/// and -2 negatively so. The number is compared as it is, because `abs` has no affinity.
pub(super) fn cell(x: &str) -> String {
    format!(
        "CASE typeof({x}) WHEN 'text' THEN 't'||{x} WHEN 'integer' THEN 'i'||{x} WHEN 'real' THEN \
         iif(abs({x}) IN (0.0,9e999),'r'||round(atan2({x},-1)),{x}) WHEN 'blob' THEN {x} END"
    )
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `sql`, which reads `columns`, so that it answers them exactly.
///
/// The rows are made before they are asked for their types, each once and in their order.
pub(super) fn read(sql: &str, columns: &[String]) -> String {
    let names = || (0..columns.len()).map(|at| format!("c{at}"));
    let cells = list(names().map(|name| cell(&name)));
    let names = list(names());
    let sql = without_affinity(sql, || {
        let nothing = columns.iter().map(|name| format!("CAST(NULL AS BLOB) AS {}", quoted(name)));
        format!("SELECT {} WHERE 0 UNION ALL ", list(nothing))
    });
    // On a line of its own, for a comment at its end.
    format!("WITH {TABLE}({names}) AS MATERIALIZED ({sql}\n) SELECT {cells} FROM {TABLE}")
}

/// A column has the affinity of the first term that has one: if that is REAL, integers of the others
/// would become real. So a term without rows comes first, with the affinity that does nothing.
fn without_affinity(sql: &str, nothing: impl Fn() -> String) -> Cow<'_, str> {
    const OPERATORS: [&str; 3] = ["UNION", "INTERSECT", "EXCEPT"];
    let text = Text::of_one(sql);
    let main = text.main();
    let is_operator = |piece: &&Piece<'_>| {
        piece.depth == 0 && OPERATORS.iter().any(|operator| piece.is_word(operator))
    };
    let operators = main.iter().filter(is_operator).count();
    let (Some(first), Some(last)) = (main.first(), main.iter().rfind(is_operator)) else {
        return Cow::Borrowed(sql);
    };
    let pairs = main.windows(2).filter(|pair| pair[0].is_word("UNION") && pair[1].is_word("ALL"));
    if pairs.filter(|pair| pair[0].depth == 0).count() < operators {
        // Which rows are the same is asked in ways that depend on how many terms there are. Where the
        // first column is REAL, integers of the other terms stay real, as in a subquery.
        return Cow::Borrowed(sql);
    }
    let (before, terms) = sql.split_at(first.span.start);
    if operators + 1 < MAX_TERMS {
        return Cow::Owned(format!("{before}{}{terms}", nothing()));
    }
    // One more would be too many. What all but the last come to is one term.
    let (terms, last) = terms.split_at(last.span.start - first.span.start);
    Cow::Owned(format!("{before}SELECT * FROM ({}{terms}\n) {last}", nothing()))
}

/// `sql`, which reads, so that it answers its columns and no row. Where it takes no limit, or has one
/// of its own, it becomes a subquery, in which a `rowid` has another name.
pub(super) fn probe(sql: &str) -> String {
    const NO_MORE_LIMITS: [&str; 2] = ["LIMIT", "VALUES"];
    let text = Text::of_one(sql);
    let is_limited = |piece: &Piece<'_>| {
        piece.depth == 0 && NO_MORE_LIMITS.iter().any(|word| piece.is_word(word))
    };
    if text.main().iter().any(is_limited) {
        return format!("SELECT * FROM ({sql}\n) LIMIT 0");
    }
    format!("{sql}\nLIMIT 0")
}

/// `sent` with each item of its `RETURNING` so that it answers exactly, and the columns' names.
/// `written` is the statement as it was before its parameters were replaced.
///
/// # Errors
/// `Unsupported`: an item that cannot be asked for exactly, and what to write instead.
pub(super) fn returning(sent: &str, written: &Text<'_>) -> Result<(String, Vec<String>)> {
    let refused = |what: &str, advice: &str| {
        let why = format!("`RETURNING {what}` cannot be read exactly on D1: {advice}");
        Err(Error::new(ErrorKind::Unsupported, why))
    };
    let sent = Text::of_one(sent);
    let list_of = |text: &Text<'_>| {
        text.returning()
            .and_then(|list| list.first())
            .map_or(text.sql.len(), |piece| piece.span.start)
    };
    let mut sql = sent.sql[..list_of(&sent)].to_owned();
    let mut names = Vec::new();
    let (items, original) = (items::of(&sent), items::of(written));
    let (Some(items), Some(original)) = (items, original) else {
        return refused("…", "list what it returns, each with `AS` and a name");
    };
    for (item, original) in items.iter().zip(&original) {
        if item.is_random() {
            return refused(original.span, "each value is asked for several times");
        }
        let name = match (original.name(), original.column()) {
            (Name::Star, _) => return refused(original.span, "list the columns"),
            (Name::Told(name), _) | (Name::Untold, Some(name)) => name,
            (Name::Untold, None) => return refused(original.span, "give it a name with `AS`"),
        };
        if !names.is_empty() {
            sql.push(',');
        }
        sql.push_str(&cell(&format!("({})", item.expression(sent.sql))));
        names.push(name);
    }
    Ok((sql, names))
}

/// How a number that JSON has is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The answer is in the exact form.
    Exact,
    /// It is not, and what could be several things is refused.
    Plain,
    /// It is not, and its numbers are small integers.
    Small,
}

/// The rows of an answer.
///
/// # Errors
/// `Internal`: they are not what was asked for. `Unsupported`: a value of a plain answer could be
/// several, with its column.
pub(super) fn rows(rows: Vec<Vec<Json>>, names: &[String], form: Form) -> Result<Vec<Row>> {
    rows.into_iter()
        .map(|row| {
            if row.len() != names.len() {
                return Err(broken(format!(
                    "D1 answered a row of {} values, and {} columns were expected",
                    row.len(),
                    names.len()
                )));
            }
            row.into_iter().zip(names).map(|(json, name)| value(json, name, form)).collect()
        })
        .collect()
}

/// Whether each value of a plain answer can be only one.
pub(super) fn is_certain(rows: &[Vec<Json>]) -> bool {
    rows.iter().flatten().all(|json| json.is_string() || json.is_array())
}

fn value(json: Json, name: &str, form: Form) -> Result<Value> {
    match (json, form) {
        (Json::String(text), Form::Exact) => marked(text, name),
        (Json::String(text), Form::Plain | Form::Small) => Ok(Value::Text(text)),
        (Json::Array(bytes), _) => blob(bytes, name),
        (Json::Null, Form::Exact | Form::Small) => Ok(Value::Null),
        (Json::Number(number), Form::Exact) => match number.as_f64() {
            Some(number) if number.is_finite() => Ok(Value::Real(number)),
            _ => Err(broken(format!("D1 answered a number for column `{name}` that is no double"))),
        },
        (Json::Number(number), Form::Small) => number
            .as_i64()
            .filter(|number| number.unsigned_abs() <= MAX_SAFE)
            .map(Value::Integer)
            .ok_or_else(|| ambiguous(name, "a number that may be another one")),
        (Json::Number(_), Form::Plain) => Err(ambiguous(name, "a number that may be rounded")),
        (Json::Null, Form::Plain) => Err(ambiguous(name, "NULL, which may be an infinite number")),
        (Json::Bool(_) | Json::Object(_), _) => Err(broken(format!(
            "D1 answered a value for column `{name}` of a type it does not have"
        ))),
    }
}

fn ambiguous(name: &str, what: &str) -> Error {
    let why = format!(
        "column `{name}` came as {what}; select it as `typeof(x)` and `CAST(x AS TEXT)`, each with \
         `AS` and a name"
    );
    Error::new(ErrorKind::Unsupported, why)
}

fn broken(why: String) -> Error {
    Error::new(ErrorKind::Internal, why)
}

/// A value of the exact form that is a string.
fn marked(mut text: String, name: &str) -> Result<Value> {
    let unknown =
        || broken(format!("D1 answered column `{name}` in another form than it was asked for"));
    match text.chars().next() {
        Some('t') => {
            text.remove(0);
            Ok(Value::Text(text))
        }
        Some('i') => {
            text[1..].parse().map(Value::Integer).map_err(|error| unknown().with_source(error))
        }
        Some('r') => match text.as_str() {
            "r3.0" => Ok(Value::Real(0.0)),
            "r-3.0" => Ok(Value::Real(-0.0)),
            "r2.0" => Ok(Value::Real(f64::INFINITY)),
            "r-2.0" => Ok(Value::Real(f64::NEG_INFINITY)),
            _ => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

fn blob(bytes: Vec<Json>, name: &str) -> Result<Value> {
    let bytes =
        bytes.into_iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.map(Value::Blob).ok_or_else(|| {
        broken(format!(
            "D1 answered an array for column `{name}` with something else than bytes in it"
        ))
    })
}
