//! A copy cut into requests.

use mt_core::{Error, ErrorKind, Result};
use mt_sqlite_copy::TableRows;
use rusqlite::{Connection, types::ValueRef};
use tokio::sync::mpsc;

use super::{
    STEP_BYTES,
    cells::{List, Reader},
    order::RowAt,
    plan::{Plan, SEQUENCE, unread},
    references::Way,
};
use crate::{
    backup::{balanced_sum, quoted},
    raw::RawStatement,
};

/// The most rows that one request inserts, where they are short: it has 30 seconds.
pub(super) const STEP_ROWS: usize = 50_000;

/// How long a check's sum may be, far from the 100,000 bytes that a statement can have.
const MOST_BYTES: usize = 90_000;

/// What is sent as one request.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) statements: Vec<RawStatement>,
    /// What is asked afterwards, in the same request.
    pub(super) checks: Vec<Check>,
    pub(super) is_last: bool,
}

/// A question about rows that were sent, and what the copy answers.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) table: String,
    pub(super) sql: String,
    /// How many there are, and a sum over all values.
    pub(super) expected: (String, String),
}

/// Reads `copy` and hands out its steps as they are taken. Blocks.
///
/// # Errors
/// `Unsupported`: the service cannot have a value. `Corrupt`. Nobody takes the steps any more.
pub(super) fn read(copy: &Connection, plan: Plan, steps: &mpsc::Sender<Step>) -> Result<()> {
    let (reader, step) = (plan.reader, Step::default());
    let mut packing = Packing { copy, steps, reader, step, bytes: 0, rows: 0 };
    packing.extend(plan.first);
    for group in &plan.groups {
        match &group.way {
            Way::AsStored => group.tables.iter().try_for_each(|t| packing.fill(t, false))?,
            Way::AtOnce(bytes) => {
                if packing.bytes + bytes > STEP_BYTES {
                    packing.flush()?;
                }
                group.tables.iter().try_for_each(|table| packing.fill(table, true))?;
            }
            Way::Ordered(requests) => packing.fill_in_order(&group.tables, requests)?,
        }
        packing.flush_if_full()?;
    }
    let (virtuals_and_tables, rest) = split_last(plan.last);
    packing.extend(virtuals_and_tables);
    for table in &plan.last_rows {
        if table.name == SEQUENCE {
            packing.extend(plan.before_sequences.clone());
        }
        packing.fill(table, true)?;
    }
    packing.extend(rest);
    packing.step.is_last = true;
    packing.flush()
}

/// Tables come before the rows of theirs, and triggers after.
pub(super) fn split_last(last: Vec<RawStatement>) -> (Vec<RawStatement>, Vec<RawStatement>) {
    last.into_iter().partition(|statement| {
        let start = statement.sql.get(..12).unwrap_or_default();
        start.eq_ignore_ascii_case("CREATE TABLE")
    })
}

struct Packing<'c> {
    copy: &'c Connection,
    steps: &'c mpsc::Sender<Step>,
    reader: Reader,
    step: Step,
    bytes: usize,
    rows: usize,
}

