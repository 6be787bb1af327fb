//! Rows on their way to the service, many of them in one parameter.

use mt_core::{Error, Result};
use mt_sqlite_copy::TableRows;
use rusqlite::types::ValueRef;
use serde_json::{Value as Json, json};

use crate::{
    NAME,
    backup::{halves, quoted, to_hex},
    raw::RawStatement,
};

/// How long the list of rows of a statement is at most, where no single row is longer; a value can
/// have 2,000,000 bytes (<https://developers.cloudflare.com/d1/platform/limits/>).
const LIST_BYTES: usize = 1_000_000;
/// The most rows that one statement inserts.
const LIST_ROWS: usize = 20_000;
/// The same where each is looked for from the beginning of the list.
const NUMBERED_ROWS: usize = 500;
/// How many columns a query's answer can have, by the same page.
const MOST_COLUMNS: usize = 100;
/// How many bytes of a blob are in one parameter, in hexadecimal.
const PIECE_BYTES: usize = 400_000;
/// The longest value, by the same page.
const LONGEST_BYTES: usize = 2_000_000;

/// Rows of one table that are inserted by one statement.
#[derive(Debug)]
pub(super) struct List<'t> {
    table: &'t TableRows,
    reader: Reader,
    json: String,
    rows: usize,
    /// Of each column, whether some of its values are written as [`Cell::Tagged`].
    tagged: Vec<bool>,
}

/// How a statement gets at the rows of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// With SQLite's own function for it.
    Each,
    /// One by one, where a table is called as that function is, and is read in its place.
    Numbered,
}

impl Reader {
    const fn most_rows(self) -> usize {
        match self {
            Self::Each => LIST_ROWS,
            Self::Numbered => NUMBERED_ROWS,
        }
    }

    /// The rows of the list that is the first parameter, each as `value`.
    const fn source(self) -> &'static str {
        match self {
            Self::Each => "json_each(?1)",
            Self::Numbered => {
                "(WITH RECURSIVE _mt_row (n) AS (SELECT 0 UNION ALL SELECT n+1 FROM _mt_row \
                 WHERE n+1<json_array_length(?1)) SELECT ?1->('$['||n||']') AS value FROM _mt_row)"
            }
        }
    }
}

/// A value in the list.
#[derive(Debug)]
enum Cell<'v> {
    /// As JSON has it, exactly.
    Plain(Json),
    /// What JSON does not have, or SQLite does not read of it to the last bit.
    Tagged(Json),
    /// In parameters of its own, because the list would be too long.
    Apart(ValueRef<'v>),
}

impl<'t> List<'t> {
    pub(super) fn new(table: &'t TableRows, reader: Reader) -> Self {
        let tagged = vec![false; table.columns.len()];
        Self { table, reader, json: String::new(), rows: 0, tagged }
    }

