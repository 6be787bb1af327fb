use std::sync::Arc;

use futures_util::future::try_join_all;
use mt_core::{Connection, DataAdapters, DeploymentId, ErrorKind, Generation, Stamp, TenantId};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue, ColumnTrait as _, DbBackend, EntityTrait as _,
    IntoActiveModel as _, ModelTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
};

use super::super::{
    DriverSubject,
    fault::{Doing as _, Fault, Outcome, ensure, ensure_eq, expect_kind},
    kinds, probe,
};

pub(crate) async fn effects_are_counted(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    for (statement, rows_affected, last_insert_id) in [
        (probe::insertion(7, "a"), 1, Some(7)),
        (probe::sql("INSERT INTO probe (note) VALUES ('b'), ('c')"), 2, Some(9)),
        (probe::insertion(i64::MAX, "d"), 1, Some(i64::MAX.cast_unsigned())),
        (probe::sql("UPDATE probe SET note = note || '!' WHERE id < 100"), 3, None),
        (probe::sql("UPDATE probe SET note = 'e' WHERE id = 100"), 0, None),
        (probe::sql("DELETE FROM probe"), 4, None),
    ] {
        let text = statement.sql.clone();
        let result = driver.execute(statement).await.doing(&text)?;
        ensure_eq!(result.rows_affected(), rows_affected, "rows affected by `{text}`");
        if let Some(expected) = last_insert_id {
            ensure_eq!(result.last_insert_id(), expected, "the last rowid of `{text}`");
        }
    }
    Ok(())
}

pub(crate) async fn an_insertion_answers_what_it_returns(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let text = "INSERT INTO probe (note) VALUES (?), (?) RETURNING note, id";
    let rows = driver.query(probe::bound(text, ["a".into(), "b".into()])).await.doing(text)?;
    let seen = rows.iter().map(probe::decode).collect::<Result<Vec<_>, _>>().doing(text)?;
    let expected = [probe::row(1, "a"), probe::row(2, "b")];
    ensure_eq!(seen, expected, "what `{text}` returned");
    ensure_eq!(probe::rows(driver).await?, expected, "what is there");
    Ok(())
}

pub(crate) async fn an_entity_is_served(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver();
    let tenant = TenantId::new("acme").doing("a tenant id")?;
    let deployment = DeploymentId::random();
    let stamp = Stamp::new(deployment, &tenant, Generation::FIRST);
    let mut statements = stamp.to_statements(DbBackend::Sqlite, None);
    statements.push(kinds::table());
    driver.batch(statements).await.doing("stamping the database")?;
    let connection = Connection::Driver(Arc::clone(driver));
    let data = DataAdapters::open(&tenant, deployment, connection).await.doing("open")?;

    let samples = kinds::samples()?;
    for sample in &samples {
        let inserted = sample.clone().into_active_model().insert(&data).await;
        ensure_eq!(inserted.doing("inserting an entity")?, *sample, "what an insert returned");
    }
    let find = || kinds::Entity::find().order_by_asc(kinds::Column::Id);
    let found = find().all(&data).await.doing("finding all")?;
    ensure_eq!(found, samples, "what was found");
    let count = find().count(&data).await.doing("counting")?;
    ensure_eq!(usize::try_from(count).ok(), Some(samples.len()), "the number of entities");
    let page = find().paginate(&data, 3).fetch_page(1).await.doing("fetching a page")?;
    ensure_eq!(page, samples[3..6], "the second page");

    let first = find().one(&data).await.doing("finding one")?;
    let first = first.ok_or_else(|| Fault::new("no first entity"))?;
    let mut change = first.clone().into_active_model();
    change.text = ActiveValue::Set("changed".to_owned());
    let changed = change.update(&data).await.doing("updating an entity")?;
    let expected = kinds::Model { text: "changed".to_owned(), ..first };
    ensure_eq!(changed, expected, "what an update returned");
    let deleted = changed.delete(&data).await.doing("deleting an entity")?;
    ensure_eq!(deleted.rows_affected, 1, "the number of deleted entities");
    let several = kinds::Entity::delete_many().filter(kinds::Column::Id.lt(4));
    let deleted = several.exec(&data).await.doing("deleting entities")?;
    ensure_eq!(deleted.rows_affected, 2, "the number of deleted entities");
    let left = find().all(&data).await.doing("finding what is left")?;
    ensure_eq!(left, samples[3..], "what is left");
    Ok(())
}

pub(crate) async fn text_of_several_statements_is_run(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    let text = format!(
        "{}; -- a comment; with a semicolon
         CREATE TABLE seen (note TEXT);
         CREATE TRIGGER looks AFTER INSERT ON probe BEGIN
             INSERT INTO seen VALUES (new.note || ';');
             INSERT INTO seen VALUES (CASE WHEN new.id > 1 THEN 'later' ELSE 'first' END);
         END;
         INSERT INTO probe VALUES (1, 'a;b');
         INSERT INTO probe VALUES (2, 'c');;",
        probe::TABLE
    );
    let result = driver.execute_unprepared(&text).await.doing("text of several statements")?;
    ensure!(result.rows_affected() >= 2, "{} rows were affected, not 2", result.rows_affected());
    let rows = probe::rows(driver).await?;
    ensure_eq!(rows, [probe::row(1, "a;b"), probe::row(2, "c")], "what the text inserted");
    let seen = driver.query(probe::sql("SELECT note FROM seen")).await.doing("a select")?;
    let seen: Vec<String> =
        seen.iter().map(|row| row.try_get("", "note")).collect::<Result<_, _>>().doing("a row")?;
    ensure_eq!(seen, ["a;b;", "first", "c;", "later"], "what the trigger inserted");
    for empty in ["", " ;; ", "-- nothing"] {
        driver.execute_unprepared(empty).await.doing("text without a statement")?;
    }
    Ok(())
}

