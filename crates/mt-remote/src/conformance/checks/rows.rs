use sea_orm::{FromQueryResult as _, JsonValue, QueryResult, TryGetable, prelude::Uuid};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Fault, Outcome, ensure, ensure_eq},
    probe,
};

pub(crate) async fn columns_keep_their_order_and_names(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    let text = "SELECT 1 AS zebra, 2 AS apple, 3 AS \"a \"\"quoted\"\" name\", 4 AS \"é🦀\", \
                5 AS twice, 6 AS \"it's\", 7 AS twice, 8 AS [sel;ect], 9 AS \"A\", 10 AS a";
    let row = probe::one(driver, probe::sql(text)).await?;
    let names = row.column_names();
    let expected = [
        "zebra",
        "apple",
        "a \"quoted\" name",
        "é🦀",
        "twice",
        "it's",
        "twice",
        "sel;ect",
        "A",
        "a",
    ];
    ensure_eq!(names, expected, "the order of columns");
    for (at, value) in (0..expected.len()).zip(1_i64..) {
        let seen: i64 = row.try_get_by(at).doing("reading a column by its place")?;
        ensure_eq!(seen, value, "column {at}");
    }
    for (name, value) in [("zebra", 1_i64), ("a \"quoted\" name", 3), ("it's", 6), ("A", 9)] {
        let seen: i64 = row.try_get("", name).doing("reading a column by its name")?;
        ensure_eq!(seen, value, "column {name}");
    }
    let named = "SELECT a, (SELECT 1), count(*) FROM (SELECT 1 AS a) GROUP BY a";
    let row = probe::one(driver, probe::sql(named)).await?;
    ensure_eq!(row.column_names(), ["a", "(SELECT 1)", "count(*)"], "names without AS");
    Ok(())
}

pub(crate) async fn a_mistyped_column_is_an_error(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    let text = "CREATE TABLE mixed (number INTEGER, real REAL, text TEXT, bytes BLOB, none TEXT)";
    driver.execute(probe::sql(text)).await.doing("CREATE TABLE")?;
    let insert = "INSERT INTO mixed VALUES (300, 1.5, 'text', x'00', NULL)";
    driver.execute(probe::sql(insert)).await.doing("INSERT")?;
    let row = probe::one(driver, probe::sql("SELECT * FROM mixed")).await?;
    refuses::<String>(&row, "number")?;
    refuses::<Vec<u8>>(&row, "number")?;
    refuses::<f64>(&row, "number")?;
    refuses::<i8>(&row, "number")?;
    refuses::<u8>(&row, "number")?;
    refuses::<i64>(&row, "real")?;
    refuses::<bool>(&row, "real")?;
    refuses::<i64>(&row, "text")?;
    refuses::<f64>(&row, "text")?;
    refuses::<bool>(&row, "text")?;
    refuses::<Uuid>(&row, "text")?;
    refuses::<sea_orm::prelude::DateTimeUtc>(&row, "text")?;
    refuses::<String>(&row, "bytes")?;
    refuses::<i64>(&row, "bytes")?;
    ensure!(row.try_get::<i64>("", "missing").is_err(), "a missing column was read");
    let none: Option<String> = row.try_get("", "none").doing("reading NULL")?;
    ensure!(none.is_none(), "NULL was read as {none:?}");
    let required = row.try_get::<String>("", "none");
    ensure!(required.is_err(), "NULL was read as a required {required:?}");
    JsonValue::from_query_result(&row, "").doing("reading a row as JSON").map(drop)
}

/// Fails if `column` can be read as `T`, or as an optional one.
fn refuses<T: TryGetable + std::fmt::Debug>(row: &QueryResult, column: &str) -> Outcome {
    let kind = std::any::type_name::<T>();
    if let Ok(read) = row.try_get::<T>("", column) {
        return Err(Fault::new(format!("{column} was read as {kind}: {read:?}")));
    }
    if let Ok(read) = row.try_get::<Option<T>>("", column) {
        return Err(Fault::new(format!("{column} was read as an optional {kind}: {read:?}")));
    }
    Ok(())
}

pub(crate) async fn an_empty_result_has_no_rows(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    for text in ["SELECT * FROM probe", "SELECT 1 WHERE 0", "DELETE FROM probe RETURNING id"] {
        let rows = driver.query(probe::sql(text)).await.doing(text)?;
        ensure_eq!(rows.len(), 0, "the number of rows of `{text}`");
    }
    let rows = driver.query(probe::insertion(1, "a")).await.doing("a query that writes")?;
    ensure_eq!(rows.len(), 0, "the number of rows of an insertion");
    ensure_eq!(probe::rows(driver).await?, [probe::row(1, "a")], "what is there");
    Ok(())
}

pub(crate) async fn many_rows_come_in_order(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let last = 3_000;
    driver.execute(probe::series(last)).await.doing("inserting rows")?;
    // Every number of rows about the sizes in which they may be passed on.
    for count in (0..20).chain([63, 64, 65, 127, 128, 255, 256, 257, 300, 1_000, last]) {
        let text = "SELECT id, note, NULL, 'x' FROM probe ORDER BY id LIMIT ?";
        let rows = driver.query(probe::bound(text, [count.into()])).await.doing(text)?;
        ensure_eq!(i64::try_from(rows.len()).ok(), Some(count), "the number of rows");
        for (row, id) in rows.iter().zip(1..) {
            let seen = probe::decode(row).doing("reading a row")?;
            ensure_eq!(seen, probe::row(id, &format!("note {id}")), "row {id} of {count}");
        }
    }
    Ok(())
}
