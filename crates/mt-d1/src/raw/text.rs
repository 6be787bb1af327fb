//! The text of one statement, cut into tokens, and what kind of statement it is.

use std::ops::Range;

use mt_core::{Error, ErrorKind, Result, SqlToken, SqlTokens};

/// A token, where it stands, and how many parentheses are open around it.
#[derive(Clone, Debug)]
pub(super) struct Piece<'a> {
    pub(super) token: SqlToken<'a>,
    pub(super) span: Range<usize>,
    pub(super) depth: usize,
}

impl Piece<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.token, SqlToken::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_mark(&self, mark: u8) -> bool {
        self.token == SqlToken::Mark(mark)
    }

    /// A word of the statement itself, in none of its parentheses.
    fn is_outer(&self, word: &str) -> bool {
        self.depth == 0 && self.is_word(word)
    }
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SELECT` or `VALUES`, also after `WITH`: it answers rows and cannot write.
    Read,
    /// It inserts, updates or deletes rows, and answers those of its `RETURNING`.
    Write {
        /// Whether a rowid comes of it.
        inserts: bool,
    },
    /// `PRAGMA` and `EXPLAIN`, whose rows hold no other numbers than small integers.
    Ask,
    /// Anything else. It answers nothing.
    Define,
}

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) sql: &'a str,
    pub(super) pieces: Vec<Piece<'a>>,
    pub(super) kind: Kind,
    /// Where its main verb stands: after `WITH`, the one that follows.
    main: usize,
}

impl<'a> Text<'a> {
    /// Reads `sql`. What stands around the one statement in it is left away.
    ///
    /// # Errors
    /// `Statement`: there is no statement, there are several, or there is a NUL character.
    pub(super) fn read(sql: &'a str) -> Result<Self> {
        let refused = |why| Err(Error::new(ErrorKind::Statement, why));
        if sql.contains('\0') {
            return refused("a statement has no NUL character in it");
        }
        match mt_core::split_statements(sql).as_slice() {
            [sql] => Ok(Self::of_one(sql)),
            [] => refused("there is no statement in the text"),
            _ => refused("there are several statements in the text, and one is run at a time"),
        }
    }

    /// Reads what is known to be one statement.
    pub(super) fn of_one(sql: &'a str) -> Self {
        let mut depth = 0_usize;
        let pieces: Vec<_> = SqlTokens::new(sql)
            .map(|(token, span)| {
                if token == SqlToken::Mark(b')') {
                    depth = depth.saturating_sub(1);
                }
                let piece = Piece { token, span, depth };
                if token == SqlToken::Mark(b'(') {
                    depth += 1;
                }
                piece
            })
            .collect();
        let main = main_verb(&pieces);
        let kind = match pieces.get(main).map(|piece| verb(&piece.token)).as_deref() {
            Some("SELECT" | "VALUES") => Kind::Read,
            Some("INSERT" | "REPLACE") => Kind::Write { inserts: true },
            Some("UPDATE" | "DELETE") => Kind::Write { inserts: false },
            Some("PRAGMA" | "EXPLAIN") => Kind::Ask,
            _ => Kind::Define,
        };
        Self { sql, pieces, kind, main }
    }

    /// The first word, in capitals; empty where there is none.
    pub(super) fn verb(&self) -> String {
        self.pieces.first().map(|piece| verb(&piece.token)).unwrap_or_default()
    }

    /// The main verb and what follows it.
    pub(super) fn main(&self) -> &[Piece<'a>] {
        self.pieces.get(self.main..).unwrap_or_default()
    }

    /// The list after `RETURNING`.
    pub(super) fn returning(&self) -> Option<&[Piece<'a>]> {
        let at = self.pieces.iter().rposition(|piece| piece.is_outer("RETURNING"))?;
        matches!(self.kind, Kind::Write { .. }).then(|| &self.pieces[at + 1..])
    }

    /// Whether it makes a trigger, in whose body semicolons are.
    pub(super) fn is_trigger(&self) -> bool {
        self.verb() == "CREATE" && self.pieces.get(1).is_some_and(|piece| piece.is_word("TRIGGER"))
    }
}

fn verb(token: &SqlToken<'_>) -> String {
    match token {
        SqlToken::Word(word) => word.to_ascii_uppercase(),
        SqlToken::Quoted(_) | SqlToken::Parameter(_) | SqlToken::Mark(_) => String::new(),
    }
}

/// The first token; after `WITH`, the first verb that stands in no parentheses.
fn main_verb(pieces: &[Piece<'_>]) -> usize {
    const VERBS: [&str; 5] = ["SELECT", "VALUES", "INSERT", "UPDATE", "DELETE"];
    if !pieces.first().is_some_and(|first| first.is_word("WITH")) {
        return 0;
    }
    let found = pieces.iter().enumerate().position(|(at, piece)| {
        // A common table expression may be called `replace`.
        let replaces = piece.is_outer("REPLACE")
            && pieces.get(at + 1).is_some_and(|next| next.is_word("INTO"));
        replaces || VERBS.iter().any(|verb| piece.is_outer(verb))
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_told_by_the_main_verb() {
        let reads = Kind::Read;
        let inserts = Kind::Write { inserts: true };
        let changes = Kind::Write { inserts: false };
        for (sql, kind) in [
            ("select 1", reads),
            ("VALUES (1), (2)", reads),
            ("WITH a AS (DELETE FROM t) SELECT * FROM a", reads),
            ("WITH RECURSIVE replace(x) AS (SELECT 1) VALUES (1)", reads),
            ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", inserts),
            ("WITH a AS (SELECT 1) REPLACE INTO t SELECT * FROM a", inserts),
            ("REPLACE INTO t VALUES (1)", inserts),
            ("/* SELECT */ UPDATE t SET a = (SELECT 1)", changes),
            ("delete from t", changes),
            ("PRAGMA foreign_keys", Kind::Ask),
            ("EXPLAIN QUERY PLAN DELETE FROM t", Kind::Ask),
            ("CREATE TABLE t (a)", Kind::Define),
            ("ALTER TABLE t ADD b", Kind::Define),
            ("\"SELECT\" 1", Kind::Define),
        ] {
            assert_eq!(Text::read(sql).unwrap().kind, kind, "{sql}");
        }
    }

    #[test]
    fn one_statement_is_left_of_a_text() {
        let text = Text::read("-- a\r\n;; SELECT 1 /* in */ + 2 ; -- b\n;").unwrap();
        assert_eq!(text.sql, "SELECT 1 /* in */ + 2");
        for sql in ["", ";", "-- nothing", "SELECT 1; SELECT 2", "SELECT '\0'"] {
            assert_eq!(Text::read(sql).unwrap_err().kind(), ErrorKind::Statement, "{sql:?}");
        }
    }

    #[test]
    fn returning_is_found_outside_of_parentheses() {
        let of = |sql| Text::of_one(sql).returning().map(<[Piece<'_>]>::len);
        assert_eq!(of("INSERT INTO t VALUES (1) RETURNING a, b"), Some(3));
        assert_eq!(of("INSERT INTO t (\"returning\") VALUES ('RETURNING a')"), None);
        assert_eq!(of("CREATE TRIGGER t BEGIN DELETE FROM a RETURNING b; END"), None);
    }
}
