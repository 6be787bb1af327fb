//! Tables that rows could refer to and that are gone: their children have only `NULL` there, which
//! they may keep, but SQLite takes no new rows for them.

use std::collections::{BTreeMap, BTreeSet};

use mt_core::Result;
use mt_sqlite_copy::SchemaObject;
use rusqlite::Connection;

use super::{
    plan::{is_taken, unread},
    reading,
    references::Group,
};
use crate::{backup::quoted, raw::RawStatement};

/// What makes an empty table in the place of each while the rows come, and what removes it again.
pub(super) fn stand_ins(
    copy: &Connection,
    schema: &[SchemaObject],
    groups: &[Group],
) -> Result<(Vec<RawStatement>, Vec<RawStatement>)> {
    // The columns of each that are referred to together.
    let mut gone: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for table in groups.iter().flat_map(|group| &group.tables) {
        let query = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(&table.name));
        if !copy.query_row(&query, [], |row| row.get(0)).map_err(unread)? {
            continue;
        }
        for reference in super::references::references(copy, &table.name)? {
            if !is_taken(schema, &reference.parent) {
                let columns = reference.columns.iter().enumerate();
                let name = |(place, (_, to)): (usize, &(String, Option<String>))| match to {
                    Some(to) => to.to_lowercase(),
                    None => format!("_mt_key_{place}"),
                };
                gone.entry(reference.parent).or_default().insert(columns.map(name).collect());
            }
        }
    }
    let make = |(parent, keys): (&String, &BTreeSet<Vec<String>>)| {
        let list = |columns: Vec<&String>| {
            columns.into_iter().map(|column| quoted(column)).collect::<Vec<_>>().join(",")
        };
        let columns = list(keys.iter().flatten().collect::<BTreeSet<_>>().into_iter().collect());
        let keys = keys.iter().map(|key| {
            // A reference that names no columns is to the primary key.
            let is_primary = key.iter().any(|column| column.starts_with("_mt_key_"));
            let kind = if is_primary { "PRIMARY KEY" } else { "UNIQUE" };
            format!(",{kind} ({})", list(key.iter().collect()))
        });
        let keys: String = keys.collect();
        reading(format!("CREATE TABLE {} ({columns}{keys})", quoted(parent)))
    };
    let remove = |parent: &String| reading(format!("DROP TABLE {}", quoted(parent)));
    Ok((gone.iter().map(make).collect(), gone.keys().map(remove).collect()))
}
