//! What a tenant's handle lets through, told by tokens.
//!
//! Text that an application sends as SQL may hold several statements, and a word at its beginning
//! says nothing about the rest. So the text is cut into statements the way the engine cuts it,
//! past quotes and comments, and each is looked at.

mod split;
mod tokens;

use sea_orm::DbBackend;

use self::tokens::{Token, Tokens};
pub use self::{
    split::split_statements,
    tokens::{SqlTokens, Token as SqlToken},
};
use crate::{Error, ErrorKind, Stamp};

/// Refuses what no handle runs, in any statement of `sql`:
///
/// - `ATTACH`, `DETACH` and `VACUUM INTO`, which reach other files than the tenant's;
/// - `BEGIN`, `COMMIT`, `END`, `ROLLBACK`, `SAVEPOINT`, `RELEASE` and their like, because on a pool
///   they would open a transaction under whoever comes next;
/// - a `PRAGMA` (SQLite dialect) or `SET` (PostgreSQL) that changes a connection, and temporary
///   objects, for the same reason: a temporary table would hide the tenant's own;
/// - anything but reading that names the stamp's table: who changes it gives the database away.
///
/// # Errors
/// `Unsupported`, naming the statement and what to use.
pub(crate) fn check(sql: &str, backend: DbBackend) -> Result<(), Error> {
    if sql.as_bytes().contains(&0) {
        // Engines stop reading there, and not all drivers survive it.
        return Err(Error::new(ErrorKind::Unsupported, "a statement has no NUL character in it"));
    }
    if is_plainly_harmless(sql) && !contains(sql, Stamp::TABLE) && !contains(sql, PRAGMA_TABLE) {
        return Ok(());
    }
    Statements::new(sql, backend).try_for_each(|statement| statement.check(backend))
}

/// Whether every statement of `sql` only reads.
///
/// For engines that cannot enforce it themselves. Errs on the side of refusing.
pub fn only_reads(sql: &str, backend: DbBackend) -> bool {
    Statements::new(sql, backend).all(|statement| statement.only_reads(backend))
}