    /// Adds a row, if it is not too long for it. What is full after it is a statement to send.
    ///
    /// # Errors
    /// `Unsupported`: a value that the service cannot have.
    pub(super) fn push(&mut self, row: &[ValueRef<'_>]) -> Result<Vec<RawStatement>> {
        let cells: Vec<_> =
            row.iter().map(|value| cell(&self.table.name, *value)).collect::<Result<_>>()?;
        let text = to_text(&cells);
        // A list is read by a query, which can have no more columns than a table.
        if text.len() > LIST_BYTES || row.len() > MOST_COLUMNS {
            let statements = self.take().into_iter().chain([alone(self.table, row, cells)]);
            return Ok(statements.collect());
        }
        let is_full =
            self.json.len() + text.len() > LIST_BYTES || self.rows == self.reader.most_rows();
        let full = if is_full { self.take() } else { None };
        for (tagged, cell) in self.tagged.iter_mut().zip(&cells) {
            *tagged |= matches!(cell, Cell::Tagged(_));
        }
        self.json.push(if self.json.is_empty() { '[' } else { ',' });
        self.json.push_str(&text);
        self.rows += 1;
        Ok(full.into_iter().collect())
    }

    /// The statement for the rows so far, if there are any.
    pub(super) fn take(&mut self) -> Option<RawStatement> {
        if self.rows == 0 {
            return None;
        }
        let values: Vec<_> = self
            .tagged
            .iter()
            .enumerate()
            .map(|(place, tagged)| match *tagged {
                true => read_tagged("value", place),
                false => read_plain("value", place),
            })
            .collect();
        self.json.push(']');
        let rows = format!("SELECT {} FROM {}", values.join(","), self.reader.source());
        let statement = insert(self.table, &rows, vec![Json::from(self.json.as_str())]);
        *self = Self::new(self.table, self.reader);
        Some(statement)
    }
}

/// Inserts a row whose longest values are parameters of their own.
fn alone<'v>(table: &TableRows, row: &[ValueRef<'v>], mut cells: Vec<Cell<'v>>) -> RawStatement {
    let length = |cell: &Cell<'_>| to_text(std::slice::from_ref(cell)).len();
    let mut longest: Vec<_> =
        cells.iter().enumerate().map(|(place, cell)| (length(cell), place)).collect();
    longest.sort_unstable();
    let mut left: usize = longest.iter().map(|(length, _)| length).sum();
    while left > LIST_BYTES
        && let Some((length, place)) = longest.pop()
    {
        left -= length;
        cells[place] = Cell::Apart(row[place]);
    }
    let mut params = vec![Json::from(to_text(&cells))];
    let mut read = |place: usize, cell: &Cell<'_>| match cell {
        Cell::Plain(_) => read_plain("?1", place),
        Cell::Tagged(_) => read_tagged("?1", place),
        Cell::Apart(ValueRef::Blob(bytes)) => {
            let pieces = bytes.chunks(PIECE_BYTES).map(|piece| {
                params.push(Json::from(to_hex(piece)));
                format!("unhex(?{})", params.len())
            });
            format!("CAST({} AS BLOB)", pieces.collect::<Vec<_>>().join("||"))
        }
        Cell::Apart(value) => {
            // Only texts and blobs are long.
            params.push(Json::from(value.as_str().unwrap_or_default()));
            format!("?{}", params.len())
        }
    };
    let values: Vec<_> = cells.iter().enumerate().map(|(place, cell)| read(place, cell)).collect();
    insert(table, &format!("VALUES ({})", values.join(",")), params)
}

/// Inserts `rows`, which are a query or values.
pub(super) fn insert(table: &TableRows, rows: &str, params: Vec<Json>) -> RawStatement {
    let (name, columns) = (quoted(&table.name), table.columns.join(","));
    // What a table says of conflicts must not leave out or replace rows silently.
    let sql = format!("INSERT OR ABORT INTO {name} ({columns}) {rows}");
    RawStatement { sql, params }
}

fn read_plain(row: &str, place: usize) -> String {
    format!("{row}->>'$[{place}]'")
}

/// Reads what [`cell`] tags: a real as a whole number and a power of two, a text that has NUL and a
/// blob in hexadecimal.
fn read_tagged(row: &str, place: usize) -> String {
    let part = |part: usize| format!("{row}->>'$[{place}][{part}]'");
    let (tag, first, second) = (part(0), part(1), part(2));
    format!(
        "CASE WHEN json_type({row},'$[{place}]')<>'array' THEN {row}->>'$[{place}]' WHEN {tag}='r' \
         THEN CAST({first} AS REAL)*pow(2,{second}) WHEN {tag}='b' THEN unhex({first}) \
         ELSE CAST(unhex({first}) AS TEXT) END"
    )
}

fn to_text(cells: &[Cell<'_>]) -> String {
    let values = cells.iter().map(|cell| match cell {
        Cell::Plain(value) | Cell::Tagged(value) => value.to_string(),
        Cell::Apart(_) => "null".to_owned(),
    });
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

fn cell<'v>(table: &str, value: ValueRef<'v>) -> Result<Cell<'v>> {
    let too_long = |length: usize| {
        let what =
            format!("hold a value of {length} bytes in table `{table}`; it takes {LONGEST_BYTES}");
        Error::unsupported(NAME, what)
    };
    Ok(match value {
        ValueRef::Null => Cell::Plain(Json::Null),
        ValueRef::Integer(value) => Cell::Plain(Json::from(value)),
        ValueRef::Real(value) => {
            let (whole, power) = halves(value);
            Cell::Tagged(json!(["r", whole, power]))
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() > LONGEST_BYTES => {
            return Err(too_long(bytes.len()));
        }
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Err(invalid) => {
                let what = format!("hold a text that is not UTF-8, as table `{table}` has");
                return Err(Error::unsupported(NAME, what).with_source(invalid));
            }
            Ok(text) if text.contains('\0') => Cell::Tagged(json!(["t", to_hex(bytes)])),
            Ok(text) => Cell::Plain(Json::from(text)),
        },
        ValueRef::Blob(bytes) => Cell::Tagged(json!(["b", to_hex(bytes)])),
    })
}
