//! In which order tables are filled: the service never leaves off checking what refers to what, and
//! waits with it to the end of a request at most.

use std::collections::{BTreeMap, BTreeSet};

use mt_core::Result;
use mt_sqlite_copy::TableRows;
use rusqlite::{Connection, Row};

use super::{
    STEP_BYTES,
    order::{RowAt, Rows},
    plan::{refused, unread},
};
use crate::{
    NAME,
    backup::{measure, quoted},
};

/// Tables that are filled one after the other.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tables: Vec<TableRows>,
    pub(super) way: Way,
}

/// How rows are sent.
#[derive(Debug)]
pub(super) enum Way {
    /// As they are stored, in as many requests as it takes.
    AsStored,
    /// Some refer to rows that come after them, so all go by one request: so many bytes, about.
    AtOnce(usize),
    /// The same, and they are too many for one: in another order, by these requests.
    Ordered(Vec<Vec<RowAt>>),
}

/// A foreign key.
#[derive(Debug)]
pub(super) struct Reference {
    /// Lower case, as in [`Graph`].
    pub(super) parent: String,
    /// The columns that refer, and those that they refer to.
    pub(super) columns: Vec<(String, Option<String>)>,
}

impl Reference {
    /// When a row `p` of `parent` is what a row `c` refers to.
    fn matching(&self, copy: &Connection, parent: &str) -> Result<String> {
        let mut same = Vec::new();
        for (place, (from, to)) in self.columns.iter().enumerate() {
            let to = match to {
                Some(to) => to.clone(),
                None => primary_key(copy, parent, place + 1)?,
            };
            same.push(format!("p.{} = c.{}", quoted(&to), quoted(from)));
        }
        Ok(same.join(" AND "))
    }
}

/// Tables by their names in lower case, and what they refer to among them.
type Graph = BTreeMap<String, Vec<Reference>>;

impl Group {
    /// All tables, after those that they refer to.
    ///
    /// # Errors
    /// `Unsupported`: a row refers to nothing, or rows that refer to one another in a circle are
    /// more than one request can take.
    pub(super) fn all(copy: &Connection, tables: Vec<TableRows>) -> Result<Vec<Self>> {
        require_whole(copy)?;
        let mut graph = Graph::new();
        for table in &tables {
            graph.insert(table.name.to_lowercase(), references(copy, &table.name)?);
        }
        let mut left: BTreeMap<String, TableRows> =
            tables.into_iter().map(|table| (table.name.to_lowercase(), table)).collect();
        let mut groups = Vec::new();
        while let Some(names) = next(&graph, &left) {
            let tables: Vec<TableRows> =
                names.iter().filter_map(|name| left.remove(name)).collect();
            let is_ahead = match tables.as_slice() {
                [table] => refers_ahead(copy, table, &graph[&names[0]])?,
                _ => true,
            };
            let way = match is_ahead.then(|| size(copy, &tables)).transpose()? {
                None => Way::AsStored,
                Some(bytes) if bytes <= STEP_BYTES => Way::AtOnce(bytes),
                Some(bytes) => Way::Ordered(in_order(copy, &tables, &graph, bytes)?),
            };
            groups.push(Self { tables, way });
        }
        Ok(groups)
    }
}

/// The tables that refer to none but themselves of those that are left.
fn next(graph: &Graph, left: &BTreeMap<String, TableRows>) -> Option<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        left.keys().map(|name| (name, reachable(graph, left, name))).collect();
    // The one that reaches the fewest reaches only such as reach it too.
    let (_, group) = reached.iter().min_by_key(|(_, group)| group.len())?;
    Some(group.iter().map(|name| (*name).clone()).collect())
}

/// `name`, and what it refers to over any number of tables.
fn reachable<'g>(
    graph: &'g Graph,
    left: &'g BTreeMap<String, TableRows>,
    name: &'g String,
) -> BTreeSet<&'g String> {
    let mut found = BTreeSet::from([name]);
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        for reference in &graph[name] {
            if left.contains_key(&reference.parent) && found.insert(&reference.parent) {
                open.push(&reference.parent);
            }
        }
    }
    found
}

