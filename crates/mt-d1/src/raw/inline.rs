//! The exact form of a statement that reads columns and nothing else, which is what SeaORM's finders
//! write: its own text, with an expression in the place of each column.
//!
//! It costs what the statement costs. The form for all others makes the rows before it reads them,
//! and D1 counts, and bills, those rows a second time (measured).
//!
//! A column is asked for several times. Of a table it is the same each time; a view may compute it
//! anew, so one that has a random value whose *type* is random too may come back as the wrong one of
//! its types.

use mt_core::SqlToken;

use super::{
    exact::cell,
    items::{self, identifier},
    text::{Kind, Piece, Text},
};

/// `sent`, with the items of its list so that they answer exactly; `written` is the same statement
/// before its parameters were replaced.
///
/// `None` where it has more to it than columns, and wherever it might mean something else.
pub(super) fn read(written: &Text<'_>, sent: &str) -> Option<String> {
    let (verb, rest) = written.pieces.split_first()?;
    if written.kind != Kind::Read || !verb.is_word("SELECT") {
        return None;
    }
    let items = items::of(written)?;
    let mut length = 0;
    let mut aliases = Vec::new();
    for item in &items {
        if !item.reads_column() {
            return None;
        }
        length += item.len() + 1;
        aliases.extend(item.alias()?);
    }
    // A word before the list, such as DISTINCT, makes the count wrong.
    let tail = rest.get(length - 1..)?;
    let from = tail.first().filter(|first| first.is_word("FROM"))?.span.start;
    let is_plain = has_one_select(tail)
        && is_repeatable(tail)
        && orders_by_columns(tail)
        && !names_any_of(tail, &aliases);
    if !is_plain {
        return None;
    }
    // Nothing before the tail was replaced: there is no parameter in it.
    let tail = sent.get(from..)?;
    let mut sql = "SELECT ".to_owned();
    for (at, item) in items.iter().enumerate() {
        // The engine would name the column by its text, which is long, and every answer has it.
        // A name that was given is not needed: nothing in the tail means it.
        sql.push_str(&cell(item.expression(written.sql)));
        sql.push_str(&format!(" AS {}", name(at)));
        sql.push(if at + 1 < items.len() { ',' } else { ' ' });
    }
    sql.push_str(tail);
    Some(sql)
}

/// What an item is called while it is on its way.
fn name(at: usize) -> String {
    format!("_{at}")
}

