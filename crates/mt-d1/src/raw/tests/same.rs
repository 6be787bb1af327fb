//! Whatever is run, the answer is SQLite's own, bound as sqlx binds it.

use mt_remote::{Answer, Column, Protocol as _, Row, Value};
use proptest::prelude::*;
use rusqlite::{Connection, types::ValueRef};

use super::{super::D1Protocol, command, fake, protocol};

pub(super) const TABLES: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, s TEXT, b BLOB, n NUMERIC, x);
    INSERT INTO t VALUES
        (1, 9223372036854775807, 1.0, 'a', x'00ff', 1, NULL),
        (2, -9007199254740993, 9e999, '', x'', 1.5, 'x'),
        (3, 0, -0.0, 'i7', x'69', '5', 9007199254740993),
        (4, NULL, 0.1, 't', NULL, 1e300, 2.0),
        (5, 5, -9e999, '5', x'35', 5, '5');
    CREATE TABLE u (id INTEGER PRIMARY KEY, t_id REFERENCES t, note TEXT UNIQUE);
    INSERT INTO u VALUES (10, 1, 'one'), (20, 2, 'two'), (30, 2, 'more');
    CREATE TABLE log (what);
    CREATE TRIGGER logs AFTER INSERT ON u BEGIN
        INSERT INTO log VALUES (new.note), (new.id);
    END;
    CREATE VIEW v AS SELECT id AS vid, s, r FROM t";

/// What SQLite answers by itself.
fn natively(connection: &Connection, sql: &str, values: &[Value]) -> Result<Answer, String> {
    let run = || -> rusqlite::Result<Answer> {
        let mut statement = connection.prepare(sql)?;
        for (at, value) in (1..=statement.parameter_count()).zip(values) {
            match value {
                Value::Null => statement.raw_bind_parameter(at, rusqlite::types::Null)?,
                Value::Integer(value) => statement.raw_bind_parameter(at, value)?,
                Value::Real(value) => statement.raw_bind_parameter(at, value)?,
                Value::Text(value) => statement.raw_bind_parameter(at, value)?,
                Value::Blob(value) => statement.raw_bind_parameter(at, value)?,
            }
        }
        let names = statement.column_names();
        let column = |name: &str| Column { name: name.to_owned(), declared: None };
        let columns: Vec<_> = names.into_iter().map(column).collect();
        let mut rows = Vec::new();
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            let row = (0..columns.len()).map(|at| row.get_ref(at).map(value));
            rows.push(row.collect::<Result<Row, _>>()?);
        }
        drop(found);
        let writes = !statement.readonly() && !sql.starts_with("CREATE");
        let rows_affected = if writes { connection.changes() } else { 0 };
        let inserts = sql.starts_with("INSERT") || sql.starts_with("REPLACE");
        let rowid = (inserts && rows_affected > 0).then(|| connection.last_insert_rowid());
        Ok(Answer { columns, rows, rows_affected, last_insert_rowid: rowid })
    };
    run().map_err(|error| error.to_string())
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
        ValueRef::Blob(value) => Value::Blob(value.to_vec()),
    }
}

/// With the bits of numbers, among which -0.0 is not 0.0.
fn shown(answer: &Answer) -> String {
    let bits = |value: &Value| match value {
        Value::Real(value) => format!("real {value} {:x}", value.to_bits()),
        other => format!("{other:?}"),
    };
    let rows: Vec<Vec<String>> =
        answer.rows.iter().map(|row| row.iter().map(bits).collect()).collect();
    let names: Vec<_> = answer.columns.iter().map(|column| &column.name).collect();
    let (affected, rowid) = (answer.rows_affected, answer.last_insert_rowid);
    format!("{names:?} {rows:?} {affected} {rowid:?}")
}

/// Runs statements on both sides; each answer and each table must be the same.
async fn same(statements: &[(&str, Vec<Value>)]) {
    let (fake, protocol) = protocol();
    let mut native = fake::connection();
    for connection in [&*fake.connection(), &native] {
        connection.execute_batch(TABLES).unwrap();
    }
    let tables = ["SELECT * FROM t", "SELECT * FROM u", "SELECT * FROM log"];
    let tables = tables.map(|sql| (sql, Vec::new()));
    for (sql, values) in statements.iter().chain(&tables) {
        compare(&protocol, &mut native, sql, values).await;
    }
}

