//! Statements that read columns are asked in a form of their own; they answer what they did.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use mt_remote::{Fault, Protocol as _, Value};

use super::{
    command,
    engine::Site,
    fake, protocol, run,
    same::{TABLES, compare},
};
use crate::{
    api::Target,
    raw::{D1Protocol, Effect, RawAnswer, RawStatement, Shapes, Wire},
};

/// Views whose columns have an affinity that their values have not, and names that are there twice.
/// (The column that is computed is never whole: SQLite sorts that as an integer, and answers it.)
const MORE: &str = "
    CREATE VIEW mixed AS SELECT s AS a, id FROM t UNION ALL SELECT r, -id FROM t
        UNION ALL SELECT i, id + 100 FROM t UNION ALL SELECT b, id + 200 FROM t;
    CREATE VIEW computed AS SELECT id, r * 2 AS a, s || 'x' AS b, (SELECT max(r) FROM t) AS c FROM t;
    CREATE TABLE w (id INTEGER PRIMARY KEY, s TEXT COLLATE nocase, g REAL AS (id + 0.25), \"a b\" ANY);
    INSERT INTO w (id, s, \"a b\") VALUES (1, 'B', -0.0), (2, 'a', 9e999), (3, 'b', 'r3.0'), (6, NULL, x'7433');";

fn setup(connection: &rusqlite::Connection) {
    connection.execute_batch(TABLES).unwrap();
    connection.execute_batch(MORE).unwrap();
}

/// Lists of columns with what they are of; `"id"` of the first is unique.
const SOURCES: [(&str, &str); 12] = [
    (r#""t"."id", "t"."i", "t"."r", "t"."s", "t"."b", "t"."n", "t"."x""#, r#""t""#),
    ("id, i, r, s, b, n, x", "t"),
    (r#""t"."x", "t"."id", "t"."x", "t"."r""#, r#""t" AS "t""#),
    ("[t].[b], `t`.`x`, main.t.n, t . /* a */ r -- b\n, t.ID", "main.t"),
    (
        r#""t"."id" AS "A_id", "t"."x" AS "A_x", "u"."id" AS "B_id", "u"."note" AS "B_note""#,
        r#""t" LEFT JOIN "u" ON "t"."id" = "u"."t_id""#,
    ),
    (
        r#""t"."id", "u"."id", "u"."t_id", "t"."s""#,
        r#""t" INNER JOIN "u" ON "u"."t_id" = "t"."id""#,
    ),
    ("t.id, t2.id, t2.r, t.x", "t, t AS t2"),
    ("t.id, w.id, w.s, g, \"a b\", i", "t CROSS JOIN w"),
    ("id, t.s, w.s, r, g", "t LEFT JOIN w USING (id)"),
    ("t.id, \"t\".\"a\", \"t\".\"a\" AS \"again\"", "mixed AS t"),
    ("t.id, t.a, t.b, t.c", "computed t"),
    ("\"t\".\"id\", rowid, t.g, \"t\".\"a b\", s", "w AS t INDEXED BY w_s"),
];

/// What follows a source. Of rows that are equal to `ORDER BY`, SQLite chooses the order.
const REST: [(&str, &[i64]); 12] = [
    ("ORDER BY t.id", &[]),
    ("ORDER BY t.id DESC LIMIT ?", &[3]),
    ("WHERE t.id > ? ORDER BY t.id LIMIT ? OFFSET ?", &[1, 2, 1]),
    ("WHERE t.id = ? LIMIT ?", &[2, 1]),
    ("WHERE t.id IN (?, ?, ?) ORDER BY \"t\".\"id\" ASC NULLS FIRST LIMIT -1 OFFSET 1", &[1, 2, 3]),
    ("WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id ORDER BY 1) ORDER BY t.id, t.id DESC", &[]),
    ("WHERE 0", &[]),
    ("WHERE NULL ORDER BY t.id COLLATE nocase DESC", &[]),
    // These keep the other form, or mean something of the list.
    ("ORDER BY 1", &[]),
    ("ORDER BY 2 DESC, 1 LIMIT ?", &[4]),
    ("GROUP BY t.id ORDER BY count(*), t.id", &[]),
    ("ORDER BY id DESC LIMIT ?", &[5]),
];

/// Other statements, and whether each keeps its own text.
const OTHERS: [(&str, bool); 24] = [
    (r#"SELECT "t"."s" FROM "t" ORDER BY "t"."s", "t"."id""#, true),
    (r#"SELECT "t"."x" FROM "t" ORDER BY "t"."x" DESC NULLS LAST, "t"."id""#, true),
    (r#"SELECT "t"."r" FROM "t" ORDER BY "t"."r", "t"."id""#, true),
    (r#"SELECT "t"."i" AS "a" FROM "t" ORDER BY "t"."i" COLLATE binary, "t"."id" DESC"#, true),
    ("SELECT w.s, w.id FROM w ORDER BY w.s, w.id", true),
    ("SELECT w.s, w.id FROM w ORDER BY s COLLATE binary, id", true),
    ("SELECT w.s AS a FROM w WHERE w.s >= 'B' ORDER BY w.id", true),
    ("SELECT w.g AS s, w.s AS g FROM w ORDER BY w.s, w.id", true),
    // By the text of the number, this would be another order.
    ("SELECT i AS a FROM t WHERE id < 4 ORDER BY i", true),
    ("SELECT t.i AS i FROM t WHERE id < 4 ORDER BY i", false),
    // The name means the column that is called so here, and another one of the table.
    ("SELECT w.g AS s, w.id AS g FROM w ORDER BY s", false),
    ("SELECT w.g AS s FROM w WHERE s = 'b' ORDER BY w.id", false),
    (
        "SELECT t.id AS note FROM t WHERE id IN (SELECT t_id FROM u WHERE note > 1) ORDER BY id",
        false,
    ),
    ("SELECT t.id AS absent FROM t WHERE absent = 2", false),
    ("SELECT t.id FROM t ORDER BY +1", false),
    ("SELECT t.x FROM t ORDER BY (1), t.id", false),
    ("SELECT t.i FROM t WHERE t.i > 0 UNION ALL SELECT t.r FROM t ORDER BY 1", false),
    ("SELECT DISTINCT s FROM w ORDER BY s", false),
    ("SELECT s FROM w GROUP BY s", false),
    ("SELECT a FROM (SELECT r AS a, id FROM t) ORDER BY id", false),
    ("WITH c AS (SELECT r AS a, id FROM t) SELECT a FROM c ORDER BY id", false),
    ("SELECT id FROM t WHERE id IN (SELECT t_id FROM u UNION SELECT 4) ORDER BY id", true),
    (
        "SELECT \"t\".\"id\", \"u\".\"note\" FROM t, u WHERE note LIKE 'o%' ORDER BY t.id DESC, u.id",
        true,
    ),
    ("SELECT value, key FROM json_each('[1, 2.0, \"x\", null, 9007199254740993, true]')", true),
];

/// Statements that are refused, in the same words whichever form they are asked in.
const REFUSED: [&str; 5] = [
    "SELECT id FROM t, u",
    "SELECT t.id FROM t, u ORDER BY id",
    "SELECT t.nothing FROM t",
    "SELECT t.id FROM t ORDER BY u.id",
    "SELECT t.id FROM t LIMIT t.id",
];

async fn compare_all(protocol: &D1Protocol, native: &mut rusqlite::Connection) {
    for (columns, source) in SOURCES {
        for (rest, values) in REST {
            let values: Vec<_> = values.iter().copied().map(Value::Integer).collect();
            let sql = format!("SELECT {columns} FROM {source} {rest}");
            compare(protocol, native, &sql, &values).await;
        }
    }
    for (sql, _) in OTHERS {
        compare(protocol, native, sql, &[]).await;
    }
    for sql in REFUSED {
        compare(protocol, native, sql, &[]).await;
    }
}

#[tokio::test]
async fn columns_are_what_they_would_be_on_a_file() {
    let (fake, protocol) = protocol();
    let mut native = fake::connection();
    for connection in [&*fake.connection(), &native] {
        setup(connection);
        connection.execute_batch("CREATE INDEX w_s ON w (s)").unwrap();
    }
    compare_all(&protocol, &mut native).await;
    // A name in quotes that is no column's is a string to SQLite, in a list as well as after it.
    for sql in [
        r#"SELECT "id", "no" FROM t ORDER BY "no", "id" DESC"#,
        r#"SELECT "no" AS "name" FROM t WHERE "yes" = 'yes' LIMIT 2"#,
        r#"SELECT "no" AS "no" FROM t WHERE "no" = 'no' LIMIT 1"#,
        r#"SELECT "_0" AS "_1" FROM t ORDER BY "_1", "_0", "id""#,
    ] {
        compare(&protocol, &mut native, sql, &[]).await;
    }
}

#[tokio::test]
async fn columns_are_what_they_would_be_on_a_file_from_workerd() {
    let site = Site::start().await;
    let protocol = site.protocol("mt_a").await;
    let mut native = fake::connection();
    setup(&native);
    native.execute_batch("CREATE INDEX w_s ON w (s)").unwrap();
    let script = format!("{TABLES}; {MORE} CREATE INDEX w_s ON w (s)");
    let script = mt_core::split_statements(&script).into_iter().map(|sql| command(sql, vec![]));
    protocol.script(script.collect()).await.unwrap();
    compare_all(&protocol, &mut native).await;
}

#[tokio::test]
async fn only_what_reads_columns_alone_keeps_its_text() {
    let (fake, protocol) = protocol();
    setup(&fake.connection());
    for (sql, keeps) in OTHERS {
        // The second time, all columns are known.
        run(&protocol, sql, vec![]).await;
        fake.take();
        run(&protocol, sql, vec![]).await;
        let sent = fake.take();
        let sent = &sent[0].0[0].sql;
        let from = &sql[sql.find(" FROM ").unwrap()..];
        assert_eq!(sent.starts_with("SELECT CASE") && sent.ends_with(from), keeps, "{sent}");
        assert_eq!(sent.starts_with("WITH _mt_rows"), !keeps, "{sent}");
    }
}

/// A view may be random, and a value of one type or none is still one of those.
#[tokio::test]
async fn random_values_of_views_are_of_their_type() {
    let (fake, protocol) = protocol();
    let view =
        "CREATE VIEW v AS WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        SELECT nullif(abs(random() % 3), 0) AS i, iif(random() > 0, zeroblob(1), NULL) AS b,
            iif(random() > 0, 'a', NULL) AS s, iif(random() > 0, 0.5, NULL) AS r FROM n";
    fake.connection().execute_batch(view).unwrap();
    let sql = r#"SELECT "v"."i", "v"."b", "v"."s", "v"."r" FROM "v""#;
    let answer = run(&protocol, sql, vec![]).await;
    assert_eq!(answer.rows.len(), 200);
    for row in answer.rows {
        assert!(matches!(row[0], Value::Null | Value::Integer(1 | 2)), "{row:?}");
        assert!(row[1] == Value::Null || row[1] == Value::Blob(vec![0]), "{row:?}");
        assert!(row[2] == Value::Null || row[2] == Value::Text("a".to_owned()), "{row:?}");
        assert!(row[3] == Value::Null || row[3] == Value::Real(0.5), "{row:?}");
    }
}

/// Adds up how many rows the service says that it read, which is what it bills.
#[derive(Debug)]
struct Billed(Target, AtomicU64);

#[async_trait]
impl Wire for Billed {
    async fn send(
        &self,
        statements: Vec<RawStatement>,
        effect: Effect,
    ) -> Result<Vec<RawAnswer>, Fault> {
        let answers = self.0.send(statements, effect).await?;
        let read = answers.iter().map(|answer| answer.meta.rows_read.unwrap());
        self.1.fetch_add(read.sum(), Ordering::SeqCst);
        Ok(answers)
    }
}

#[tokio::test]
async fn a_row_that_is_read_is_billed_once() {
    let site = Site::start().await;
    let wire = Arc::new(Billed(site.database("mt_a").await, AtomicU64::new(0)));
    let protocol = D1Protocol::new(Arc::clone(&wire) as _, Shapes::new());
    run(&protocol, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)", vec![]).await;
    run(&protocol, "INSERT INTO t (a) VALUES ('x'), ('y'), ('z')", vec![]).await;
    for (sql, expected) in [
        (r#"SELECT "t"."id", "t"."a" FROM "t" ORDER BY "t"."id" ASC"#, 3),
        (r#"SELECT "t"."id", "t"."a" FROM "t" WHERE "t"."id" = 2 LIMIT 1"#, 1),
    ] {
        wire.1.store(0, Ordering::SeqCst);
        run(&protocol, sql, vec![]).await;
        assert_eq!(wire.1.load(Ordering::SeqCst), expected, "{sql}");
    }
}
