//! What becomes of statements.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::cloud::{Cloud, ensure, learned, run};

/// Whether a failing statement undoes those before it, tables included; what all that is called
/// atomic here rests on.
pub(crate) fn a_batch_is_atomic(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("atomic").await?;
        cloud.done(&uuid, json!({ "sql": "CREATE TABLE t (a UNIQUE)" })).await?;
        let batch = json!({ "batch": [
            { "sql": "CREATE TABLE u (a)" },
            { "sql": "INSERT INTO t VALUES (1)" },
            { "sql": "INSERT INTO t VALUES (1)" },
        ] });
        let told = cloud.raw(&uuid, batch).await?;
        learned("a failing batch", told.refusal());
        ensure(!told.is_success(), || "a failing batch is told as a success".to_owned())?;
        let left = "SELECT (SELECT COUNT(*) FROM t), (SELECT COUNT(*) FROM sqlite_schema WHERE name = 'u')";
        let left = cloud.done(&uuid, json!({ "sql": left })).await?;
        learned("rows and tables left of it", left.rows());
        ensure(*left.rows() == json!([[0, 0]]), || "a batch is not atomic".to_owned())?;

        let orphan = json!({ "batch": [
            { "sql": "CREATE TABLE p (a PRIMARY KEY)" },
            { "sql": "CREATE TABLE c (a REFERENCES p)" },
            { "sql": "PRAGMA defer_foreign_keys = ON" },
            { "sql": "INSERT INTO c VALUES (1)" },
        ] });
        let told = cloud.raw(&uuid, orphan).await?;
        learned("a foreign key violated at the end of a batch", told.refusal());
        let left = "SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('p', 'c')";
        let left = cloud.done(&uuid, json!({ "sql": left })).await?;
        ensure(!told.is_success() && *left.rows() == json!([[0]]), || {
            format!("a violated foreign key left {}", left.rows())
        })
    })
}

/// What parameters become. We send strings only, and NUL in them.
pub(crate) fn parameters(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("parameters").await?;
        for value in [
            json!(5),
            json!(1.5),
            json!(i64::MAX),
            json!(null),
            json!(true),
            json!([1, 255]),
            json!({ "a": 1 }),
        ] {
            let body = json!({ "sql": "SELECT typeof(?1), ?1", "params": [value] });
            let told = cloud.raw(&uuid, body).await?;
            let answer = if told.is_success() { told.rows().to_string() } else { told.refusal() };
            learned(&format!("the parameter {value}"), answer);
        }
        let strings = json!(["9223372036854775807", "nul \u{0}, é, 😀"]);
        let sql = "SELECT typeof(?1), CAST(CAST(?1 AS INTEGER) AS TEXT), typeof(?2), ?2, hex(?2)";
        let told = cloud.done(&uuid, json!({ "sql": sql, "params": strings })).await?;
        let hex = "6E756C20002C20C3A92C20F09F9880";
        let expected = json!([["text", strings[0], "text", strings[1], hex]]);
        ensure(*told.rows() == expected, || format!("{}, expected {expected}", told.rows()))
    })
}

/// How a violated constraint is told.
pub(crate) fn a_violation(cloud: &Cloud) -> Result<(), Failed> {
    run(async {
        let uuid = cloud.make("violation").await?;
        cloud.done(&uuid, json!({ "sql": "CREATE TABLE t (a UNIQUE)" })).await?;
        cloud.done(&uuid, json!({ "sql": "INSERT INTO t VALUES (1)" })).await?;
        let mut refusals = Vec::new();
        for sql in
            ["INSERT INTO t VALUES (1)", "SELECT * FROM nope", "SELEC", "BEGIN", "SELECT 1;;"]
        {
            let told = cloud.raw(&uuid, json!({ "sql": sql })).await?;
            learned(sql, told.refusal());
            refusals.push(told);
        }
        let violation = &refusals[0];
        let words = violation.body["errors"][0]["message"].as_str().unwrap_or_default();
        learned("whether the extended code is told", words.contains("(extended: "));
        ensure(words.contains("UNIQUE constraint failed: t.a"), || violation.refusal())?;
        ensure(violation.code() == Some(7500), || violation.refusal())?;
        let missing = refusals[1].body["errors"][0]["message"].as_str().unwrap_or_default();
        ensure(missing.contains("no such table: nope"), || refusals[1].refusal())?;
        let told = cloud.done(&uuid, json!({ "sql": "CREATE TABLE u (a)" })).await?;
        let table = told.result()[0]["results"].clone();
        learned("the results of what has none", &table);
        ensure(
            table == json!({ "columns": [], "rows": [] }) || table["columns"] != Value::Null,
            || {
                "a statement without rows has no columns, which our client calls malformed"
                    .to_owned()
            },
        )
    })
}