/// The word that `sql` begins with; none, where it is not one statement.
pub(crate) fn verb(sql: &str, backend: DbBackend) -> Option<&str> {
    let mut statements = Statements::new(sql, backend).filter(|statement| !statement.0.is_empty());
    let first = statements.next().filter(|_| statements.next().is_none())?;
    match first.0.first() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

/// Whether `name` is anywhere in `sql`.
fn contains(sql: &str, name: &str) -> bool {
    let parts = sql.as_bytes().windows(name.len());
    parts.into_iter().any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

/// What SeaORM builds: one statement that begins with one of these words. No semicolon means no
/// second statement, so there is nothing to cut.
fn is_plainly_harmless(sql: &str) -> bool {
    const VERBS: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];
    VERBS.iter().any(|verb| sql.starts_with(verb)) && !sql.as_bytes().contains(&b';')
}

/// Whether `sql` is what SeaORM builds to read: one that cannot write in SQLite. `false` says nothing.
pub(crate) fn is_select(sql: &str) -> bool {
    sql.starts_with("SELECT ") && !sql.as_bytes().contains(&b';')
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

/// What a pragma's name begins with where it is asked as a table.
const PRAGMA_TABLE: &str = "pragma_";

/// Those of them that change something all the same.
const WRITING_PRAGMAS: [&str; 2] = ["defer_foreign_keys", "optimize"];

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

#[derive(Debug, Default)]
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
                Token::Quoted(_) | Token::Parameter(_) | Token::Mark(_) => None,
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

    fn only_reads(&self, backend: DbBackend) -> bool {
        const WRITES: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "MERGE", "INTO"];
        match self.0.first() {
            None => true,
            Some(Token::Word(word)) => match word.to_ascii_uppercase().as_str() {
                "SELECT" | "VALUES" | "WITH" | "EXPLAIN" => {
                    !WRITES.iter().any(|word| self.has(word)) && !self.selects_from_writing_pragma()
                }
                "PRAGMA" => {
                    backend == DbBackend::Sqlite
                        && self.is_harmless_pragma()
                        && !WRITING_PRAGMAS.iter().any(|word| self.has(word))
                }
                _ => false,
            },
            Some(_) => false,
        }
    }

    /// `SELECT … FROM pragma_optimize`: a pragma in the form of a table.
    fn selects_from_writing_pragma(&self) -> bool {
        self.names().any(|name| {
            let pragma = name.split_at_checked(PRAGMA_TABLE.len());
            pragma.is_some_and(|(prefix, pragma)| {
                prefix.eq_ignore_ascii_case(PRAGMA_TABLE)
                    && WRITING_PRAGMAS.iter().any(|writing| pragma.eq_ignore_ascii_case(writing))
            })
        })
    }

    /// What may be a name: SQLite takes a string for one too.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            Token::Quoted(text) => text.get(1..text.len().saturating_sub(1)),
            Token::Parameter(_) | Token::Mark(_) => None,
        })
    }

    /// Whether the stamp's table is among its names.
    fn names_stamp(&self) -> bool {
        self.names().any(|name| name.eq_ignore_ascii_case(Stamp::TABLE))
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

    /// `CREATE TEMP …`, `CREATE … temp.name`, and PostgreSQL's `CREATE LOCAL TEMPORARY …`.
    fn makes_temporary(&self) -> bool {
        let is_temp = |token: &Token<'_>| match token {
            Token::Word(word) => {
                word.eq_ignore_ascii_case("temp") || word.eq_ignore_ascii_case("temporary")
            }
            Token::Quoted(text) => text
                .get(1..text.len().saturating_sub(1))
                .is_some_and(|name| name.eq_ignore_ascii_case("temp")),
            Token::Parameter(_) | Token::Mark(_) => false,
        };
        let by_keyword = self.words().skip(1).take(2).any(|word| is_temp(&Token::Word(word)));
        let in_schema = self
            .0
            .windows(2)
            .any(|pair| matches!(pair, [name, Token::Mark(b'.')] if is_temp(name)));
        by_keyword || in_schema
    }

    /// `ALTER ROLE …`, `CREATE USER MAPPING …`, `ALTER DATABASE …` and their like, and `ALTER DEFAULT
    /// PRIVILEGES`.
    fn is_of_roles(&self) -> bool {
        const OBJECTS: [&str; 5] = ["ROLE", "USER", "GROUP", "DATABASE", "DEFAULT"];
        let object = self.words().nth(1).unwrap_or_default();
        OBJECTS.iter().any(|one| object.eq_ignore_ascii_case(one))
    }

    fn check(&self, backend: DbBackend) -> Result<(), Error> {
        const CONNECTION: &str = "it changes the connection for whoever uses it next";
        const ROLES: &str =
            "roles, rights and databases are the provider's and migrations' to change";
        let verb = self.verb();
        let postgres = backend == DbBackend::Postgres;
        let advice = match verb.as_str() {
            "ATTACH" | "DETACH" => "a tenant's handle reaches the tenant's database only",
            "VACUUM" if self.has("INTO") => {
                "it writes a file outside the tenant's database; use the factory's backup"
            }
            "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "START"
            | "ABORT" | "PREPARE" => {
                "transactions are opened with `begin` or `transaction`, where the engine has them, and `batch`"
            }
            "PRAGMA" if !postgres && !self.is_harmless_pragma() => CONNECTION,
            "SET" if postgres && !self.has("LOCAL") && !self.has("CONSTRAINTS") => CONNECTION,
            "RESET" | "DISCARD" | "DEALLOCATE" | "EXECUTE" | "LISTEN" | "UNLISTEN" | "DECLARE"
            | "LOAD"
                if postgres =>
            {
                CONNECTION
            }
            "GRANT" | "REVOKE" | "REASSIGN" if postgres => ROLES,
            "CREATE" | "ALTER" | "DROP" if postgres && self.is_of_roles() => ROLES,
            "CREATE" if self.makes_temporary() => CONNECTION,
            // A view of it would write whoever reads it.
            _ if !postgres && self.selects_from_writing_pragma() => {
                "it changes the database where a query is expected; use the pragma itself"
            }
            _ if self.names_stamp() && !self.only_reads(backend) => {
                "the database's stamp says whose it is, and is not the application's to change"
            }
            _ => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("`{verb}` is not run on a tenant's handle in this form: {advice}"),
        ))
    }

    fn is_harmless_pragma(&self) -> bool {
        // PRAGMA [schema .] name [= value | (value)]
        let rest = self.0.get(1..).unwrap_or_default();
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
                    // PostgreSQL's triggers call a function and have no body.
                    let sqlite = self.tokens.backend != DbBackend::Postgres;
                    self.in_trigger |= sqlite && statement.is_trigger();
                    return Some(statement);
                }
                Some(token) => tokens.push(token),
            }
        }
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
            "SELECT $a('); ATTACH 'x' AS y; SELECT 1 --')",
            "SELECT :a::b(\"); ATTACH 'x' AS y; SELECT 1 --",
            "SELECT @a(/*); ATTACH 'x' AS y",
            "SELECT 1\0; ATTACH 'x' AS y",
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
            "CREATE TEMP TABLE t (a)",
            "CREATE TEMPORARY VIEW t AS SELECT 1",
            "CREATE TABLE temp.t (a)",
            "CREATE TABLE \"Temp\" . t (a)",
            "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END",
            "\0",
        ] {
            assert!(refused(sql), "{sql}");
        }
    }

    #[test]
    fn the_stamp_is_read_and_never_written() {
        for sql in [
            "DELETE FROM _mt_tenant",
            "DELETE FROM main.[_MT_TENANT]",
            "UPDATE \"_mt_tenant\" SET generation = 2",
            "INSERT INTO '_mt_tenant' VALUES (1)",
            "DROP TABLE `_mt_tenant`",
            "ALTER TABLE _mt_tenant RENAME TO x",
            "SELECT 1; DELETE FROM/**/_mt_tenant",
            "WITH a AS (SELECT 1) DELETE FROM _mt_tenant",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM _mt_tenant; END",
            "CREATE VIEW v AS SELECT * FROM _mt_tenant",
        ] {
            assert!(refused(sql), "{sql}");
        }
        for sql in [
            "SELECT * FROM _mt_tenant",
            "PRAGMA table_info(_mt_tenant)",
            "WITH a AS (SELECT * FROM _mt_tenant) SELECT * FROM a",
            "INSERT INTO logs VALUES ('about _mt_tenant')",
            "DELETE FROM _mt_tenants",
        ] {
            assert!(!refused(sql), "{sql}");
        }
    }

    #[test]
    fn a_pragma_that_writes_is_no_table() {
        for sql in [
            "SELECT * FROM pragma_optimize",
            "select * from PRAGMA_OPTIMIZE(-1)",
            "CREATE VIEW v AS SELECT * FROM \"pragma_optimize\"",
        ] {
            assert!(refused(sql), "{sql}");
        }
        assert!(!refused("SELECT * FROM pragma_table_info('t')"));
        assert!(!refused("PRAGMA optimize"));
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
            "CREATE TABLE temperature (temp int)",
            "SELECT $a, :b, @c, ?1, #1",
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
        assert!(!refused("SET LOCAL statement_timeout = 5"));
        for sql in [
            "SELECT E'a'\n'\\''; COMMIT --'",
            "SELECT $😀$ ' $😀$; COMMIT --'",
            "SELECT 1 AS a😀$$; COMMIT; --$$",
            "SELECT 1 AS a\u{a0}$$; COMMIT; --$$",
            "SELECT 1 -- x\r; COMMIT",
            "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f(); END",
            "SET search_path = x",
            "DISCARD ALL",
            "CREATE LOCAL TEMPORARY TABLE t (a int)",
        ] {
            assert!(refused(sql), "{sql}");
        }
    }

    #[test]
    fn what_only_reads_is_told_by_every_statement() {
        let reads = |sql| only_reads(sql, DbBackend::Sqlite);
        assert!(reads("SELECT 1"));
        assert!(reads("WITH a AS (SELECT 'INSERT') SELECT * FROM a"));
        assert!(reads("PRAGMA table_info(t); VALUES (1)"));
        assert!(reads("SELECT * FROM pragma_table_info('t')"));
        for sql in [
            "SELECT 1; DELETE FROM t",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "CREATE TABLE a (b)",
            "PRAGMA user_version = 1",
            "SELECT * INTO x FROM y",
            "PRAGMA optimize=0x10002",
            "SELECT * FROM pragma_optimize",
            "SELECT * FROM main.\"Pragma_Optimize\"(1)",
            "(WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x)",
        ] {
            assert!(!reads(sql), "{sql}");
        }
        assert!(!only_reads("EXPLAIN (ANALYZE) DELETE FROM t", DbBackend::Postgres));
        assert!(only_reads("EXPLAIN (ANALYZE) SELECT 1", DbBackend::Postgres));
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
