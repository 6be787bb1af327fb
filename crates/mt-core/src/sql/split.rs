use std::ops::Range;

use super::{SqlTokens, Statement, Token};

/// Cuts text of the SQLite dialect into its statements, for engines that take one at a time.
///
/// Each is a part of `sql`, from its first token to its last and without the semicolon; comments
/// around it are left out, those within it are not, and where there is no token there is no
/// statement. The body of a `CREATE TRIGGER` stays with it, up to `; END`, as SQLite's own
/// `sqlite3_complete` has it; where that never comes, the rest of the text is one statement, which
/// the engine refuses.
pub fn split_statements(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut open = Open::default();
    for (token, span) in SqlTokens::new(sql) {
        if token == Token::Mark(b';') && open.may_end() {
            statements.extend(open.end(sql));
            open = Open::default();
        } else {
            open.push(token, span);
        }
    }
    statements.extend(open.end(sql));
    statements
}

/// The statement that is being read.
#[derive(Default)]
struct Open<'a> {
    statement: Statement<'a>,
    /// Where in the text it stands.
    span: Range<usize>,
    /// The first token after the last semicolon within it.
    section: usize,
}

impl<'a> Open<'a> {
    fn push(&mut self, token: Token<'a>, span: Range<usize>) {
        if self.statement.0.is_empty() {
            self.span.start = span.start;
        }
        self.span.end = span.end;
        let ends_section = token == Token::Mark(b';');
        self.statement.0.push(token);
        if ends_section {
            self.section = self.statement.0.len();
        }
    }

    /// Whether a semicolon that comes now ends it: in a trigger, only after an `END` that stands
    /// alone.
    fn may_end(&self) -> bool {
        let section = &self.statement.0[self.section..];
        !self.statement.is_trigger()
            || self.section > 0
                && matches!(section, [Token::Word(word)] if word.eq_ignore_ascii_case("END"))
    }

    fn end(&self, sql: &'a str) -> Option<&'a str> {
        (!self.statement.0.is_empty()).then(|| &sql[self.span.clone()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(sql: &str) -> Vec<Token<'_>> {
        SqlTokens::new(sql).map(|(token, _)| token).collect()
    }

    #[test]
    fn tokens_tell_where_they_stand() {
        let sql = "SELECT ?12a, $b /* ? */ = '?'\n-- ?\n-\u{e9}?";
        let seen: Vec<_> = SqlTokens::new(sql).map(|(token, span)| (token, &sql[span])).collect();
        let expected = [
            (Token::Word("SELECT"), "SELECT"),
            (Token::Parameter("?12"), "?12"),
            (Token::Word("a"), "a"),
            (Token::Mark(b','), ","),
            (Token::Parameter("$b"), "$b"),
            (Token::Mark(b'='), "="),
            (Token::Quoted("'?'"), "'?'"),
            (Token::Mark(b'-'), "-"),
            (Token::Word("\u{e9}"), "\u{e9}"),
            (Token::Parameter("?"), "?"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        for (sql, expected) in [
            ("", vec![]),
            (" ;; -- nothing\n; /* ; */", vec![]),
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT 1;", vec!["SELECT 1"]),
            ("\u{feff} SELECT 1 ; \n SELECT 2 -- b;\n;", vec!["SELECT 1", "SELECT 2"]),
            ("-- a\nSELECT 1; /* b */ SELECT /* ; */ 2", vec!["SELECT 1", "SELECT /* ; */ 2"]),
            (
                "SELECT ';', \"a;\", `b;`, [c;]; SELECT 'it''s;'",
                vec!["SELECT ';', \"a;\", `b;`, [c;]", "SELECT 'it''s;'"],
            ),
            ("SELECT $a(;); SELECT 'é';SELECT 3", vec!["SELECT $a(;)", "SELECT 'é'", "SELECT 3"]),
            ("SELECT 'open; SELECT 2", vec!["SELECT 'open; SELECT 2"]),
            ("SELECT 1; /* open; SELECT 2", vec!["SELECT 1"]),
            ("END; SELECT 1", vec!["END", "SELECT 1"]),
        ] {
            assert_eq!(split_statements(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_trigger_keeps_its_body() {
        for trigger in [
            "CREATE TRIGGER a AFTER INSERT ON b BEGIN UPDATE c SET d = 1; END",
            "create temp trigger a after insert on b begin select 1; select 2; end",
            "CREATE /* ; */ TRIGGER IF NOT EXISTS a AFTER INSERT ON b BEGIN SELECT 1;-- ;\nEND",
            "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT CASE WHEN 1 THEN 2 END; END",
            "CREATE TRIGGER a AFTER INSERT ON \"end\" BEGIN DELETE FROM \"end\"; SELECT ';END;'; END",
            "EXPLAIN CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END",
        ] {
            let sql = format!("CREATE TABLE b (c); {trigger} ; SELECT 1");
            let expected = ["CREATE TABLE b (c)", trigger, "SELECT 1"];
            assert_eq!(split_statements(&sql), expected, "{sql}");
            assert_eq!(split_statements(trigger), [trigger]);
        }
    }

    #[test]
    fn a_trigger_without_an_end_takes_the_rest() {
        let sql = "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; DROP TABLE c; SELECT 2";
        assert_eq!(split_statements(sql), [sql]);
        let sql = "CREATE TRIGGER a; END; SELECT 1";
        assert_eq!(split_statements(sql), ["CREATE TRIGGER a; END", "SELECT 1"]);
    }

    /// Text with what matters to the cutting in it.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(";".to_owned()),
            "['\"`\\[\\]?:$(]",
            prop_oneof![
                Just("-- c;\n"),
                Just("/* ; */"),
                Just("'a;''b'"),
                Just("CREATE TRIGGER t BEGIN"),
                Just("; END;"),
                Just("END"),
                Just("CREATE TEMP"),
            ]
            .prop_map(str::to_owned),
            "[a-zé0-9 \n]{0,6}",
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.join(" "))
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_added(sql in text()) {
            let statements = split_statements(&sql);
            let joined = statements.join(";\n");
            // Semicolons aside, which end statements or nothing.
            let without = |sql| -> Vec<Token<'_>> {
                tokens(sql).into_iter().filter(|token| *token != Token::Mark(b';')).collect()
            };
            prop_assert_eq!(without(&joined), without(&sql));
            prop_assert_eq!(split_statements(&joined), statements);
        }

        #[test]
        fn any_text_is_cut_without_a_fault(sql in "(?s).{0,200}") {
            for statement in split_statements(&sql) {
                prop_assert!(!tokens(statement).is_empty());
            }
        }
    }
}