/// What a table refers to.
pub(super) fn references(copy: &Connection, table: &str) -> Result<Vec<Reference>> {
    let mut references: BTreeMap<i64, Reference> = BTreeMap::new();
    // The columns of each come in their order.
    let list = |row: &Row<'_>| {
        let parent = row.get::<_, String>("table")?.to_lowercase();
        let new = Reference { parent, columns: Vec::new() };
        let reference = references.entry(row.get("id")?).or_insert(new);
        reference.columns.push((row.get("from")?, row.get("to")?));
        Ok(())
    };
    copy.pragma(Some("main"), "foreign_key_list", table, list).map_err(unread)?;
    Ok(references.into_values().collect())
}

/// Whether a row refers to one of the same table that is stored after it.
fn refers_ahead(copy: &Connection, table: &TableRows, references: &[Reference]) -> Result<bool> {
    let own = table.name.to_lowercase();
    for reference in references.iter().filter(|reference| reference.parent == own) {
        if table.key.is_empty() {
            return Ok(true);
        }
        let key = |of: &str| {
            let columns = table.key.iter().map(|place| format!("{of}.{}", table.columns[*place]));
            columns.collect::<Vec<_>>().join(",")
        };
        let name = quoted(&table.name);
        let query = format!(
            "SELECT EXISTS (SELECT 1 FROM {name} c JOIN {name} p ON {} WHERE ({}) > ({}))",
            reference.matching(copy, &table.name)?,
            key("p"),
            key("c"),
        );
        if copy.query_row(&query, [], |row| row.get(0)).map_err(unread)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn primary_key(copy: &Connection, table: &str, place: usize) -> Result<String> {
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    let mut name = None;
    let find = |row: &Row<'_>| {
        if row.get::<_, i64>("pk")? == place {
            name = Some(row.get("name")?);
        }
        Ok(())
    };
    copy.pragma(Some("main"), "table_xinfo", table, find).map_err(unread)?;
    name.ok_or(rusqlite::Error::QueryReturnedNoRows).map_err(unread)
}

/// How many bytes all rows are, about.
fn size(copy: &Connection, tables: &[TableRows]) -> Result<usize> {
    let mut size = 0_usize;
    for table in tables {
        let query = format!(
            "SELECT coalesce(sum({}),0) FROM {}",
            measure(&table.columns),
            quoted(&table.name)
        );
        let bytes: i64 = copy.query_row(&query, [], |row| row.get(0)).map_err(unread)?;
        size = size.saturating_add(usize::try_from(bytes).unwrap_or_default());
    }
    Ok(size)
}

/// The rows of `tables` so that none comes before what it refers to.
fn in_order(
    copy: &Connection,
    tables: &[TableRows],
    graph: &Graph,
    bytes: usize,
) -> Result<Vec<Vec<RowAt>>> {
    let names: Vec<_> = tables.iter().map(|table| format!("`{}`", table.name)).collect();
    let refuse = |which: &str| {
        let what = format!(
            "{}: {which} have to come in one request of {STEP_BYTES} bytes, and these have {bytes}",
            names.join(", ")
        );
        refused(&what)
    };
    let numbers: Option<Vec<usize>> = tables.iter().map(TableRows::number).collect();
    let numbers = numbers.ok_or_else(|| {
        refuse("rows that refer to rows after them, in a table whose rows have no number,")
    })?;
    let mut rows = Rows::default();
    for (at, table) in tables.iter().enumerate() {
        rows.add(copy, (at, table), numbers[at])?;
    }
    let number = |at: usize| tables[at].columns[numbers[at]].as_str();
    for (at, child) in tables.iter().enumerate() {
        for reference in &graph[&child.name.to_lowercase()] {
            let is_parent = |table: &TableRows| table.name.to_lowercase() == reference.parent;
            let Some(to) = tables.iter().position(is_parent) else { continue };
            let query = format!(
                "SELECT c.{}, p.{} FROM {} c JOIN {} p ON {}",
                number(at),
                number(to),
                quoted(&child.name),
                quoted(&tables[to].name),
                reference.matching(copy, &tables[to].name)?
            );
            let mut query = copy.prepare(&query).map_err(unread)?;
            let mut pairs = query.query([]).map_err(unread)?;
            while let Some(pair) = pairs.next().map_err(unread)? {
                rows.refer((at, pair.get(0).map_err(unread)?), (to, pair.get(1).map_err(unread)?));
            }
        }
    }
    rows.into_requests().ok_or_else(|| refuse("rows that refer to one another in a circle"))
}

/// Refuses rows that refer to nothing: SQLite files can have such, the service cannot.
fn require_whole(copy: &Connection) -> Result<()> {
    let first = copy.pragma_query_value(None, "foreign_key_check", |row| {
        Ok((row.get::<_, String>("table")?, row.get::<_, String>("parent")?))
    });
    match first {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        Ok((table, parent)) => Err(refused(&format!(
            "table `{table}`, a row of which refers to a row of `{parent}` that is not there"
        ))),
        Err(error) => {
            let what = format!("foreign keys that cannot be checked, in {NAME}");
            Err(refused(&what).with_source(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use mt_core::ErrorKind;

    use super::*;

    /// The tables of each, and whether their rows refer ahead.
    fn groups(sql: &str) -> Result<Vec<(Vec<String>, bool)>> {
        let copy = Connection::open_in_memory().unwrap();
        copy.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        copy.execute_batch(sql).unwrap();
        let groups = Group::all(&copy, TableRows::all(&copy).unwrap())?;
        let names = |group: &Group| group.tables.iter().map(|t| t.name.clone()).collect();
        Ok(groups.iter().map(|group| (names(group), !matches!(group.way, Way::AsStored))).collect())
    }

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let groups = groups(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES B (id));
             CREATE TABLE b (id INTEGER PRIMARY KEY, c INT REFERENCES c (id), z REFERENCES nowhere);
             CREATE TABLE c (id INTEGER PRIMARY KEY);
             CREATE TABLE x (id INTEGER PRIMARY KEY, y INT REFERENCES y, a INT REFERENCES a);
             CREATE TABLE y (id INTEGER PRIMARY KEY, x INT REFERENCES x);",
        );
        let one = |name: &str| (vec![name.to_owned()], false);
        let cycle = (vec!["x".to_owned(), "y".to_owned()], true);
        assert_eq!(groups.unwrap(), [one("c"), one("b"), one("a"), cycle]);
    }

    #[test]
    fn rows_that_refer_ahead_come_at_once() {
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, up INT REFERENCES t);";
        for (rows, expected) in [("(1, NULL), (2, 1), (3, 3)", false), ("(1, 2), (2, NULL)", true)]
        {
            let groups = groups(&format!("{table} INSERT INTO t VALUES {rows}")).unwrap();
            assert_eq!(groups, [(vec!["t".to_owned()], expected)]);
        }
        let keyed = "CREATE TABLE t (a, b, up_a, up_b, PRIMARY KEY (a, b), FOREIGN KEY (up_a, up_b) REFERENCES t (a, b)) WITHOUT ROWID;";
        let groups = groups(&format!("{keyed} INSERT INTO t VALUES (1, 1, 1, 2), (1, 2, 1, 1)"));
        assert!(groups.unwrap()[0].1);
    }

    #[test]
    fn what_the_service_would_refuse_is_refused_before() {
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, up INT REFERENCES t, value);";
        let error = groups(&format!("{table} INSERT INTO t VALUES (1, 7, NULL)")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let large = "INSERT INTO t VALUES (1, 2, zeroblob(3000000)), (2, 1, NULL)";
        let error = groups(&format!("{table} {large}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("`t`"), "{error}");
    }
}
