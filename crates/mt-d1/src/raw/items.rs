//! The columns that a statement answers, as far as its text tells.

use mt_core::SqlToken;

use super::text::{Kind, Piece, Text};

/// One item of a list of results.
#[derive(Debug)]
pub(super) struct Item<'t, 'a> {
    /// Its text, as the engine takes it for the name of a column that has none.
    pub(super) span: &'a str,
    pieces: &'t [Piece<'a>],
}

/// What an item is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// This, and it is certain.
    Told(String),
    /// It is all columns of something.
    Star,
    /// Only the schema tells.
    Untold,
}

/// The items of the list of results of `text`: of its first `SELECT`, or of its `RETURNING`.
///
/// `None` where there is no such list, or none that could be read.
pub(super) fn of<'t, 'a>(text: &'t Text<'a>) -> Option<Vec<Item<'t, 'a>>> {
    let list = match text.kind {
        Kind::Read => {
            let main = text.main();
            let (first, rest) = main.split_first()?;
            if !first.is_word("SELECT") {
                return None;
            }
            let skip = |piece: &Piece<'_>| piece.is_word("DISTINCT") || piece.is_word("ALL");
            if rest.first().is_some_and(skip) { &rest[1..] } else { rest }
        }
        Kind::Write { .. } => text.returning()?,
        Kind::Ask | Kind::Define => return None,
    };
    let mut items = Vec::new();
    let mut rest = list;
    loop {
        let end = rest.iter().position(ends_item).unwrap_or(rest.len());
        items.push(Item::new(text.sql, rest, end)?);
        match rest.get(end) {
            Some(piece) if piece.is_mark(b',') => rest = &rest[end + 1..],
            // It may also be the name of a column.
            Some(piece) if piece.is_word("WINDOW") => return None,
            _ => return Some(items),
        }
    }
}

/// The names of all columns that `text` answers, where they are certain.
pub(super) fn told(text: &Text<'_>) -> Option<Vec<String>> {
    if let Some(columns) = of_values(text) {
        return Some(columns);
    }
    let names = of(text)?.into_iter().map(|item| match item.name() {
        Name::Told(name) => Some(name),
        Name::Star | Name::Untold => None,
    });
    names.collect()
}

/// Whether the columns may change without the text, or be others in another tenant's schema: there
/// is a `*`, a name that is none for certain (`"a"` is a string where there is no such column, and
/// `rowid` is called as the primary key is), or the list could not be read.
pub(super) fn may_change(text: &Text<'_>) -> bool {
    of(text).is_none_or(|items| items.iter().any(|item| !matches!(item.name(), Name::Told(_))))
}

/// `VALUES (1, 2), …` has `column1` and `column2`.
fn of_values(text: &Text<'_>) -> Option<Vec<String>> {
    let (verb, rest) = text.main().split_first()?;
    let (open, rest) = rest.split_first()?;
    if text.kind != Kind::Read || !verb.is_word("VALUES") || !open.is_mark(b'(') {
        return None;
    }
    let row = rest.iter().position(|piece| piece.depth == 0)?;
    let commas = rest[..row].iter().filter(|piece| piece.depth == 1 && piece.is_mark(b','));
    Some((1..=commas.count() + 1).map(|number| format!("column{number}")).collect())
}

/// A comma, or a word that comes after a list.
fn ends_item(piece: &Piece<'_>) -> bool {
    const AFTER: [&str; 10] = [
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "WINDOW",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "ORDER",
        "LIMIT",
    ];
    piece.depth == 0 && (piece.is_mark(b',') || AFTER.iter().any(|word| piece.is_word(word)))
}