pub(crate) async fn text_stops_at_the_first_error(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let text = "INSERT INTO missing VALUES (1); INSERT INTO probe VALUES (1, 'a')";
    let stopped = driver.execute_unprepared(text).await;
    expect_kind(stopped, ErrorKind::Statement, "text with an error")?;
    let rows = probe::rows(driver).await?;
    ensure!(rows.is_empty(), "a statement after the error was run: {rows:?}");
    let text = "INSERT INTO probe VALUES (1, 'a'); INSERT INTO probe VALUES (2, 'b');
                INSERT INTO missing VALUES (1); INSERT INTO probe VALUES (3, 'c')";
    let stopped = driver.execute_unprepared(text).await;
    expect_kind(stopped, ErrorKind::Statement, "text with an error")?;
    let rows = probe::rows(driver).await?;
    let before = [probe::row(1, "a"), probe::row(2, "b")];
    ensure!(rows.is_empty() || rows == before, "text with an error left {rows:?}");
    Ok(())
}

pub(crate) async fn a_batch_answers_in_order(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let results = driver
        .batch(vec![
            probe::insertion(5, "a"),
            probe::sql("INSERT INTO probe (note) VALUES ('b'), ('c')"),
            probe::sql("UPDATE probe SET note = note || '!'"),
            probe::sql("SELECT * FROM probe"),
            probe::sql("DELETE FROM probe WHERE id = 6"),
        ])
        .await
        .doing("a batch")?;
    ensure_eq!(results.len(), 5, "the number of results of a batch");
    for (at, affected) in [(0, 1), (1, 2), (2, 3), (4, 1)] {
        ensure_eq!(results[at].rows_affected(), affected, "rows affected by statement {at}");
    }
    ensure_eq!(results[0].last_insert_id(), 5, "the first rowid");
    ensure_eq!(results[1].last_insert_id(), 7, "the second rowid");
    let rows = probe::rows(driver).await?;
    ensure_eq!(rows, [probe::row(5, "a!"), probe::row(7, "c!")], "what the batch left");
    let none = driver.batch(Vec::new()).await.doing("an empty batch")?;
    ensure!(none.is_empty(), "an empty batch has {} results", none.len());
    Ok(())
}

pub(crate) async fn a_failing_batch_leaves_nothing(subject: &DriverSubject) -> Outcome {
    let driver = subject.driver().as_ref();
    probe::create(driver).await?;
    let failing = [
        probe::insertion(1, "twice"),
        probe::sql("INSERT INTO missing VALUES (1)"),
        probe::sql("not a statement"),
    ];
    for last in failing {
        let text = last.sql.clone();
        let batch = vec![
            probe::insertion(1, "a"),
            probe::sql("CREATE TABLE made (a)"),
            probe::insertion(2, "b"),
            last,
        ];
        ensure!(driver.batch(batch).await.is_err(), "a batch that ends with `{text}` succeeded");
        let rows = probe::rows(driver).await?;
        ensure!(rows.is_empty(), "a batch that ends with `{text}` left {rows:?}");
        let made = driver.query(probe::sql("SELECT * FROM made")).await;
        expect_kind(made, ErrorKind::Statement, "a select from a table of a failed batch")?;
    }
    driver.batch(vec![probe::insertion(1, "a")]).await.doing("a batch after failed ones")?;
    ensure_eq!(probe::rows(driver).await?, [probe::row(1, "a")], "what is there");
    Ok(())
}

pub(crate) async fn it_answers_a_ping(subject: &DriverSubject) -> Outcome {
    subject.driver().ping().await.doing("ping")
}

pub(crate) async fn tasks_get_their_own_answers(subject: &DriverSubject) -> Outcome {
    probe::create(subject.driver().as_ref()).await?;
    let task = |task: i64| {
        let driver = Arc::clone(subject.driver());
        async move {
            for round in 0..10_i64 {
                let id = task * 100 + round;
                let note = format!("task {task}, round {round}");
                driver.execute(probe::insertion(id, &note)).await.doing("an insert")?;
                let text = "SELECT id, note FROM probe WHERE id = ?";
                let row = probe::one(driver.as_ref(), probe::bound(text, [id.into()])).await?;
                let seen = probe::decode(&row).doing("reading a row")?;
                ensure_eq!(seen, probe::row(id, &note), "a task's row");
            }
            Ok(())
        }
    };
    let tasks = (0..16).map(|id| {
        let task = tokio::spawn(task(id));
        async move { task.await.map_err(|e| Fault::new(format!("a task ended: {e}")))? }
    });
    try_join_all(tasks).await?;
    let rows = probe::rows(subject.driver().as_ref()).await?;
    ensure_eq!(rows.len(), 160, "the number of rows of all tasks");
    Ok(())
}
