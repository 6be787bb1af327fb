//! What a tenant's handle lets through, told by tokens.
//!
//! Text that an application sends as SQL may hold several statements, and a word at its beginning
//! says nothing about the rest. So the text is cut into statements the way the engine cuts it,
//! past quotes and comments, and each is looked at.

use sea_orm::DbBackend;

use crate::{Error, ErrorKind};

/// Refuses what no handle runs, in any statement of `sql`:
///
/// - `ATTACH`, `DETACH` and `VACUUM INTO`, which reach other files than the tenant's;
/// - `BEGIN`, `COMMIT`, `END`, `ROLLBACK`, `SAVEPOINT`, `RELEASE` and their like, because on a pool
///   they would open a transaction under whoever comes next;
/// - a `PRAGMA` that changes a connection (SQLite dialect), for the same reason.
///
/// # Errors
/// `Unsupported`, naming the statement and what to use.
pub(crate) fn check(sql: &str, backend: DbBackend) -> Result<(), Error> {
    if is_plainly_harmless(sql) {
        return Ok(());
    }
    Statements::new(sql, backend).try_for_each(|statement| statement.check(backend))
}

/// Whether every statement of `sql` only reads.
///
/// For engines that cannot enforce it themselves. Errs on the side of refusing.
pub(crate) fn only_reads(sql: &str, backend: DbBackend) -> bool {
    Statements::new(sql, backend).all(|statement| match statement.verb().as_str() {
        "" => true,
        "SELECT" | "VALUES" | "EXPLAIN" => !statement.has("INTO"),
        "WITH" => !["INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "INTO"]
            .iter()
            .any(|word| statement.has(word)),
        "PRAGMA" => statement.check(backend).is_ok(),
        _ => false,
    })
}

/// What SeaORM builds: one statement that begins with one of these words. No semicolon means no
/// second statement, so there is nothing to cut.
fn is_plainly_harmless(sql: &str) -> bool {
    const VERBS: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];
    VERBS.iter().any(|verb| sql.starts_with(verb)) && !sql.as_bytes().contains(&b';')
}

/// Pragmas of the SQLite dialect whose argument asks a question, or whose setting lasts no longer
/// than its transaction.
const HARMLESS_PRAGMAS: [&str; 15] = [
    "collation_list",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas whose value may be read, with `PRAGMA name`, and not set.
const READABLE_PRAGMAS: [&str; 14] = [
    "application_id",
    "busy_timeout",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "journal_mode",
    "page_count",
    "page_size",
    "query_only",
    "schema_version",
    "synchronous",
    "user_version",
];

#[derive(Debug, PartialEq)]
enum Token<'a> {
    /// A bare word, or a number.
    Word(&'a str),
    /// A quoted word or string, without saying which.
    Quoted,
    /// Any other character that is not white space.
    Mark(u8),
}

#[derive(Debug)]
struct Statement<'a>(Vec<Token<'a>>);

impl Statement<'_> {
    /// The first bare word, in capitals; `EXPLAIN` is passed over.
    fn verb(&self) -> String {
        self.words().next().unwrap_or_default().to_ascii_uppercase()
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .map_while(|token| match token {
                Token::Word(word) => Some(*word),
                Token::Quoted | Token::Mark(_) => None,
            })
            .skip_while(|word| {
                ["EXPLAIN", "QUERY", "PLAN"].iter().any(|skip| word.eq_ignore_ascii_case(skip))
            })
    }

    fn has(&self, wanted: &str) -> bool {
        self.0
            .iter()
            .any(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted)))
    }

    fn is_trigger(&self) -> bool {
        let mut words = self.words().map(str::to_ascii_uppercase);
        words.next().as_deref() == Some("CREATE")
            && match words.next().as_deref() {
                Some("TRIGGER") => true,
                Some("TEMP" | "TEMPORARY") => words.next().as_deref() == Some("TRIGGER"),
                _ => false,
            }
    }

    fn check(&self, backend: DbBackend) -> Result<(), Error> {
        let verb = self.verb();
        let advice = match verb.as_str() {
            "ATTACH" | "DETACH" => "a tenant's handle reaches the tenant's database only",
            "VACUUM" if self.has("INTO") => {
                "it writes a file outside the tenant's database; use the factory's backup"
            }
            "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "START"
            | "ABORT" | "PREPARE" => {
                "transactions are opened with `begin`, `transaction` or `batch`"
            }
            "PRAGMA" if backend == DbBackend::Sqlite && !self.is_harmless_pragma() => {
                "it changes the connection for whoever uses it next"
            }
            _ => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("`{verb}` is not run on a tenant's handle: {advice}"),
        ))
    }

    fn is_harmless_pragma(&self) -> bool {
        // PRAGMA [schema .] name [= value | (value)]
        let rest = &self.0[1..];
        let rest = match rest {
            [Token::Word(_), Token::Mark(b'.'), rest @ ..] => rest,
            rest => rest,
        };
        let (Some(Token::Word(name)), value) = (rest.first(), rest.get(1..).unwrap_or_default())
        else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        HARMLESS_PRAGMAS.contains(&name.as_str())
            || READABLE_PRAGMAS.contains(&name.as_str()) && value.is_empty()
    }
}

