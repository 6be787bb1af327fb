//! What a statement of a migration is, told by its tokens. SQLite's dialect.

/// A piece of a statement. Words are in lower case: SQLite compares names that way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A bare word, or a number.
    Word(String),
    /// A quoted name or a string, without its quotes.
    Quoted(String),
    /// Any other character that is not white space.
    Mark(char),
}

impl Token {
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        matches!(self, Self::Mark(own) if *own == mark)
    }

    /// The name it is, if it is one. SQLite takes strings for names, too.
    pub(crate) fn into_name(self) -> Option<String> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            Self::Mark(_) => None,
        }
    }
}

/// The pieces of `sql`, read as they are asked for.
pub(crate) struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    pub(crate) const fn new(sql: &'a str) -> Self {
        Self(sql)
    }

    fn skip_space(&mut self) {
        loop {
            self.0 = self.0.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            let end = match self.0 {
                text if text.starts_with("--") => text.find('\n'),
                text if text.starts_with("/*") => text.find("*/").map(|at| at + 1),
                _ => return,
            };
            self.0 = end.map_or("", |at| &self.0[at + 1..]);
        }
    }

    /// Moves past a text that ends with `end`; doubled, the end stands for itself.
    fn quoted(&mut self, end: char) -> String {
        let mut text = String::new();
        let mut chars = self.0.chars();
        chars.next();
        while let Some(c) = chars.next() {
            if c == end {
                if end == ']' || !chars.as_str().starts_with(end) {
                    break;
                }
                chars.next();
            }
            text.push(c.to_ascii_lowercase());
        }
        self.0 = chars.as_str();
        text
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_space();
        let first = self.0.chars().next()?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        Some(match first {
            '"' | '`' | '\'' => Token::Quoted(self.quoted(first)),
            '[' => Token::Quoted(self.quoted(']')),
            c if is_word(c) => {
                let end = self.0.find(|c| !is_word(c)).unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at(end);
                self.0 = rest;
                Token::Word(word.to_ascii_lowercase())
            }
            c => {
                self.0 = &self.0[c.len_utf8()..];
                Token::Mark(c)
            }
        })
    }
}

/// Why a migration may not run `sql` on a driver, if it may not.
pub(crate) fn refusal(sql: &str) -> Option<&'static str> {
    let mut tokens = Tokens::new(sql);
    let Some(Token::Word(verb)) = tokens.next() else {
        return None;
    };
    match verb.as_str() {
        "begin" | "commit" | "end" | "rollback" | "savepoint" | "release" => Some(TRANSACTION),
        "pragma" => {
            let mut rest: Vec<Token> = tokens.take(4).collect();
            if rest.get(1).is_some_and(|token| token.is_mark('.')) {
                rest.drain(..2);
            }
            let is_set = rest.len() > 1 && !rest[1].is_mark(';');
            let name = rest.into_iter().next().and_then(Token::into_name);
            (is_set && name.as_deref() == Some("foreign_keys")).then_some(FOREIGN_KEYS)
        }
        _ => None,
    }
}

/// Why a migration has no transaction of its own.
pub(crate) const TRANSACTION: &str = "it opens a transaction of its own, which is not to be had \
    there; leave it out: a migration and its record are one atomic batch, unless it opts out of \
    transactions";

const FOREIGN_KEYS: &str = "it switches foreign keys off or on, which an engine that is reached by \
    a driver ignores inside of a transaction; use `PRAGMA defer_foreign_keys = ON` to have them \
    checked at the end, and change tables with ALTER TABLE instead of rebuilding them";

/// How many rows `sql` will have changed once it has succeeded, where its text tells; a statement
/// that is about the schema changes none.
pub(crate) fn known_count(sql: &str) -> Option<u64> {
    let mut tokens = Tokens::new(sql);
    let verb = tokens.next()?;
    if verb.is("insert") {
        return inserted(tokens);
    }
    let changes = ["update", "delete", "replace", "with"].iter().any(|word| verb.is(word));
    (!changes).then_some(0)
}

/// The rows of `INSERT INTO … VALUES (…), (…)`, given what follows its first word. `None` for any
/// form that may leave rows out or take them from a query.
fn inserted(tokens: Tokens<'_>) -> Option<u64> {
    let (mut depth, mut in_values, mut rows) = (0_u32, false, 0);
    for token in tokens {
        match token {
            Token::Mark('(') => {
                rows += u64::from(in_values && depth == 0);
                depth += 1;
            }
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 => match word.as_str() {
                "or" | "on" | "select" | "with" => return None,
                "default" => return Some(1),
                "returning" => break,
                "values" => in_values = true,
                _ => {}
            },
            Token::Word(_) | Token::Quoted(_) | Token::Mark(_) => {}
        }
    }
    in_values.then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_and_foreign_keys_are_refused() {
        for sql in [
            "BEGIN",
            " -- a\n/* b */ begin immediate",
            "COMMIT;",
            "SAVEPOINT a",
            "PRAGMA foreign_keys = OFF",
            "pragma main.foreign_keys(0)",
            "PRAGMA \"foreign_keys\"=1",
        ] {
            assert!(refusal(sql).is_some(), "{sql}");
        }
        for sql in [
            "",
            "PRAGMA foreign_keys",
            "PRAGMA foreign_keys;",
            "PRAGMA foreign_key_list(a)",
            "PRAGMA defer_foreign_keys = ON",
            "INSERT INTO t VALUES ('BEGIN')",
            "CREATE TABLE \"begin\" (a)",
        ] {
            assert!(refusal(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn a_count_is_known_where_the_text_tells() {
        for (sql, count) in [
            ("CREATE TABLE a (b)", Some(0)),
            ("INSERT INTO a VALUES (1), ((2)), ('(,')", Some(3)),
            ("INSERT INTO \"values\" (a, b) VALUES (?, (1 + ?))", Some(1)),
            ("INSERT INTO a DEFAULT VALUES", Some(1)),
            ("INSERT INTO a (b) VALUES (?) RETURNING (b)", Some(1)),
            ("INSERT OR IGNORE INTO a VALUES (1)", None),
            ("INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", None),
            ("INSERT INTO a SELECT 1", None),
            ("REPLACE INTO a VALUES (1)", None),
            ("UPDATE a SET b = 1", None),
            ("DELETE FROM a", None),
            ("WITH b AS (SELECT 1) DELETE FROM a", None),
        ] {
            assert_eq!(known_count(sql), count, "{sql}");
        }
    }

    #[test]
    fn names_are_read_the_way_sqlite_reads_them() {
        let names: Vec<Token> = Tokens::new("\"A\"\"b\" [C] `d` 'E' F--\n.g").collect();
        let quoted = |text: &str| Token::Quoted(text.to_owned());
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(
            names,
            [
                quoted("a\"b"),
                quoted("c"),
                quoted("d"),
                quoted("e"),
                word("f"),
                Token::Mark('.'),
                word("g")
            ]
        );
    }
}
