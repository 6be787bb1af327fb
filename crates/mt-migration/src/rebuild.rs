//! Dropping a table that others refer to.
//!
//! `DROP TABLE` deletes a table's rows first, so `ON DELETE CASCADE` and `SET NULL` reach into the
//! tables that refer to it, also under `defer_foreign_keys`. The usual rebuild of a table (make a new
//! one, copy, drop the old one, rename) then empties its children. On a SQLite file the runner
//! switches foreign keys off; an engine behind a driver does not allow that, so such a drop is
//! refused before it is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use crate::statement::{Token, Tokens};

/// Which tables refer to which others, by names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References(BTreeMap<String, BTreeSet<String>>);

/// A drop that would reach into other tables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Referenced {
    /// The table that would be dropped.
    pub(crate) table: String,
    /// Those that refer to it.
    pub(crate) by: Vec<String>,
}

/// Whether `sql` drops a table.
pub(crate) fn is_drop(sql: &str) -> bool {
    let mut tokens = Tokens::new(sql);
    tokens.next().is_some_and(|token| token.is("drop"))
        && tokens.next().is_some_and(|token| token.is("table"))
}

impl References {
    /// The query whose rows [`References::from_rows`] takes.
    pub(crate) fn select() -> Statement {
        // `_cf_…` are D1's own tables; it lets nobody look at them.
        Statement::from_string(
            DbBackend::Sqlite,
            r#"SELECT child.name AS "child", parent."table" AS "parent"
               FROM sqlite_master AS child, pragma_foreign_key_list(child.name) AS parent
               WHERE child.type = 'table' AND substr(child.name, 1, 4) <> '_cf_'"#,
        )
    }

    pub(crate) fn from_rows(rows: &[QueryResult]) -> Result<Self, DbErr> {
        let mut references = Self::default();
        for row in rows {
            let child: String = row.try_get("", "child")?;
            let parent: String = row.try_get("", "parent")?;
            references.add(&child.to_ascii_lowercase(), parent.to_ascii_lowercase());
        }
        Ok(references)
    }

    /// Follows `sql`, the next statement to run.
    ///
    /// # Errors
    /// It drops a table that another one refers to.
    pub(crate) fn follow(&mut self, sql: &str) -> Result<(), Referenced> {
        let mut tokens = Tokens::new(sql).peekable();
        let verb = tokens.next();
        let is = |word| verb.as_ref().is_some_and(|verb| verb.is(word));
        let skipped = ["temp", "temporary", "table", "if", "not", "exists"];
        let mut is_table = false;
        while let Some(word) = tokens.next_if(|token| skipped.iter().any(|word| token.is(word))) {
            is_table |= word.is("table");
        }
        if !is_table {
            return Ok(());
        }
        let Some(table) = name(&mut tokens) else {
            return Ok(());
        };
        if is("drop") {
            return self.drop(table);
        }
        if is("create") || is("alter") {
            self.change(&table, &mut tokens);
        }
        Ok(())
    }

    fn drop(&mut self, table: String) -> Result<(), Referenced> {
        let refers = |(child, parents): &(&String, &BTreeSet<String>)| {
            **child != table && parents.contains(&table)
        };
        let by: Vec<String> =
            self.0.iter().filter(refers).map(|(child, _)| child.clone()).collect();
        if !by.is_empty() {
            return Err(Referenced { table, by });
        }
        self.0.remove(&table);
        Ok(())
    }

    /// What `CREATE TABLE table` or `ALTER TABLE table` goes on to say.
    fn change(&mut self, table: &str, tokens: &mut Peekable<Tokens<'_>>) {
        let mut renames = false;
        while let Some(token) = tokens.next() {
            if token.is("references") {
                if let Some(parent) = name(tokens) {
                    self.add(table, parent);
                }
            } else if renames && token.is("to") {
                if let Some(to) = tokens.next().and_then(Token::into_name) {
                    self.rename(table, &to);
                }
                return;
            } else {
                // `RENAME TO`; in `RENAME a TO b` it is a column.
                renames = token.is("rename");
            }
        }
    }

    fn add(&mut self, child: &str, parent: String) {
        self.0.entry(child.to_owned()).or_default().insert(parent);
    }

    /// SQLite changes the name in the tables that refer to it, too.
    fn rename(&mut self, from: &str, to: &str) {
        if let Some(parents) = self.0.remove(from) {
            self.0.entry(to.to_owned()).or_default().extend(parents);
        }
        for parents in self.0.values_mut() {
            if parents.remove(from) {
                parents.insert(to.to_owned());
            }
        }
    }
}

/// A table's name, behind its schema's if that is given.
fn name(tokens: &mut Peekable<Tokens<'_>>) -> Option<String> {
    let name = tokens.next()?.into_name()?;
    if tokens.next_if(|token| token.is_mark('.')).is_some() {
        return tokens.next()?.into_name();
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(statements: &[&str]) -> Result<(), Referenced> {
        let mut references = References::default();
        statements.iter().try_for_each(|sql| references.follow(sql))
    }

    fn refused(table: &str, by: &[&str]) -> Result<(), Referenced> {
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        Err(Referenced { table: table.to_owned(), by })
    }

    const CHILD: &str = r#"CREATE TABLE IF NOT EXISTS "Child" (p REFERENCES "Parent" (id))"#;

    #[test]
    fn a_table_that_others_refer_to_is_not_dropped() {
        assert_eq!(
            follow(&[CHILD, "DROP TABLE IF EXISTS main.parent"]),
            refused("parent", &["child"])
        );
        assert_eq!(
            follow(&["ALTER TABLE a ADD COLUMN b REFERENCES c", "DROP TABLE [C]"]),
            refused("c", &["a"])
        );
        let keys =
            "CREATE TABLE a (b, c, FOREIGN KEY (b) REFERENCES x, FOREIGN KEY (c) REFERENCES y)";
        assert_eq!(follow(&[keys, "DROP TABLE y"]), refused("y", &["a"]));
    }

    #[test]
    fn a_child_goes_before_its_parent() {
        assert_eq!(follow(&[CHILD, "DROP TABLE child", "DROP TABLE parent"]), Ok(()));
        assert_eq!(follow(&["CREATE TABLE t (up REFERENCES t)", "DROP TABLE t"]), Ok(()));
    }

    #[test]
    fn names_that_change_are_followed() {
        let parent = "ALTER TABLE parent RENAME TO elder";
        let child = "ALTER TABLE child RENAME TO younger";
        let column = "ALTER TABLE parent RENAME COLUMN a TO b";
        assert_eq!(follow(&[CHILD, parent, "DROP TABLE parent"]), Ok(()));
        assert_eq!(follow(&[CHILD, parent, "DROP TABLE elder"]), refused("elder", &["child"]));
        assert_eq!(follow(&[CHILD, child, "DROP TABLE parent"]), refused("parent", &["younger"]));
        assert_eq!(follow(&[CHILD, column, "DROP TABLE parent"]), refused("parent", &["child"]));
    }

    #[test]
    fn only_tables_are_drops() {
        assert!(is_drop(" /* a */ drop TABLE a"));
        for sql in ["DROP INDEX a", "SELECT 'DROP TABLE a'", "DROP VIEW a"] {
            assert!(!is_drop(sql), "{sql}");
            assert_eq!(follow(&["CREATE TABLE b (c REFERENCES a)", sql]), Ok(()));
        }
    }
}