/// Runs a statement on both sides; what only reads twice: to learn, and knowing.
pub(super) async fn compare(
    protocol: &D1Protocol,
    native: &mut Connection,
    sql: &str,
    values: &[Value],
) {
    let reads = mt_core::only_reads(sql, sea_orm::DbBackend::Sqlite);
    for _ in 0..if reads { 2 } else { 1 } {
        let expected = natively(native, sql, values);
        match (protocol.execute(command(sql, values.to_vec())).await, expected) {
            (Ok(seen), Ok(expected)) => {
                let mut expected = expected;
                if seen.columns.is_empty() && expected.rows.is_empty() {
                    expected.columns.clear();
                }
                assert_eq!(shown(&seen), shown(&expected), "{sql} {values:?}");
            }
            (Err(_), Err(_)) => {}
            (seen, expected) => panic!("{sql} {values:?}: {seen:?}, not {expected:?}"),
        }
    }
}

fn samples() -> Vec<Value> {
    let mut values = vec![Value::Null];
    let integers = [0, 1, -1, 5, i64::MAX, i64::MIN, 9_007_199_254_740_993];
    values.extend(integers.map(Value::Integer));
    let reals = [0.0, -0.0, 1.0, 5.0, 0.1, 1.5, 1e300, f64::MAX, f64::INFINITY, -f64::INFINITY];
    values.extend(reals.map(Value::Real));
    values.extend(
        ["", "5", "5.0", "a", "t\0i", "i7", "🦀'\"\\\n", "1e3"].map(|s| Value::Text(s.into())),
    );
    values.extend([vec![], vec![0x35], vec![0, 255]].map(Value::Blob));
    values
}

#[tokio::test]
async fn a_bound_value_is_what_it_would_be_on_a_file() {
    for value in samples() {
        let mut statements = Vec::new();
        for sql in [
            "SELECT typeof(?), ?, hex(?), quote(?), hex(? || ''), -?, ? + 0, 7 / ?, json_quote(typeof(?))",
            "SELECT ? COLLATE nocase = 'A', ? IS NULL, ? = '5', ? = 5, ? < 'b', ? IN (5, '5', 'a')",
            "SELECT CASE ? WHEN 5 THEN 'n' WHEN '5' THEN 't' END, hex(CAST(? AS TEXT)), CAST(? AS INTEGER)",
            "SELECT max(?, 3), coalesce(?, 'none'), abs(?), length(?), iif(?, 1, 2), NOT ?",
            "SELECT id FROM t WHERE i = ?",
            "SELECT id FROM t WHERE r = ?",
            "SELECT id FROM t WHERE s = ?",
            "SELECT id FROM t WHERE b = ?",
            "SELECT id FROM t WHERE n = ?",
            "SELECT id FROM t WHERE x = ?",
            "SELECT id FROM t WHERE i < ?",
            "SELECT id FROM t WHERE s < ?",
            "SELECT id FROM t WHERE b < ?",
            "SELECT id FROM t WHERE x < ?",
            "SELECT id FROM t WHERE ? = s",
            "SELECT id FROM t WHERE s IN (?, 'a')",
            "SELECT id FROM t WHERE i IN (?)",
            "SELECT id FROM t WHERE x IN (?, ?)",
            "SELECT id FROM t WHERE x BETWEEN ? AND 'y'",
            "SELECT id FROM t WHERE s LIKE ?",
            "SELECT id FROM t WHERE x IS ?",
            "SELECT id FROM t WHERE id = ?",
            "SELECT ? = x FROM t",
            "SELECT id, ? AS p FROM t ORDER BY ?, id DESC",
            "SELECT count(*) FROM t GROUP BY ?",
            "SELECT id FROM t ORDER BY id LIMIT ?",
            "SELECT id FROM t LIMIT 2 OFFSET ?",
            "SELECT ? UNION SELECT 5 UNION SELECT '5' ORDER BY 1",
            "SELECT * FROM (SELECT ? AS p) WHERE p = '5'",
            "VALUES (?, 1), (2, ?)",
            "SELECT count(*) OVER (ORDER BY ?) FROM t",
            "SELECT length(group_concat(s, ?)) FROM t",
            "INSERT INTO t (i, r, s, b, n, x) VALUES (?, ?, ?, ?, ?, ?)",
            "INSERT INTO t (x) VALUES (?) RETURNING x, typeof(x), x AS \"y\", id + 0, s IS ?",
            "UPDATE t SET x = ? WHERE id < 3",
            "UPDATE t SET s = ? || s, n = ? RETURNING id, s, n, r",
            "DELETE FROM t WHERE x = ? RETURNING id, i, r, s, b, n, x",
            "INSERT OR IGNORE INTO u (note) VALUES (?), ('one') RETURNING id, note",
        ] {
            statements.push((sql, vec![value.clone(); 12]));
        }
        same(&statements).await;
    }
}

