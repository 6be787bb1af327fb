//! A statement with its values as it is sent.
//!
//! D1's parameters are strings as far as anything is promised, a JSON number is a REAL to it, and
//! there are at most 100 of them. So a value is sent as a string, and the expression that stands in
//! its parameter's place makes of it what was to be bound: of the same storage class, to the bit,
//! and without an affinity, which is how a bound value compares.

use std::{borrow::Cow, collections::HashMap};

use mt_core::{Error, ErrorKind, Result, SqlToken};
use mt_remote::Value;

use super::{
    RawStatement, items, parameters,
    real::{Exact, exact},
    text::Text,
};

// D1's limits (<https://developers.cloudflare.com/d1/platform/limits/>, read 2026-11-22).
pub(super) const MAX_STATEMENT_BYTES: usize = 100_000;
const MAX_VALUE_BYTES: usize = 2_000_000;
const MAX_PARAMETERS: usize = 100;
/// How many values share a parameter where there are more than parameters. The engine walks through
/// those before the one it looks for.
const MIN_SHARE: usize = 32;

/// A statement whose parameters were replaced. What replaces them depends on the kinds of the values
/// alone, so it serves many.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) sql: String,
    /// The engine names a column that has no name by its text. These are the texts that it sees, and
    /// those that were written.
    pub(super) names: Vec<(String, String)>,
    /// Which values it takes, and the expression that each has to have; `None` where values share
    /// parameters.
    takes: Option<Vec<(usize, Cow<'static, str>)>>,
}

impl Parcel {
    /// Puts expressions for `values` in the places of the parameters; tells its own parameters, too.
    ///
    /// # Errors
    /// `Statement`: the parameters and the values do not match, or a limit is passed.
    pub(super) fn new(text: &Text<'_>, values: &[Value]) -> Result<(Self, Vec<String>)> {
        let places = parameters::places(text, values.len())?;
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let mut forms = Vec::new();
        let mut takes = Vec::new();
        for &place in &places {
            numbers.entry(place).or_insert_with(|| {
                let form = Form::of(&values[place]);
                takes.push((place, form.alone.clone()));
                forms.push(form);
                forms.len() - 1
            });
        }
        check_sizes(&forms)?;
        let slots: usize = forms.iter().map(|form| form.contents.len()).sum();
        let takes = (slots <= MAX_PARAMETERS).then_some(takes);
        let (params, expressions) = if takes.is_some() { one_each(forms) } else { shared(forms)? };
        let sql = replaced(text, &places, |place| expressions[numbers[&place]].as_str());
        let names = if places.is_empty() { Vec::new() } else { names(text, &sql) };
        Ok((Self { sql, names, takes }, params))
    }

    /// Whether it may take other values.
    pub(super) const fn is_lasting(&self) -> bool {
        self.takes.is_some()
    }

    /// Its parameters with other values; `None` where it would be another text for them, or a limit
    /// is passed.
    pub(super) fn params(&self, values: &[Value]) -> Option<Vec<String>> {
        let mut params = Vec::new();
        for (place, expression) in self.takes.as_ref()? {
            let form = Form::of(values.get(*place)?);
            if form.alone != *expression || check_sizes(std::slice::from_ref(&form)).is_err() {
                return None;
            }
            params.extend(form.contents.into_iter().map(Content::into_string));
        }
        Some(params)
    }
}

/// A text with parameters, as it is sent.
///
/// # Errors
/// `Statement`: it is longer than D1 takes.
pub(super) fn statement(sql: String, params: &[String]) -> Result<RawStatement> {
    if sql.len() > MAX_STATEMENT_BYTES {
        return Err(too_long(format!(
            "the statement has {} bytes as it is sent, and D1 takes {MAX_STATEMENT_BYTES}; split it",
            sql.len()
        )));
    }
    let params = params.iter().cloned().map(serde_json::Value::String).collect();
    Ok(RawStatement { sql, params })
}

fn too_long(why: String) -> Error {
    Error::new(ErrorKind::Statement, why)
}

/// How a value is sent.
struct Form {
    contents: Vec<Content>,
    /// The expression; each `?` in it stands for one of the contents.
    alone: Cow<'static, str>,
    /// The same where contents come out of a JSON array.
    packed: Cow<'static, str>,
}

enum Content {
    /// JSON arrays hold it exactly in SQLite.
    Integer(String),
    /// A real number that is whole and so small that SQLite reads every digit of it.
    Whole(String),
    Text(String),
}