fn is_name_of_ours(name: &str) -> bool {
    name.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether rows and items are those of one `SELECT` of tables, without groups.
fn has_one_select(tail: &[Piece<'_>]) -> bool {
    const MORE: [&str; 8] =
        ["GROUP", "HAVING", "UNION", "INTERSECT", "EXCEPT", "WINDOW", "OVER", "VALUES"];
    let is_more =
        |piece: &Piece<'_>| piece.depth == 0 && MORE.iter().any(|word| piece.is_word(word));
    // A column of such a table would be computed each time that it is asked for.
    let computes = |pair: &[Piece<'_>]| {
        const SELECTS: [&str; 3] = ["SELECT", "VALUES", "WITH"];
        pair[0].is_mark(b'(') && SELECTS.iter().any(|word| pair[1].is_word(word))
    };
    let tables = tail.iter().position(|piece| piece.depth == 0 && piece.is_word("WHERE"));
    let tables = &tail[..tables.unwrap_or(tail.len())];
    !tail.iter().any(is_more) && !tables.windows(2).any(computes)
}

/// Whether nothing in the text is another thing each time.
fn is_repeatable(tail: &[Piece<'_>]) -> bool {
    !tail.iter().any(|piece| piece.is_word("random") || piece.is_word("randomblob"))
}

/// Whether each term of `ORDER BY` is a column: a number would be a place in the list of items, and
/// what stands there is not what is to be sorted.
fn orders_by_columns(tail: &[Piece<'_>]) -> bool {
    let order = tail.iter().position(|piece| piece.depth == 0 && piece.is_word("ORDER"));
    let Some(order) = order else { return true };
    let terms = &tail[order + 1..];
    let limit = terms.iter().position(|piece| piece.depth == 0 && piece.is_word("LIMIT"));
    let terms = &terms[..limit.unwrap_or(terms.len())];
    let Some((by, terms)) = terms.split_first() else { return false };
    by.is_word("BY") && terms.split(|piece| piece.is_mark(b',')).all(is_column_in_order)
}

/// `a`, `a.b` or `a.b.c`, and in which order.
fn is_column_in_order(term: &[Piece<'_>]) -> bool {
    let mut path = 0;
    while term.get(path + 1).is_some_and(|piece| piece.is_mark(b'.')) {
        path += 2;
    }
    let (Some(path), Some(rest)) = (term.get(..=path), term.get(path + 1..)) else { return false };
    let rest = match rest {
        [collate, collation, rest @ ..] if collate.is_word("COLLATE") => {
            if identifier(&collation.token).is_none() {
                return false;
            }
            rest
        }
        rest => rest,
    };
    let words = ["ASC", "DESC", "NULLS", "FIRST", "LAST"];
    path.iter().step_by(2).all(|piece| identifier(&piece.token).is_some())
        && rest.iter().all(|piece| words.iter().any(|word| piece.is_word(word)))
}

/// Whether something could mean one of `aliases`, or a name of ours.
fn names_any_of(tail: &[Piece<'_>], aliases: &[String]) -> bool {
    let means = |at: usize| {
        let is_of_table = at > 0 && tail[at - 1].is_mark(b'.');
        let name = match tail[at].token {
            SqlToken::Word(_) | SqlToken::Quoted(_) if !is_of_table => identifier(&tail[at].token),
            SqlToken::Word(_)
            | SqlToken::Quoted(_)
            | SqlToken::Parameter(_)
            | SqlToken::Mark(_) => None,
        };
        name.is_some_and(|name| {
            is_name_of_ours(&name) || aliases.iter().any(|alias| alias.eq_ignore_ascii_case(&name))
        })
    };
    (0..tail.len()).any(means)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(sql: &str) -> Option<String> {
        let sent = read(&Text::of_one(sql), sql)?;
        let from = sent.find(" FROM ").unwrap();
        Some(sent[from + 1..].to_owned())
    }

    #[test]
    fn what_finders_write_keeps_its_text() {
        for sql in [
            r#"SELECT "u"."id", "u"."name" FROM "u""#,
            r#"SELECT "u"."id" FROM "u" WHERE "u"."id" IN (?, ?) AND "u"."n" > ? LIMIT ? OFFSET ?"#,
            r#"SELECT "u"."id" FROM "u" ORDER BY "u"."name" ASC, "u"."id" DESC NULLS LAST LIMIT 5"#,
            r#"SELECT "u"."id" AS "A_id", "l"."id" AS "B_id" FROM "u" LEFT JOIN "l" ON "u"."id" = "l"."u_id" ORDER BY "u"."id" ASC"#,
            "select id, main.u.name from main.u order by name collate nocase, id",
            r#"SELECT "u"."id" FROM "u" WHERE "u"."id" IN (SELECT "u_id" FROM "l" GROUP BY 1 ORDER BY random)"#,
        ] {
            let is_random = sql.contains("random");
            let expected = sql[sql.find(" FROM ").or(sql.find(" from ")).unwrap() + 1..].to_owned();
            let found = read(&Text::of_one(sql), sql).filter(|sent| sent.ends_with(&expected));
            assert_eq!(found.is_some(), !is_random, "{sql}");
        }
        let short = read(&Text::of_one("SELECT a AS b, c FROM t"), "SELECT a AS b, c FROM t");
        let expected = format!("SELECT {} AS _0,{} AS _1 FROM t", cell("a"), cell("c"));
        assert_eq!(short.unwrap(), expected);
    }

    #[test]
    fn all_others_keep_their_rows() {
        for sql in [
            "SELECT * FROM t",
            "SELECT t.* FROM t",
            "SELECT a + 1 FROM t",
            "SELECT a b FROM t",
            "SELECT a AS 'b' FROM t",
            "SELECT count(*) FROM t",
            "SELECT (a) FROM t",
            "SELECT 'a' FROM t",
            "SELECT ? FROM t",
            "SELECT a",
            "SELECT a WHERE b IS DISTINCT FROM c",
            "SELECT DISTINCT a FROM t",
            "SELECT ALL a FROM t",
            "SELECT DISTINCT a, b FROM t",
            "WITH t AS (SELECT 1 AS a) SELECT a FROM t",
            "VALUES (1)",
            "SELECT a FROM t GROUP BY a",
            "SELECT a FROM t HAVING a",
            "SELECT a FROM t UNION ALL SELECT b FROM t",
            "SELECT a FROM t EXCEPT SELECT b FROM t",
            "SELECT a FROM t WINDOW w AS (ORDER BY b)",
            "SELECT a FROM (SELECT 1 AS a)",
            "SELECT a FROM t JOIN (VALUES (1)) ON 1",
            "SELECT a FROM t ORDER BY 1",
            "SELECT a FROM t ORDER BY +1",
            "SELECT a FROM t ORDER BY (1), a",
            "SELECT a FROM t ORDER BY a, 1 DESC",
            "SELECT a FROM t ORDER BY likely(1)",
            "SELECT a FROM t ORDER BY 1 COLLATE nocase",
            "SELECT a FROM t ORDER BY ?",
            "SELECT a FROM t ORDER BY max(a)",
            "SELECT a FROM t ORDER BY a + 1",
            "SELECT a FROM t ORDER BY 'a'",
            "SELECT a FROM t ORDER BY",
            "SELECT a FROM t ORDER BY ,",
            "SELECT a FROM t ORDER",
            "SELECT a AS b FROM t ORDER BY b",
            "SELECT a AS a FROM t ORDER BY \"A\"",
            "SELECT a AS b FROM t WHERE B = 1",
            "SELECT a AS b FROM t WHERE a IN (SELECT [b] FROM u)",
            "SELECT a FROM t ORDER BY _0",
            "SELECT a FROM t WHERE \"_1\" = 2",
            "SELECT a FROM t WHERE a > random()",
        ] {
            assert_eq!(tail(sql), None, "{sql}");
        }
    }
}
