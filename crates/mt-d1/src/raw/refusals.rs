//! What is refused before a request is spent on it.

use mt_core::{Error, ErrorKind, Result, SqlToken};

use super::text::{Kind, Text};

/// Those that D1 answers, and that ask a question.
const QUESTIONS: [&str; 9] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Those whose value can be read.
const READABLE: [&str; 9] = [
    "case_sensitive_like",
    "data_version",
    "defer_foreign_keys",
    "foreign_keys",
    "ignore_check_constraints",
    "legacy_alter_table",
    "page_size",
    "recursive_triggers",
    "reverse_unordered_selects",
];
/// Those that D1 lets anybody set, and that then stay set for whoever comes next (measured).
const LEAKS: [&str; 5] = [
    "case_sensitive_like",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
];

/// Refuses what D1 refuses, and what it answers without doing it or does to others as well.
///
/// `alone`: no other statement goes with it in its request.
///
/// # Errors
/// `Unsupported`, with what to do instead.
pub(super) fn check(text: &Text<'_>, alone: bool) -> Result<()> {
    let verb = text.verb();
    let why = match verb.as_str() {
        "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => Some(
            "D1 has no transactions; send what belongs together with `data.batch()`".to_owned(),
        ),
        "ATTACH" | "DETACH" => Some("D1 reaches one database only".to_owned()),
        "VACUUM" => Some("D1 does it by itself".to_owned()),
        "CREATE" if makes_temporary(text) => {
            Some("D1 has no temporary objects; a common table expression may do".to_owned())
        }
        "PRAGMA" => pragma(text, alone),
        _ if text.kind != Kind::Read && names_reserved(text) => {
            Some("names that begin with `_cf_` are D1's own".to_owned())
        }
        _ => None,
    };
    match why {
        None => Ok(()),
        Some(why) => {
            Err(Error::new(ErrorKind::Unsupported, format!("`{verb}` is not sent: {why}")))
        }
    }
}

/// Why a pragma is not sent.
fn pragma(text: &Text<'_>, alone: bool) -> Option<String> {
    let rest = match text.pieces.get(1..).unwrap_or_default() {
        [_, dot, rest @ ..] if dot.is_mark(b'.') => rest,
        rest => rest,
    };
    let (Some(SqlToken::Word(name)), sets) =
        (rest.first().map(|piece| piece.token), rest.len() > 1)
    else {
        return Some("it names no pragma".to_owned());
    };
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    if QUESTIONS.contains(&name) || name == "optimize" || READABLE.contains(&name) && !sets {
        None
    } else if name == "defer_foreign_keys" {
        alone.then(|| {
            "it lasts as long as its request; send it with the statements it is for, with \
             `data.batch()`"
                .to_owned()
        })
    } else if name == "foreign_keys" {
        Some(
            "D1 answers that it was done and enforces foreign keys as before; in a batch, \
             `PRAGMA defer_foreign_keys = ON` puts the check off to the end"
                .to_owned(),
        )
    } else if LEAKS.contains(&name) {
        Some(format!("`{name}` would stay set for everybody who uses the database"))
    } else {
        Some(format!("D1 does not have `{name}`"))
    }
}

fn makes_temporary(text: &Text<'_>) -> bool {
    text.pieces.get(1).is_some_and(|piece| piece.is_word("TEMP") || piece.is_word("TEMPORARY"))
}

/// Whether a table of D1's own is named.
fn names_reserved(text: &Text<'_>) -> bool {
    text.pieces.iter().any(|piece| {
        let name = match piece.token {
            SqlToken::Word(word) => word,
            SqlToken::Quoted(quoted) if !quoted.starts_with('\'') => &quoted[1..],
            SqlToken::Quoted(_) | SqlToken::Parameter(_) | SqlToken::Mark(_) => return false,
        };
        name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("_cf_"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str, alone: bool) -> bool {
        match check(&Text::read(sql).unwrap(), alone) {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}");
                true
            }
        }
    }

    #[test]
    fn what_d1_cannot_do_is_refused() {
        for sql in [
            "BEGIN",
            "begin immediate",
            "/* a */ COMMIT",
            "END",
            "ROLLBACK TO a",
            "SAVEPOINT a",
            "RELEASE a",
            "ATTACH 'x' AS y",
            "VACUUM",
            "CREATE TEMP TABLE t (a)",
            "create temporary view t as select 1",
            "INSERT INTO _cf_KV VALUES (1)",
            "DROP TABLE \"_CF_METADATA\"",
            "PRAGMA foreign_keys=OFF",
            "PRAGMA main.foreign_keys(0)",
            "PRAGMA ignore_check_constraints = ON",
            "PRAGMA case_sensitive_like(1)",
            "PRAGMA reverse_unordered_selects=1",
            "PRAGMA legacy_alter_table=ON",
            "PRAGMA recursive_triggers=ON",
            "PRAGMA user_version",
            "PRAGMA journal_mode=wal",
            "PRAGMA \"foreign_keys\" = 0",
            "PRAGMA",
        ] {
            assert!(refused(sql, false), "{sql}");
        }
        assert!(refused("PRAGMA defer_foreign_keys = ON", true));
    }

    #[test]
    fn what_it_can_is_sent() {
        for sql in [
            "SELECT 1",
            "SELECT name FROM sqlite_master WHERE name NOT LIKE '_cf_%'",
            "CREATE TABLE temporary_things (\"begin\" TEXT)",
            "INSERT INTO t VALUES ('_cf_')",
            "PRAGMA table_info('users')",
            "PRAGMA main.foreign_key_list(logs)",
            "PRAGMA foreign_keys",
            "PRAGMA optimize",
            "PRAGMA defer_foreign_keys",
            "PRAGMA defer_foreign_keys = ON",
        ] {
            assert!(!refused(sql, false), "{sql}");
        }
    }
}
