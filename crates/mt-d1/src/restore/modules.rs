//! Virtual tables: the service lets nobody write to the tables that they keep their rows in, so
//! they are filled as any other table.

use mt_core::Result;
use mt_sqlite_copy::{SchemaObject, TableRows};
use rusqlite::{Connection, Row, types::Value};

use super::{
    plan::{refused, setting, unread},
    reading,
};
use crate::{backup::quoted, raw::RawStatement};

/// What makes a virtual table, of what the service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    /// A full-text index that holds its texts.
    Texts,
    /// A full-text index of another table's texts: made anew.
    TextsOfOthers,
    /// What a full-text index shows of itself.
    Vocabulary,
    /// Boxes.
    Boxes,
}

impl Module {
    /// # Errors
    /// `Unsupported`: the service has no such module, or the table does not give its rows out.
    pub(super) fn of(table: &SchemaObject, schema: &[SchemaObject]) -> Result<Self> {
        let (name, arguments) = module(table.sql.as_deref().unwrap_or_default());
        let what = format!("the virtual table `{}`", table.name);
        match name.to_ascii_lowercase().as_str() {
            "fts5" => {
                let own = format!("{}_content", table.name);
                if schema.iter().any(|object| object.name.eq_ignore_ascii_case(&own)) {
                    return Ok(Self::Texts);
                }
                match content(arguments) {
                    Some(of) if !of.is_empty() => Ok(Self::TextsOfOthers),
                    _ => Err(refused(&format!("{what}, which does not hold its texts"))),
                }
            }
            "fts5vocab" => Ok(Self::Vocabulary),
            "rtree" | "rtree_i32" => Ok(Self::Boxes),
            other => Err(refused(&format!("{what}, which is of module `{other}`"))),
        }
    }

    /// How its rows are read and written, where it has any of its own.
    pub(super) fn rows(self, copy: &Connection, name: &str) -> Result<Option<TableRows>> {
        if matches!(self, Self::TextsOfOthers | Self::Vocabulary) {
            return Ok(None);
        }
        let mut names: Vec<String> = Vec::new();
        let list = |row: &Row<'_>| {
            if row.get::<_, i64>("hidden")? == 0 {
                names.push(row.get("name")?);
            }
            Ok(())
        };
        copy.pragma(Some("main"), "table_xinfo", name, list).map_err(unread)?;
        let number = (self == Self::Texts).then(|| quoted("rowid"));
        Ok(Some(TableRows {
            name: name.to_owned(),
            columns: number.into_iter().chain(names.iter().map(|name| quoted(name))).collect(),
            key: vec![0],
            is_shadow: false,
            has_rowid: true,
        }))
    }

    /// What was set of a full-text index.
    pub(super) fn settings(self, copy: &Connection, name: &str) -> Result<Vec<RawStatement>> {
        if matches!(self, Self::Boxes | Self::Vocabulary) {
            return Ok(Vec::new());
        }
        let query =
            format!("SELECT k, v FROM {} WHERE k <> 'version'", quoted(&format!("{name}_config")));
        let mut query = copy.prepare(&query).map_err(unread)?;
        let settings = query.query_map([], |row| {
            Ok(setting(name, &row.get::<_, String>(0)?, row.get::<_, Value>(1)?))
        });
        settings.and_then(Iterator::collect).map_err(unread)
    }

    /// Has a full-text index of another table's rows made, which are there by then.
    pub(super) fn rebuild(self, name: &str) -> Option<RawStatement> {
        let name = quoted(name);
        (self == Self::TextsOfOthers)
            .then(|| reading(format!("INSERT INTO {name} ({name}) VALUES ('rebuild')")))
    }
}

/// The module that a statement names, and what it is told.
fn module(sql: &str) -> (&str, &str) {
    let after_name = skip_name(sql.get("CREATE VIRTUAL TABLE ".len()..).unwrap_or_default());
    let rest = after_name.trim_start();
    let using = rest.get(..5).filter(|word| word.eq_ignore_ascii_case("USING"));
    let rest = using.map_or("", |_| rest[5..].trim_start());
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.split_at(end)
}

/// What follows the identifier that `text` begins with.
fn skip_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = match text.chars().next() {
        Some(quote @ ('"' | '\'' | '`')) => {
            let mut rest = &text[1..];
            loop {
                let Some(at) = rest.find(quote) else { return "" };
                rest = &rest[at + 1..];
                // A quote within it stands twice.
                match rest.strip_prefix(quote) {
                    Some(more) => rest = more,
                    None => return rest,
                }
            }
        }
        Some('[') => text.find(']').map(|at| at + 1),
        _ => text.find(char::is_whitespace),
    };
    end.map_or("", |end| &text[end..])
}

/// The value of the argument `content`, without its quotes.
fn content(arguments: &str) -> Option<&str> {
    let arguments = arguments.trim().trim_start_matches('(').trim_end_matches(')');
    arguments.split(',').find_map(|argument| {
        let (key, value) = argument.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case("content");
        is_it.then(|| value.trim().trim_matches(['\'', '"', '`', '[', ']']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_read_from_its_statement() {
        for (sql, expected) in [
            ("CREATE VIRTUAL TABLE w USING fts5(a)", "fts5"),
            ("CREATE VIRTUAL TABLE \"a \"\"using\"\" b\" using  FTS5 (a)", "FTS5"),
            ("CREATE VIRTUAL TABLE [a b]USING rtree(id, x, y)", "rtree"),
            ("CREATE VIRTUAL TABLE v USING fts5vocab", "fts5vocab"),
            ("CREATE VIRTUAL TABLE \"torn", ""),
            ("", ""),
        ] {
            assert_eq!(module(sql).0, expected, "{sql}");
        }
    }

    #[test]
    fn the_table_that_an_index_is_of_is_an_argument() {
        assert_eq!(content("(body, content = 'articles', content_rowid='id')"), Some("articles"));
        assert_eq!(content("(body, content='')"), Some(""));
        assert_eq!(content("(body, content=\"\", columnsize=0)"), Some(""));
        assert_eq!(content("(body, content_rowid='id')"), None);
    }
}