/// Cuts text into statements at the semicolons that end one.
struct Statements<'a> {
    tokens: Tokens<'a>,
    in_trigger: bool,
}

impl<'a> Statements<'a> {
    fn new(sql: &'a str, backend: DbBackend) -> Self {
        Self { tokens: Tokens { rest: sql, backend }, in_trigger: false }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let mut tokens = Vec::new();
        loop {
            let token = self.tokens.next();
            if token.is_none() && tokens.is_empty() {
                return None;
            }
            match token {
                Some(Token::Mark(b';')) | None => {
                    let statement = Statement(std::mem::take(&mut tokens));
                    // The body of a trigger is statements of its own, up to `END;`.
                    if self.in_trigger && statement.verb() == "END" {
                        self.in_trigger = false;
                        continue;
                    }
                    self.in_trigger |= statement.is_trigger();
                    return Some(statement);
                }
                Some(token) => tokens.push(token),
            }
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
    backend: DbBackend,
}

impl<'a> Tokens<'a> {
    /// Moves past `bytes` and gives them back.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Moves past the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &str) {
        let to = self.rest.find(end).map_or(self.rest.len(), |at| at + end.len());
        self.take(to);
    }

    fn skip_space(&mut self) {
        loop {
            // SQLite takes a byte order mark for white space.
            self.rest =
                self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            if self.rest.starts_with("--") {
                self.skip_past("\n");
            } else if self.rest.starts_with("/*") {
                self.skip_block_comment();
            } else {
                return;
            }
        }
    }

    /// Block comments nest in PostgreSQL and do not in SQLite.
    fn skip_block_comment(&mut self) {
        self.take(2);
        let mut depth = 1;
        while depth > 0 && !self.rest.is_empty() {
            if self.rest.starts_with("*/") {
                self.take(2);
                depth -= 1;
            } else if self.rest.starts_with("/*") && self.backend == DbBackend::Postgres {
                self.take(2);
                depth += 1;
            } else {
                let step = self.rest.chars().next().map_or(1, char::len_utf8);
                self.take(step);
            }
        }
    }

    /// Moves past a quoted text that opens with `quote`; a doubled quote stays inside.
    fn skip_quoted(&mut self, quote: char, backslash_escapes: bool) {
        self.take(1);
        let mut chars = self.rest.char_indices().peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if backslash_escapes && c == '\\' {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    end = at + c.len_utf8();
                    break;
                }
            }
        }
        self.take(end);
    }

    /// PostgreSQL's `$tag$ … $tag$`; `None` where the dollar is a parameter.
    fn dollar_quote(&self) -> Option<&'a str> {
        let after = self.rest.strip_prefix('$')?;
        let tag = after.find('$')?;
        let is_tag = after[..tag].chars().all(|c| c.is_alphanumeric() || c == '_')
            && !after.starts_with(|c: char| c.is_ascii_digit());
        (self.backend == DbBackend::Postgres && is_tag).then(|| &self.rest[..tag + 2])
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_space();
        let first = self.rest.chars().next()?;
        let postgres = self.backend == DbBackend::Postgres;
        if let Some(tag) = self.dollar_quote() {
            self.take(tag.len());
            self.skip_past(tag);
            return Some(Token::Quoted);
        }
        match first {
            '\'' | '"' => self.skip_quoted(first, false),
            '`' if !postgres => self.skip_quoted(first, false),
            '[' if !postgres => self.skip_past("]"),
            'e' | 'E' if postgres && self.rest[1..].starts_with('\'') => {
                self.take(1);
                self.skip_quoted('\'', true);
            }
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                return Some(Token::Word(self.take(end)));
            }
            c => {
                self.take(c.len_utf8());
                return Some(Token::Mark(u8::try_from(c).unwrap_or(b'?')));
            }
        }
        Some(Token::Quoted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(sql: &str) -> bool {
        check(sql, DbBackend::Sqlite).is_err()
    }

    #[test]
    fn reaching_out_is_refused_wherever_it_stands() {
        for sql in [
            "ATTACH 'x' AS y",
            "attach database 'x' as y",
            "SELECT 1; ATTACH 'x' AS y",
            "/* a ; */ -- b\n\tATTACH 'x' AS y",
            "\u{feff}ATTACH 'x' AS y",
            "SELECT ';' ; /**/ATTACH 'x' AS y",
            "SELECT 'it''s'; DETACH y",
            "SELECT [a;b], `c;d`, \"e;f\"; VACUUM main INTO '/tmp/x'",
            "VACUUM INTO '/tmp/x'",
            "EXPLAIN ATTACH 'x' AS y",
            "SELECT 1 /* open; ATTACH */; ATTACH 'x' AS y",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; ATTACH 'x' AS y",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; ATTACH 'x' AS y; END;",
        ] {
            assert!(refused(sql), "{sql}");
        }
    }

    #[test]
    fn transactions_and_connection_settings_are_refused() {
        for sql in [
            "BEGIN",
            "begin immediate",
            "SELECT 1; COMMIT",
            "END",
            "SAVEPOINT a",
            "RELEASE a",
            "ROLLBACK TO a",
            "PRAGMA foreign_keys = OFF",
            "PRAGMA foreign_keys(0)",
            "PRAGMA main.journal_mode=DELETE",
            "PRAGMA application_id(5)",
            "PRAGMA writable_schema",
            "PRAGMA \"foreign_keys\" = 0",
            "PRAGMA",
        ] {
            assert!(refused(sql), "{sql}");
        }
    }

    #[test]
    fn ordinary_statements_pass() {
        for sql in [
            "",
            ";;",
            "SELECT 1",
            "VACUUM",
            "INSERT INTO t VALUES ('ATTACH; BEGIN')",
            "SELECT 'x; ATTACH y', \"BEGIN\" -- ; ATTACH\n FROM t",
            "CREATE TABLE attach (\"begin\" text)",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE b SET c = CASE WHEN 1 THEN 2 END; END;",
            "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; SELECT 2",
            "PRAGMA table_info('users')",
            "PRAGMA main.foreign_key_list(logs)",
            "PRAGMA foreign_keys",
            "PRAGMA defer_foreign_keys = ON",
        ] {
            assert!(!refused(sql), "{sql}");
        }
    }

    #[test]
    fn the_postgres_dialect_is_cut_its_own_way() {
        let refused = |sql| check(sql, DbBackend::Postgres).is_err();
        assert!(!refused("SELECT $$ ; COMMIT $$, $a$ ; BEGIN $a$, $1"));
        assert!(!refused("SELECT E'\\'; COMMIT'"));
        assert!(!refused("/* a /* b */ ; COMMIT */ SELECT 1"));
        assert!(refused("SELECT $1; COMMIT"));
        assert!(refused("SELECT '\\'; COMMIT --'"));
    }

    #[test]
    fn what_only_reads_is_told_by_every_statement() {
        let reads = |sql| only_reads(sql, DbBackend::Sqlite);
        assert!(reads("SELECT 1"));
        assert!(reads("WITH a AS (SELECT 'INSERT') SELECT * FROM a"));
        assert!(reads("PRAGMA table_info(t); VALUES (1)"));
        for sql in [
            "SELECT 1; DELETE FROM t",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "CREATE TABLE a (b)",
            "PRAGMA user_version = 1",
            "SELECT * INTO x FROM y",
        ] {
            assert!(!reads(sql), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_a_fault(sql in "(?s).{0,200}") {
            for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
                drop(check(&sql, backend));
                only_reads(&sql, backend);
            }
        }

        #[test]
        fn nothing_hides_an_attach(
            before in r#"(SELECT '[a-z;'']{0,5}'|/\*[ a-z;]{0,9}\*/ SELECT 1|SELECT "[a-z;]{0,5}")"#,
            space in "[ \t\n]{0,4}",
        ) {
            // An odd number of quotes leaves the string open, and then SQLite refuses it all.
            prop_assume!(before.matches('\'').count() % 2 == 0);
            let sql = format!("{before};{space}aTTach 'f' AS x");
            prop_assert!(refused(&sql), "{}", sql);
        }
    }
}
