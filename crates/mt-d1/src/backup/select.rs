//! How the rows of a table are asked for: exactly, and in pages where there are many.

use std::ops::Range;

use mt_core::Result;
use mt_sqlite_copy::TableRows;
use rusqlite::types::Value;

use super::{
    unreadable,
    value::{Bound, bytes_of, measure, packed, unpacked},
};
use crate::raw::{RawAnswer, RawStatement};

/// As many columns as an answer can have (<https://developers.cloudflare.com/d1/platform/limits/>).
const MOST_COLUMNS: usize = 100;
/// How much text there is for the columns of one statement, and how much for measuring its rows; a
/// statement may have 100,000 bytes, and the names of the key are in it, too.
const COLUMNS_BYTES: usize = 40_000;
const MEASURE_BYTES: usize = 40_000;
/// The most rows of a table that one answer has.
pub(super) const PAGE_ROWS: usize = 20_000;

/// Asks for the rows of one table.
#[derive(Debug)]
pub(super) struct Selection {
    table: TableRows,
    /// What one statement asks for. There are several where a table has more values in a row than
    /// an answer can have columns.
    parts: Vec<Range<usize>>,
    /// How many bytes a row takes up in an answer, about.
    measure: String,
    at: Position,
}

/// How far a table was read.
#[derive(Debug)]
enum Position {
    /// Not at all.
    Start,
    /// Up to the row with this key.
    After(Vec<Value>),
    /// So many rows, where nothing identifies one: as long as nothing is written they come in the
    /// same order.
    Skip(usize),
}

/// What one answer to a page was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// There may be more.
    Cut,
    /// That was all.
    Last,
}

impl Selection {
    pub(super) fn new(table: TableRows) -> Self {
        // Where the names are that long, rows are only counted.
        let measure = Some(measure(&table.columns)).filter(|text| text.len() <= MEASURE_BYTES);
        let mut parts = Vec::new();
        let mut part = 0..0;
        let mut text = 0;
        for (place, column) in table.columns.iter().enumerate() {
            let more = packed(column).len();
            let is_full = part.len() == MOST_COLUMNS || text + more > COLUMNS_BYTES;
            if is_full && !part.is_empty() {
                parts.push(std::mem::replace(&mut part, place..place));
                text = 0;
            }
            part.end = place + 1;
            text += more;
        }
        parts.push(part);
        Self { table, parts, measure: measure.unwrap_or("0".to_owned()), at: Position::Start }
    }

    /// Asks for all rows, in the order in which they are stored.
    pub(super) fn whole(&self) -> Vec<RawStatement> {
        // An index that has all columns would be read instead, in its own order.
        let rest = format!("FROM {} NOT INDEXED", quoted(&self.table.name));
        self.parts.iter().map(|part| self.statement(part, &rest, &Bound::default())).collect()
    }

    /// Asks for the next rows: about `bytes` of them, and at least one if there is one.
    pub(super) fn page(&self, bytes: usize) -> Vec<RawStatement> {
        let (source, bound) = self.rest();
        // Only the lengths are read of rows that do not fit.
        let rest = format!(
            "{source} LIMIT (SELECT count(*) FROM (SELECT sum(_mt_bytes) OVER (ROWS UNBOUNDED PRECEDING) - _mt_bytes AS _mt_before FROM (SELECT {} AS _mt_bytes {source} LIMIT {PAGE_ROWS}{})) WHERE _mt_before < {bytes}){}",
            self.measure,
            self.offset(),
            self.offset(),
        );
        self.parts.iter().map(|part| self.statement(part, &rest, &bound)).collect()
    }

    /// The rows in the next of `answers`, as many as there were statements.
    pub(super) fn rows(
        &self,
        answers: &mut impl Iterator<Item = RawAnswer>,
    ) -> Result<impl Iterator<Item = Result<Vec<Value>>>> {
        let parts: Vec<_> = answers.take(self.parts.len()).map(|answer| answer.rows).collect();
        let length = parts.first().map(Vec::len);
        if parts.len() < self.parts.len() || parts.iter().any(|p| Some(p.len()) != length) {
            return Err(unreadable());
        }
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        Ok((0..length.unwrap_or_default()).map(move |_| {
            let values = parts.iter_mut().filter_map(Iterator::next).flatten();
            let row: Vec<_> =
                values.map(|value| unpacked(&self.table.name, value)).collect::<Result<_>>()?;
            if row.len() == self.table.columns.len() { Ok(row) } else { Err(unreadable()) }
        }))
    }

    /// Goes on after `rows`, which a page of `bytes` gave.
    pub(super) fn advance(&mut self, rows: &[Vec<Value>], bytes: usize) -> Page {
        let Some(last) = rows.last() else { return Page::Last };
        let taken: usize = rows.iter().flatten().map(bytes_of).sum();
        if rows.len() < PAGE_ROWS && taken < bytes {
            return Page::Last;
        }
        self.at = match (&self.at, self.table.key.is_empty()) {
            (_, false) => {
                Position::After(self.table.key.iter().map(|place| last[*place].clone()).collect())
            }
            (Position::Skip(before), true) => Position::Skip(before + rows.len()),
            (_, true) => Position::Skip(rows.len()),
        };
        Page::Cut
    }

    fn statement(&self, part: &Range<usize>, rest: &str, bound: &Bound) -> RawStatement {
        let columns: Vec<_> =
            self.table.columns[part.clone()].iter().map(|column| packed(column)).collect();
        RawStatement {
            sql: format!("SELECT {} {rest}", columns.join(",")),
            params: bound.params.clone(),
        }
    }

    /// From where the next rows come.
    fn rest(&self) -> (String, Bound) {
        let table = quoted(&self.table.name);
        let mut bound = Bound::default();
        if self.table.key.is_empty() {
            return (format!("FROM {table} NOT INDEXED"), bound);
        }
        let key: Vec<_> =
            self.table.key.iter().map(|place| self.table.columns[*place].as_str()).collect();
        let key = key.join(",");
        let after = match &self.at {
            Position::After(values) => {
                let values: Vec<_> = values.iter().map(|value| bound.push(value)).collect();
                format!(" WHERE ({key}) > ({})", values.join(","))
            }
            Position::Start | Position::Skip(_) => String::new(),
        };
        (format!("FROM {table}{after} ORDER BY {key}"), bound)
    }

    fn offset(&self) -> String {
        match self.at {
            Position::Skip(rows) => format!(" OFFSET {rows}"),
            Position::Start | Position::After(_) => String::new(),
        }
    }
}

/// An identifier as it stands in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