/// How a statement is sent is remembered, and depends on its values.
#[tokio::test]
async fn values_of_all_kinds_follow_each_other() {
    let (fake, protocol) = protocol();
    let mut native = fake::connection();
    for connection in [&*fake.connection(), &native] {
        connection.execute_batch(TABLES).unwrap();
    }
    for sql in [
        "SELECT typeof(?2), hex(?1), ?2, ?1, ?2 FROM t WHERE id = 1",
        "SELECT \"t\".\"id\" FROM \"t\" WHERE \"t\".\"x\" = ? OR \"t\".\"s\" = ? ORDER BY \"t\".\"id\"",
        "UPDATE t SET x = ?, n = ? WHERE id = 1 RETURNING x, n, typeof(x) AS kind",
    ] {
        for first in samples() {
            for second in samples() {
                compare(&protocol, &mut native, sql, &[first.clone(), second]).await;
            }
        }
        // Fewer than there are parameters, and more.
        for count in [0, 1, 3] {
            let values = vec![Value::Integer(7); count];
            let sent = protocol.execute(command(sql, values)).await;
            assert_eq!(sent.is_ok(), count == 3, "{sql}");
        }
    }
}

#[tokio::test]
async fn rows_are_what_they_would_be_on_a_file() {
    let plain: Vec<_> = [
        "SELECT * FROM t",
        "SELECT t.*, u.* FROM t LEFT JOIN u ON u.t_id = t.id ORDER BY t.id DESC, u.id",
        "SELECT id, id, 1 AS id, \"t\".\"id\", [t].[id] FROM t",
        "SELECT \"t\".\"i\", \"t\".\"r\", \"t\".\"x\" FROM \"t\" ORDER BY \"t\".\"x\"",
        "SELECT DISTINCT typeof(x) FROM t ORDER BY 1",
        "SELECT id FROM t ORDER BY s DESC, id LIMIT 3 OFFSET 1",
        "SELECT i FROM t UNION ALL SELECT r FROM t UNION ALL SELECT s FROM t",
        "SELECT r FROM t UNION ALL SELECT 1 UNION ALL SELECT 9007199254740993",
        "SELECT r AS a FROM t UNION ALL SELECT 1 UNION ALL SELECT '1.0'",
        "SELECT s AS a FROM t UNION ALL SELECT 1 UNION ALL SELECT 1.0",
        "SELECT i AS a FROM t UNION SELECT 1.0 UNION SELECT '5' ORDER BY 1",
        "SELECT n AS a, x AS b FROM t UNION ALL SELECT '5', 1.0 UNION ALL SELECT 1.0, 1",
        "SELECT id FROM t EXCEPT SELECT 2",
        "SELECT i FROM t UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 EXCEPT SELECT 2 ORDER BY i DESC",
        "SELECT r, s FROM t UNION ALL SELECT 1, 'A' UNION ALL SELECT i, s FROM t ORDER BY s COLLATE nocase, r",
        "SELECT i, s FROM t UNION SELECT 1, 'A' UNION ALL SELECT i, s FROM t ORDER BY s COLLATE nocase, i",
        "WITH a AS (SELECT r, id FROM t) SELECT r AS z, id FROM a UNION ALL SELECT id, 5 FROM a ORDER BY z, id LIMIT 7",
        "WITH a AS (SELECT r AS z FROM t) SELECT z FROM a UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 ORDER BY z",
        "SELECT r FROM t UNION ALL VALUES (1), (2), (9007199254740993)",
        "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5.0",
        "VALUES (1, 'a'), (2.0, x'00'), (NULL, 9e999)",
        "WITH a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 5) SELECT n, n * 1.0 FROM a",
        "WITH RECURSIVE a AS (SELECT id FROM t ORDER BY id DESC) SELECT a.id AS x, 1e3 AS y FROM a",
        "SELECT max(i), min(r), sum(i / 2), total(i / 2), avg(id), count(*) FROM t",
        "SELECT x, count(*), group_concat(id) FROM t GROUP BY x HAVING count(*) > 0 ORDER BY 3",
        "SELECT row_number() OVER (ORDER BY id DESC), sum(id) OVER w FROM t WINDOW w AS (ORDER BY id)",
        "SELECT (SELECT note FROM u WHERE t_id = t.id ORDER BY id), EXISTS (SELECT 1), id IN (1, 2) FROM t",
        "SELECT * FROM v WHERE vid > 1 ORDER BY r -- the end",
        "SELECT * FROM v /* the end */ ;",
        "SELECT vid, v.r, (v.s) FROM v",
        "SELECT rowid, oid, t._rowid_, \"t\".\"rowid\" FROM t",
        "SELECT ID, t.I, (id), likely(id), id COLLATE nocase, +id, CAST(id AS TEXT) FROM t",
        "SELECT 'it''s', \"s\", 1.50, 0x10, -5, true, NULL, current_date > '2000' FROM t",
        "SELECT 1 a, 2 'b', 3 \"c\", count(*) n FROM t",
        "SELECT 1 /* a */, 2 -- b\n, 3",
        "SELECT a IS DISTINCT FROM b, CASE a WHEN 1 THEN 2 END FROM (SELECT 1 AS a, 2.0 AS b)",
        "SELECT json_array(1.0, 1), json_object('a', 1), json('[1]') -> 0, '{\"a\":1.0}' ->> 'a'",
        "SELECT id FROM t WHERE 0",
        "SELECT NULL WHERE 0",
        "SELECT zeroblob(3), x'', CAST(x'00' AS TEXT), char(0, 65)",
        "SELECT 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e21, 1e20, 123456789012345680000.0, 1e-7",
        "SELECT a.id AS \"a b\", b.id AS \"c\"\"d\" FROM t a, t b WHERE a.id = b.id ORDER BY 1",
        "PRAGMA table_info(t)",
        "PRAGMA foreign_key_list(u)",
        "PRAGMA foreign_keys",
        "SELECT * FROM pragma_table_info('t')",
        "SELECT nothing FROM t",
        "SELECT 1 AS a FROM",
        "SELECT 1 AS a)",
        "SELECT 'open",
        "SELECT abs(-9223372036854775807 - 1)",
        "INSERT INTO u (note) VALUES ('x'), ('y')",
        "INSERT INTO u VALUES (77, 3, 'z') ON CONFLICT DO NOTHING",
        "INSERT INTO u VALUES (77, 3, 'z') ON CONFLICT DO NOTHING",
        "INSERT INTO u VALUES (77, 1, 'w') ON CONFLICT (id) DO UPDATE SET note = excluded.note RETURNING id, t_id, note",
        "REPLACE INTO u VALUES (77, 1, 'v') RETURNING u.id AS uid, note",
        "UPDATE u SET note = note || '!' WHERE id > 10",
        "WITH a AS (SELECT 20 AS id) DELETE FROM u WHERE id IN (SELECT id FROM a) RETURNING id, note, t_id",
        "UPDATE t SET x = 1.0 RETURNING x, r, \"i\", t.n, count(*)",
        "UPDATE t SET x = 1.0 RETURNING x, r, \"i\", t.n, i IS NULL AS \"none\", length(s) l, (id) \"no\"",
        "SELECT count(*) n, (id) [no], sum(id) OVER (ORDER BY id) s, (s) ISNULL, (s) NOTNULL FROM t GROUP BY id",
        "DELETE FROM u",
    ]
    .into_iter()
    .map(|sql| (sql, Vec::new()))
    .collect();
    same(&plain).await;
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("NaN is NULL", |v| !v.is_nan())
            .prop_map(Value::Real),
        (-100_000_000_i64..100_000_000, 0_i32..6)
            .prop_map(|(n, e)| Value::Real(f64::from(i32::try_from(n).unwrap()) / 10_f64.powi(e))),
        "(?s).{0,20}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
    ]
}

proptest! {
    #[test]
    fn any_value_comes_back(values in proptest::collection::vec(any_value(), 1..150)) {
        let (_, protocol) = protocol();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rows: Vec<_> = (1..=values.len()).map(|n| format!("(?{n}, ?1)")).collect();
        let sql = format!("VALUES {}", rows.join(", "));
        let answer = runtime.block_on(super::run(&protocol, &sql, values.clone()));
        let first = values[0].clone();
        let rows: Vec<_> = values.into_iter().map(|value| vec![value, first.clone()]).collect();
        let expected = Answer { rows, ..answer.clone() };
        prop_assert_eq!(shown(&answer), shown(&expected));
    }
}