impl Form {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::constant("(NULL)"),
            // The sign takes away the affinity of the cast.
            Value::Integer(value) => Self {
                contents: vec![Content::Integer(value.to_string())],
                alone: "(+CAST(? AS INTEGER))".into(),
                packed: "(?)".into(),
            },
            Value::Real(value) => Self::real(*value),
            // Where text comes out of JSON, a NUL would end it.
            Value::Text(value) if value.contains('\0') => Self {
                contents: vec![Content::Text(value.clone())],
                alone: "?".into(),
                packed: "(+CAST(unhex(?) AS TEXT))".into(),
            },
            Value::Text(value) => Self {
                contents: vec![Content::Text(value.clone())],
                alone: "?".into(),
                packed: "(?)".into(),
            },
            Value::Blob(value) => Self::blob(value),
        }
    }

    const fn constant(expression: &'static str) -> Self {
        let (alone, packed) = (Cow::Borrowed(expression), Cow::Borrowed(expression));
        Self { contents: Vec::new(), alone, packed }
    }

    fn real(value: f64) -> Self {
        if value.is_nan() {
            // As SQLite binds it.
            return Self::constant("(NULL)");
        }
        if value == 0.0 {
            // A product, because a sign before a number becomes part of it, and 0.0 - 0.0 is not -0.0.
            return Self::constant(if value.is_sign_negative() { "(-0.0*1)" } else { "(0.0*1)" });
        }
        if value.is_infinite() {
            return Self::constant(if value > 0.0 { "(9e999)" } else { "(-9e999)" });
        }
        let Exact { whole, then } = exact(value);
        if then == "*1e0" {
            return Self {
                contents: vec![Content::Whole(whole.to_string())],
                alone: format!("(CAST(? AS INTEGER){then})").into(),
                packed: "(?)".into(),
            };
        }
        Self {
            contents: vec![Content::Integer(whole.to_string())],
            alone: format!("(CAST(? AS INTEGER){then})").into(),
            packed: format!("(?{then})").into(),
        }
    }

    /// In hexadecimal digits, two for a byte, so a long one takes several strings.
    fn blob(value: &[u8]) -> Self {
        let contents: Vec<_> =
            value.chunks(MAX_VALUE_BYTES / 2).map(|part| Content::Text(hex(part))).collect();
        let expression: Cow<'static, str> = match contents.len() {
            0 => return Self::constant("(x'')"),
            1 => "(unhex(?))".into(),
            count => format!("(+CAST({} AS BLOB))", vec!["unhex(?)"; count].join("||")).into(),
        };
        Self { contents, alone: expression.clone(), packed: expression }
    }
}

