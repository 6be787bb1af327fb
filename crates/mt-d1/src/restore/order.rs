//! Rows that refer to rows after them and are more than one request takes, in an order in which each
//! comes after those that it refers to, or with them.

use mt_core::Result;
use mt_sqlite_copy::TableRows;
use rusqlite::Connection;

use super::{STEP_BYTES, plan::unread, steps::STEP_ROWS};
use crate::backup::{measure, quoted};

/// A row: the place of its table in the group, and its number.
pub(super) type RowAt = (usize, i64);

/// The rows of a few tables, all of whose rows have numbers.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// By table, and then by number.
    nodes: Vec<Node>,
    /// Which refers to which, by their places.
    references: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Node {
    row: RowAt,
    bytes: usize,
}

impl Rows {
    /// Finds the rows of the next table; `place` is that of its number among its columns.
    pub(super) fn add(
        &mut self,
        copy: &Connection,
        table: (usize, &TableRows),
        place: usize,
    ) -> Result<()> {
        let (at, table) = table;
        let (number, name) = (&table.columns[place], quoted(&table.name));
        let bytes = measure(&table.columns);
        let query = format!("SELECT {number}, {bytes} FROM {name} ORDER BY {number}");
        let mut query = copy.prepare(&query).map_err(unread)?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
        for row in rows.map_err(unread)? {
            let (number, bytes) = row.map_err(unread)?;
            let bytes = usize::try_from(bytes).unwrap_or_default();
            self.nodes.push(Node { row: (at, number), bytes });
        }
        Ok(())
    }

    /// Adds what a row refers to, if both are known.
    pub(super) fn refer(&mut self, from: RowAt, to: RowAt) {
        let find = |row: RowAt| self.nodes.binary_search_by_key(&row, |node| node.row);
        if let (Ok(from), Ok(to)) = (find(from), find(to)) {
            self.references.push((from, to));
        }
    }

    /// Divides them into requests. `None`: rows that refer to one another in a circle are too many
    /// for one.
    pub(super) fn into_requests(mut self) -> Option<Vec<Vec<RowAt>>> {
        self.references.sort_unstable();
        let mut requests = Vec::new();
        let (mut request, mut bytes) = (Vec::new(), 0);
        for circle in circles(self.nodes.len(), &self.references) {
            let more: usize = circle.iter().map(|place| self.nodes[*place].bytes).sum();
            if more > STEP_BYTES {
                return None;
            }
            if bytes + more > STEP_BYTES || request.len() + circle.len() > STEP_ROWS {
                requests.push(std::mem::take(&mut request));
                bytes = 0;
            }
            bytes += more;
            request.extend(circle.iter().map(|place| self.nodes[*place].row));
        }
        requests.push(request);
        Some(requests)
    }
}

/// A node on the way that is being followed.
struct Step {
    node: usize,
    /// The next of the references, which are sorted, to follow from there.
    next: usize,
}

/// The nodes in groups that reach each other, each group after those that it refers to: Tarjan's
/// algorithm, without recursion because a way can be as long as a table.
fn circles(nodes: usize, references: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let begin = |node| Step { node, next: references.partition_point(|(from, _)| *from < node) };
    let mut found = Vec::new();
    // When a node was reached, and the earliest open one that it reaches.
    let mut reached: Vec<Option<usize>> = vec![None; nodes];
    let mut earliest = vec![0; nodes];
    let mut is_open = vec![false; nodes];
    let (mut open, mut way, mut time) = (Vec::new(), Vec::new(), 0);
    for start in 0..nodes {
        let mut enter = reached[start].is_none().then_some(start);
        loop {
            if let Some(node) = enter.take() {
                (reached[node], earliest[node], is_open[node]) = (Some(time), time, true);
                time += 1;
                open.push(node);
                way.push(begin(node));
            }
            let Some(Step { node, next }) = way.last_mut() else { break };
            let node = *node;
            if let Some((_, to)) = references.get(*next).filter(|(from, _)| *from == node) {
                *next += 1;
                match reached[*to] {
                    None => enter = Some(*to),
                    Some(time) if is_open[*to] => earliest[node] = earliest[node].min(time),
                    Some(_) => {}
                }
                continue;
            }
            way.pop();
            if let Some(before) = way.last() {
                earliest[before.node] = earliest[before.node].min(earliest[node]);
            }
            if reached[node] == Some(earliest[node]) {
                let from = open.iter().rposition(|other| *other == node).unwrap_or_default();
                let circle = open.split_off(from);
                circle.iter().for_each(|node| is_open[*node] = false);
                found.push(circle);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first_and_circles_come_together() {
        let references = [(0, 3), (1, 0), (2, 2), (3, 4), (4, 3), (5, 1), (5, 2)];
        let mut circles = circles(7, &references);
        circles.iter_mut().for_each(|circle| circle.sort_unstable());
        assert_eq!(circles, [vec![3, 4], vec![0], vec![1], vec![2], vec![5], vec![6]]);
    }

    #[test]
    fn a_way_may_be_as_long_as_a_table() {
        const LENGTH: usize = 300_000;
        let references: Vec<_> = (1..LENGTH).map(|node| (node - 1, node)).collect();
        let circles = circles(LENGTH, &references);
        assert!(circles.into_iter().flatten().eq((0..LENGTH).rev()));
    }
}