impl Packing<'_> {
    fn add(&mut self, statement: RawStatement) {
        let params = statement.params.iter().filter_map(|param| param.as_str());
        self.bytes += statement.sql.len() + params.map(str::len).sum::<usize>();
        self.step.statements.push(statement);
    }

    fn extend(&mut self, statements: Vec<RawStatement>) {
        for statement in statements {
            self.add(statement);
        }
    }

    const fn is_full(&self) -> bool {
        self.bytes >= STEP_BYTES || self.rows >= STEP_ROWS
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        self.rows = 0;
        let step = std::mem::take(&mut self.step);
        self.steps.blocking_send(step).map_err(|_nobody_takes_it| {
            Error::new(ErrorKind::Internal, "the copy is not being sent any more")
        })
    }

    /// Sends the rows of a table.
    fn fill(&mut self, table: &TableRows, at_once: bool) -> Result<()> {
        let name = quoted(&table.name);
        let key: Vec<_> = table.key.iter().map(|place| table.columns[*place].as_str()).collect();
        let order = match key.as_slice() {
            [] => " NOT INDEXED".to_owned(),
            key => format!(" ORDER BY {}", key.join(",")),
        };
        let select = format!("SELECT {} FROM {name}{order}", table.columns.join(","));
        let copy = self.copy;
        let mut query = copy.prepare(&select).map_err(unread)?;
        let mut rows = query.query([]).map_err(unread)?;
        let mut list = List::new(table, self.reader);
        let mut checking = Checking::of(table);
        while let Some(row) = rows.next().map_err(unread)? {
            let values: Vec<ValueRef<'_>> = (0..table.columns.len())
                .map(|place| row.get_ref(place))
                .collect::<Result<_, _>>()
                .map_err(unread)?;
            let full = list.push(&values)?;
            self.rows += 1;
            if !full.is_empty() {
                self.extend(full);
                if self.is_full() && !at_once {
                    self.extend(list.take().into_iter().collect());
                    self.check(checking.up_to(&values))?;
                    self.flush()?;
                }
            }
        }
        self.extend(list.take().into_iter().collect());
        self.check(checking.rest())
    }

    /// Sends the rows of tables that refer to each other, as `requests` divides them.
    fn fill_in_order(&mut self, tables: &[TableRows], requests: &[Vec<RowAt>]) -> Result<()> {
        let copy = self.copy;
        let row_of = |table: &TableRows| {
            let number = table.number().map_or("NULL", |place| table.columns[place].as_str());
            let (columns, name) = (table.columns.join(","), quoted(&table.name));
            copy.prepare(&format!("SELECT {columns} FROM {name} WHERE {number} = ?1"))
        };
        let mut queries: Vec<_> =
            tables.iter().map(row_of).collect::<Result<_, _>>().map_err(unread)?;
        for request in requests {
            // The request before, or what came before them all.
            self.flush()?;
            let mut lists: Vec<_> =
                tables.iter().map(|table| List::new(table, self.reader)).collect();
            for (table, number) in request {
                let mut rows = queries[*table].query([number]).map_err(unread)?;
                let row = rows.next().map_err(unread)?;
                let row = row.ok_or(rusqlite::Error::QueryReturnedNoRows).map_err(unread)?;
                let values: Vec<ValueRef<'_>> = (0..tables[*table].columns.len())
                    .map(|place| row.get_ref(place))
                    .collect::<Result<_, _>>()
                    .map_err(unread)?;
                let full = lists[*table].push(&values)?;
                self.extend(full);
                self.rows += 1;
            }
            self.extend(lists.iter_mut().filter_map(List::take).collect());
        }
        tables.iter().try_for_each(|table| self.check(Checking::of(table).rest()))
    }

    /// Adds a question, with what the copy answers.
    fn check(&mut self, check: Option<(String, String)>) -> Result<()> {
        let Some((table, sql)) = check else { return Ok(()) };
        let expected =
            self.copy.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(unread)?;
        self.step.checks.push(Check { table, sql, expected });
        Ok(())
    }
}

/// Which rows of a table are still to be asked for.
struct Checking<'t> {
    table: &'t TableRows,
    /// The number of the last row that was asked for.
    after: Option<i64>,
}

impl<'t> Checking<'t> {
    const fn of(table: &'t TableRows) -> Self {
        Self { table, after: None }
    }

    /// The rows up to `row`, where rows have numbers; others are asked for all at the end.
    fn up_to(&mut self, row: &[ValueRef<'_>]) -> Option<(String, String)> {
        let place = self.table.number()?;
        let ValueRef::Integer(last) = row[place] else { return None };
        let column = &self.table.columns[place];
        let after = self.after.map(|after| format!("{column} > {after} AND "));
        let rows = format!(" WHERE {}{column} <= {last}", after.unwrap_or_default());
        self.after = Some(last);
        Some(self.sql(&rows))
    }

    fn rest(&self) -> Option<(String, String)> {
        let rows = match (self.table.number(), self.after) {
            (Some(place), Some(after)) => {
                format!(" WHERE {} > {after}", self.table.columns[place])
            }
            _ => String::new(),
        };
        Some(self.sql(&rows))
    }

    fn sql(&self, rows: &str) -> (String, String) {
        let name = quoted(&self.table.name);
        // Where the names are that long, rows are only counted.
        let values = Some(fingerprint(&self.table.columns)).filter(|text| text.len() < MOST_BYTES);
        let values = values.unwrap_or("0".to_owned());
        let sql = format!(
            "SELECT CAST(count(*) AS TEXT), CAST(coalesce(sum({values}),0) AS TEXT) FROM {name}{rows}"
        );
        (self.table.name.clone(), sql)
    }
}

/// A number of a row's values that does not depend on the version of SQLite: of kinds, lengths, and
/// something of each content.
fn fingerprint(columns: &[String]) -> String {
    let terms: Vec<_> = columns
        .iter()
        .zip(1..)
        .map(|(c, weight)| {
            format!(
                "{weight}*CASE typeof({c}) WHEN 'integer' THEN 2+abs({c}%999983) WHEN 'real' THEN \
                 CASE WHEN abs({c})<1e12 THEN 3+abs(CAST({c}*1024 AS INTEGER)%999983) ELSE 4 END \
                 WHEN 'text' THEN 5+octet_length({c})*7+coalesce(unicode({c}),0) \
                 WHEN 'blob' THEN 6+octet_length({c})*11+instr({c},x'00') ELSE 1 END"
            )
        })
        .collect();
    balanced_sum(&terms)
}