impl Content {
    fn into_string(self) -> String {
        match self {
            Self::Integer(content) | Self::Whole(content) | Self::Text(content) => content,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A parameter for each.
fn one_each(forms: Vec<Form>) -> (Vec<String>, Vec<String>) {
    let mut params = Vec::new();
    let expressions = forms
        .into_iter()
        .map(|form| {
            let mut expression = String::new();
            let mut contents = form.contents.into_iter();
            for (at, part) in form.alone.split('?').enumerate() {
                if at > 0 {
                    params.extend(contents.next().map(Content::into_string));
                    expression.push_str(&format!("?{}", params.len()));
                }
                expression.push_str(part);
            }
            expression
        })
        .collect();
    (params, expressions)
}

/// A few parameters for all: JSON arrays, from which each place takes its element.
fn shared(forms: Vec<Form>) -> Result<(Vec<String>, Vec<String>)> {
    let count: usize = forms.iter().map(|form| form.contents.len()).sum();
    let share = count.div_ceil(MAX_PARAMETERS).max(MIN_SHARE);
    let mut arrays = Arrays { share, arrays: Vec::new(), length: 0 };
    let expressions = forms
        .into_iter()
        .map(|form| {
            let in_hex = form.packed.contains("unhex(?) AS TEXT");
            let mut expression = String::new();
            let mut contents = form.contents.into_iter();
            for (at, part) in form.packed.split('?').enumerate() {
                if let Some(content) = (at > 0).then(|| contents.next()).flatten() {
                    let (array, element) = arrays.push(&json(content, in_hex));
                    expression.push_str(&format!("?{array}->>{element}"));
                }
                expression.push_str(part);
            }
            expression
        })
        .collect();
    let params: Vec<_> = arrays.arrays.into_iter().map(|array| array + "]").collect();
    if params.len() > MAX_PARAMETERS || params.iter().any(|array| array.len() > MAX_VALUE_BYTES) {
        return Err(too_long(format!(
            "the {count} values of the statement do not fit into {MAX_PARAMETERS} parameters of \
             {MAX_VALUE_BYTES} bytes, which is what D1 takes; split it"
        )));
    }
    Ok((params, expressions))
}

fn json(content: Content, in_hex: bool) -> String {
    match content {
        Content::Integer(content) => content,
        Content::Whole(content) => content + ".0",
        Content::Text(content) if in_hex => format!("\"{}\"", hex(content.as_bytes())),
        Content::Text(content) => serde_json::Value::String(content).to_string(),
    }
}

/// JSON arrays of about the same number of elements, each small enough for a parameter.
struct Arrays {
    share: usize,
    arrays: Vec<String>,
    /// The elements of the last one.
    length: usize,
}

impl Arrays {
    /// Adds an element; tells the number of its parameter and its place in it.
    fn push(&mut self, json: &str) -> (usize, usize) {
        let fits = |array: &String| array.len() + json.len() + 2 <= MAX_VALUE_BYTES;
        match self.arrays.last_mut().filter(|array| self.length < self.share && fits(array)) {
            Some(array) => {
                array.push(',');
                array.push_str(json);
            }
            None => {
                self.arrays.push(format!("[{json}"));
                self.length = 0;
            }
        }
        self.length += 1;
        (self.arrays.len(), self.length - 1)
    }
}

fn check_sizes(forms: &[Form]) -> Result<()> {
    for form in forms {
        let bytes: usize = form
            .contents
            .iter()
            .map(|content| match content {
                Content::Integer(content) | Content::Whole(content) | Content::Text(content) => {
                    content.len()
                }
            })
            .sum();
        let bytes = if form.alone.contains("unhex") { bytes / 2 } else { bytes };
        if bytes > MAX_VALUE_BYTES {
            return Err(too_long(format!(
                "a value has {bytes} bytes, and D1 takes {MAX_VALUE_BYTES}"
            )));
        }
    }
    Ok(())
}

/// The text with an expression in each place of a parameter.
fn replaced<'e>(
    text: &Text<'_>,
    places: &[usize],
    expression: impl Fn(usize) -> &'e str,
) -> String {
    let mut sql = String::with_capacity(text.sql.len() + 16 * places.len());
    let mut places = places.iter();
    let mut from = 0;
    for (at, piece) in text.pieces.iter().enumerate() {
        gap(&mut sql, text, &text.sql[from..piece.span.start]);
        from = piece.span.end;
        match piece.token {
            SqlToken::Parameter(_) => {
                let expression = places.next().map_or("", |&place| expression(place));
                sql.push_str(if is_enclosed(text, at) { bare(expression) } else { expression });
            }
            SqlToken::Word(_) | SqlToken::Quoted(_) | SqlToken::Mark(_) => {
                sql.push_str(&text.sql[piece.span.clone()]);
            }
        }
    }
    sql
}

/// Whether a token stands in a list, between commas or parentheses: there an expression needs none
/// of its own, which saves a fifth of a long statement.
fn is_enclosed(text: &Text<'_>, at: usize) -> bool {
    let is = |at: Option<usize>, marks: [u8; 2]| {
        at.and_then(|at| text.pieces.get(at))
            .is_some_and(|piece| marks.iter().any(|&mark| piece.is_mark(mark)))
    };
    is(at.checked_sub(1), *b"(,") && is(at.checked_add(1), *b",)")
}

/// An expression without the parentheses around it.
fn bare(expression: &str) -> &str {
    let inside = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inside.unwrap_or(expression)
}

/// What stands between tokens. D1 cuts a trigger wrongly where a line of it ends in CR and LF
/// (<https://github.com/cloudflare/workers-sdk/issues/14991>).
fn gap(sql: &mut String, text: &Text<'_>, gap: &str) {
    if text.is_trigger() {
        sql.push_str(&gap.replace("\r\n", "\n"));
    } else {
        sql.push_str(gap);
    }
}

/// The texts of unnamed columns, as sent and as written, where a parameter is in them.
fn names(text: &Text<'_>, sql: &str) -> Vec<(String, String)> {
    let sent = Text::of_one(sql);
    let written = items::of(text).unwrap_or_default();
    let sent = items::of(&sent).unwrap_or_default();
    sent.iter()
        .zip(&written)
        .filter(|(sent, written)| sent.span != written.span)
        .map(|(sent, written)| (sent.span.to_owned(), written.span.to_owned()))
        .collect()
}