impl<'t, 'a> Item<'t, 'a> {
    /// The first `length` of `pieces`; empty where there are none.
    fn new(sql: &'a str, pieces: &'t [Piece<'a>], length: usize) -> Option<Self> {
        let from = pieces[..length].first()?.span.start;
        // Up to the next token: SQLite counts a comment to what is before it.
        let to = pieces.get(length).map_or(sql.len(), |next| next.span.start);
        let is_space = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
        let span = sql[from..to].trim_end_matches(is_space);
        Some(Self { span, pieces: &pieces[..length] })
    }

    /// What the engine calls it.
    pub(super) fn name(&self) -> Name {
        match self.pieces {
            [.., last] if last.is_mark(b'*') => Name::Star,
            [_, .., name] if self.named() < self.pieces.len() => {
                identifier(&name.token).map_or(Name::Untold, Name::Told)
            }
            // A bare `"column"` may be a string to SQLite; one of a table is a column. What is not
            // in the schema is refused, and `rowid` may be a name of another column.
            [.., dot, column] if dot.is_mark(b'.') && self.is_path() => match column.token {
                SqlToken::Quoted(_) => identifier(&column.token)
                    .filter(|name| !is_rowid(name))
                    .map_or(Name::Untold, Name::Told),
                SqlToken::Word(_) | SqlToken::Parameter(_) | SqlToken::Mark(_) => Name::Untold,
            },
            _ if self.is_expression() => Name::Told(self.span.to_owned()),
            _ => Name::Untold,
        }
    }

    /// What it is, without the name that it is given.
    pub(super) fn expression(&self, sql: &'a str) -> &'a str {
        match &self.pieces[..self.named()] {
            [] => "",
            [one] => &sql[one.span.clone()],
            [first, .., last] => &sql[first.span.start..last.span.end],
        }
    }

    /// Where the name begins that is given to it, with `AS` or right after a parenthesis; its
    /// length where there is none, or it is not certain that it is one.
    fn named(&self) -> usize {
        const OPERATORS: [&str; 3] = ["END", "ISNULL", "NOTNULL"];
        let length = self.pieces.len();
        match self.pieces {
            [.., keyword, _] if keyword.depth == 0 && keyword.is_word("AS") => length - 2,
            [.., close, name]
                if close.depth == 0
                    && close.is_mark(b')')
                    && identifier(&name.token).is_some()
                    && !OPERATORS.iter().any(|operator| name.is_word(operator)) =>
            {
                length - 1
            }
            _ => length,
        }
    }

    /// The column that is named and nothing else is said of, in `RETURNING`.
    pub(super) fn column(&self) -> Option<String> {
        match self.pieces {
            [.., column] if self.is_path() => {
                identifier(&column.token).filter(|name| !is_rowid(name))
            }
            _ => None,
        }
    }

    /// The name that is given to it, if one is; `None` where it is not certain what it is.
    pub(super) fn alias(&self) -> Option<Option<String>> {
        match self.name() {
            _ if self.named() == self.pieces.len() => Some(None),
            Name::Told(name) => Some(Some(name)),
            Name::Star | Name::Untold => None,
        }
    }

    /// Of how many tokens it is.
    pub(super) const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether it is a column, whatever name is given to it.
    pub(super) fn reads_column(&self) -> bool {
        Self { span: self.span, pieces: &self.pieces[..self.named()] }.is_path()
    }

    /// Whether a function that answers differently each time is in it.
    pub(super) fn is_random(&self) -> bool {
        self.pieces.iter().any(|piece| piece.is_word("random") || piece.is_word("randomblob"))
    }

    /// `a`, `a.b` or `a.b.c`.
    fn is_path(&self) -> bool {
        self.pieces.iter().enumerate().all(|(at, piece)| {
            if at % 2 == 1 { piece.is_mark(b'.') } else { identifier(&piece.token).is_some() }
        }) && self.pieces.len() % 2 == 1
    }

    /// Whether it surely is no column, and surely has no name that follows without `AS`.
    fn is_expression(&self) -> bool {
        const LIKELY: [&str; 3] = ["likely", "unlikely", "likelihood"];
        let is_number = |piece: &Piece<'_>| matches!(piece.token, SqlToken::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()));
        let is_parameter = |piece: &Piece<'_>| matches!(piece.token, SqlToken::Parameter(_));
        let is_call = |pair: &[Piece<'_>]| {
            matches!(pair, [name, open]
                if open.is_mark(b'(') && matches!(name.token, SqlToken::Word(_)))
        };
        // They are nothing to the engine, so there may be a column in them.
        let is_likely = |piece: &Piece<'_>| LIKELY.iter().any(|likely| piece.is_word(likely));
        let is_select = |piece: &Piece<'_>| piece.is_word("SELECT");
        let computes = self.pieces.iter().any(|p| is_number(p) || is_parameter(p) || is_select(p))
            || self.pieces.windows(2).any(is_call);
        let ends = self
            .pieces
            .last()
            .is_some_and(|last| last.is_mark(b')') || is_number(last) || is_parameter(last));
        computes && ends && !self.pieces.iter().any(is_likely)
    }
}

fn is_rowid(name: &str) -> bool {
    ["rowid", "oid", "_rowid_"].iter().any(|rowid| name.eq_ignore_ascii_case(rowid))
}

/// The name that a token is, without its quotes. A string may be a name too, and is not taken for
/// one.
pub(super) fn identifier(token: &SqlToken<'_>) -> Option<String> {
    match token {
        SqlToken::Word(word) if !word.starts_with(|c: char| c.is_ascii_digit()) => {
            Some((*word).to_owned())
        }
        SqlToken::Quoted(quoted) => {
            let (open, rest) = quoted.split_at_checked(1)?;
            match open {
                "\"" => Some(rest.strip_suffix('"')?.replace("\"\"", "\"")),
                "`" => Some(rest.strip_suffix('`')?.replace("``", "`")),
                "[" => Some(rest.strip_suffix(']')?.to_owned()),
                _ => None,
            }
        }
        SqlToken::Word(_) | SqlToken::Parameter(_) | SqlToken::Mark(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Option<Vec<String>> {
        super::told(&Text::of_one(sql))
    }

    #[test]
    fn what_sea_orm_writes_is_told() {
        for (sql, expected) in [
            (r#"SELECT "u"."id", "u"."na""me" FROM "u" WHERE "u"."id" = ?"#, vec!["id", "na\"me"]),
            (r#"SELECT COUNT(*) AS num_items FROM (SELECT * FROM "u") AS "s""#, vec!["num_items"]),
            (r#"SELECT "u"."id" AS "A_id", "v"."id" AS "B_id" FROM "u""#, vec!["A_id", "B_id"]),
            ("SELECT DISTINCT 1 AS [a b] UNION SELECT 2", vec!["a b"]),
            ("WITH a AS (SELECT 1) SELECT x AS `b` FROM a", vec!["b"]),
            (
                "SELECT typeof(?), ? AS value, (SELECT 1) , count(*) FROM t",
                vec!["typeof(?)", "value", "(SELECT 1)", "count(*)"],
            ),
            ("SELECT 1 /* a */, x + 1", vec!["1 /* a */", "x + 1"]),
            ("VALUES (1, max(2, 3)), (4, 5)", vec!["column1", "column2"]),
            ("SELECT 1", vec!["1"]),
            (
                "SELECT count(*) n, (a) [b c], sum(a) OVER (ORDER BY b) \"d\" FROM t",
                vec!["n", "b c", "d"],
            ),
        ] {
            assert_eq!(told(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn what_only_the_schema_or_the_engine_tells_is_not() {
        for sql in [
            "SELECT * FROM t",
            "SELECT t.*, 1 AS a FROM t",
            "SELECT id FROM t",
            "SELECT \"id\" FROM t",
            "SELECT \"t\".\"rowid\" FROM t",
            "SELECT (id) FROM t",
            "SELECT likely(id) FROM t",
            "SELECT likelihood(id, 0.5) FROM t",
            "SELECT 1 AS a WINDOW w AS (ORDER BY 1)",
            "SELECT sum(a) OVER w FROM t",
            "SELECT (a) ISNULL FROM t",
            "SELECT (a) NOTNULL FROM t",
            "SELECT CASE WHEN 1 THEN (2) END",
            "SELECT (1) 'n'",
            "SELECT ? a",
            "SELECT 1 'a'",
            "SELECT 1 AS 'a'",
            "SELECT 'a'",
            "SELECT id COLLATE nocase FROM t",
            "SELECT a IS DISTINCT FROM b FROM t",
            "SELECT CASE a WHEN 1 THEN 2 END FROM t",
            "SELECT",
            "SELECT , 1",
            "VALUES (1",
            "PRAGMA table_info(t)",
        ] {
            assert_eq!(told(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_the_text_does_not_tell_may_change() {
        for (sql, expected) in [
            ("SELECT *, 1 FROM t", true),
            ("SELECT t . * FROM t", true),
            (r#"SELECT "t"."a", count(*) AS n FROM t"#, false),
            (r#"SELECT "a" FROM t"#, true),
            ("SELECT rowid FROM t", true),
            ("SELECT", true),
        ] {
            assert_eq!(may_change(&Text::of_one(sql)), expected, "{sql}");
        }
    }
}
