use futures_util::future::join_all;
use mt_core::{DataAdapters, Error, ErrorKind, Step, TenantId};
use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, ExecResult, Statement,
    sea_query::{Alias, Expr, ExprTrait as _, Query},
};

use crate::{
    fault::{Doing as _, Fault, Outcome, Told as _, ensure, expect_refusal},
    probe::{self, row},
    trial::Trial,
};

fn text(backend: DbBackend, text: &str) -> Statement {
    Statement::from_string(backend, text)
}

/// The condition that the note of the row `id` is `note`, built as SeaORM builds a query, with what
/// it compares bound.
fn note_is(backend: DbBackend, id: i64, note: &str) -> Step {
    let select = Query::select()
        .expr(Expr::col(Alias::new("note")).eq(note))
        .from(Alias::new(probe::TABLE))
        .and_where(Expr::col(Alias::new("id")).eq(id))
        .take();
    Step::condition(backend.build(&select))
}

/// Conditions that hold where the table has the rows 1 and 2.
const TRUE: [&str; 7] = [
    "SELECT 1",
    "SELECT -2",
    "SELECT 1 = 1",
    "SELECT count(*) FROM mt_probe",
    "SELECT EXISTS (SELECT 1 FROM mt_probe WHERE id = 2)",
    "WITH it AS (SELECT id FROM mt_probe) SELECT count(*) = 2 FROM it",
    "/* so */ SELECT id > 1 FROM mt_probe WHERE id = 2; -- it is",
];

/// Conditions that do not.
const UNTRUE: [&str; 7] = [
    "SELECT 0",
    "SELECT 1 = 2",
    "SELECT NULL",
    "SELECT 'true'",
    "SELECT count(*) > 2 FROM mt_probe",
    "SELECT id > 0 FROM mt_probe WHERE id = 9",
    "SELECT id > 0 FROM mt_probe",
];

pub(crate) async fn a_batch_whose_guards_hold_takes_effect(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("guarded").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    let results = data
        .batch([
            Step::condition(text(backend, "SELECT count(*) = 0 FROM mt_probe")),
            Step::changes(probe::insertion(backend, 1, "a"), 1),
            probe::insertion(backend, 2, "b").into(),
            // It sees what was written before it.
            note_is(backend, 2, "b"),
            Step::changes(text(backend, "UPDATE mt_probe SET note = 'c' WHERE id <= 2"), 2),
            Step::changes(text(backend, "DELETE FROM mt_probe WHERE note = 'a'"), 0),
        ])
        .await
        .doing("a batch whose guards hold")?;
    let affected: Vec<u64> = results.iter().map(ExecResult::rows_affected).collect();
    ensure!(
        affected == [1, 1, 2, 0],
        "the results of a batch of four statements tell {affected:?} rows"
    );
    let expected = [row(1, "c"), row(2, "c")];
    trial.expect_rows(&tenant, &expected, "after a batch whose guards hold").await?;
    for condition in TRUE {
        let results = data.batch([Step::condition(text(backend, condition))]).await;
        let results = results.doing(&format!("a batch with the condition `{condition}`"))?;
        ensure!(results.is_empty(), "a condition has {} results", results.len());
    }
    Ok(())
}

pub(crate) async fn a_condition_that_does_not_hold_undoes_the_batch(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("condition").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "before").await.doing("insert")?;
    probe::insert(&data, 2, "before").await.doing("insert")?;
    let conditions = UNTRUE.map(|condition| Step::condition(text(backend, condition)));
    for condition in conditions.into_iter().chain([note_is(backend, 1, "after")]) {
        // Behind what would change it, and in front of that.
        let (first, last) = (
            text(backend, "UPDATE mt_probe SET note = 'lost'"),
            text(backend, "DELETE FROM mt_probe"),
        );
        let what = format!("a batch with {condition:?}");
        let outcome = data.batch([first.into(), condition, Step::from(last)]).await;
        expect_undone(trial, &tenant, outcome, &what).await?;
    }
    probe::insert(&data, 3, "after").await.doing("insert after a batch that was refused")
}

pub(crate) async fn a_wrong_number_of_changed_rows_undoes_the_batch(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("changes").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "before").await.doing("insert")?;
    probe::insert(&data, 2, "before").await.doing("insert")?;
    let cases = [
        ("UPDATE mt_probe SET note = 'lost' WHERE id = 9", 1),
        ("UPDATE mt_probe SET note = 'lost' WHERE id <= 2", 1),
        ("UPDATE mt_probe SET note = 'lost' WHERE id = 1", 0),
        ("DELETE FROM mt_probe", 2),
        ("INSERT INTO mt_probe (id, note) VALUES (3, 'a'), (4, 'b')", 1),
        ("INSERT INTO mt_probe (id, note) VALUES (1, 'a') ON CONFLICT DO NOTHING", 1),
        ("WITH it AS (SELECT 1 AS id) DELETE FROM mt_probe WHERE id IN (SELECT id FROM it)", 2),
    ];
    for (statement, rows) in cases {
        let steps = [
            // What a guard counts is its own statement's.
            probe::insertion(backend, 7, "lost").into(),
            Step::changes(text(backend, statement), rows),
            probe::insertion(backend, 8, "lost").into(),
        ];
        let what = format!("a batch in which `{statement}` must change {rows} rows");
        expect_undone(trial, &tenant, data.batch(steps).await, &what).await?;
    }
    Ok(())
}

/// Fails unless the batch is a conflict and left the rows 1 and 2 as they were.
async fn expect_undone(
    trial: &Trial<'_>,
    tenant: &TenantId,
    outcome: Result<Vec<ExecResult>, DbErr>,
    what: &str,
) -> Outcome {
    expect_refusal(outcome, ErrorKind::Conflict, what)?;
    let expected = [row(1, "before"), row(2, "before")];
    trial.expect_rows(tenant, &expected, &format!("after {what}")).await
}

pub(crate) async fn a_guard_that_cannot_be_is_refused(trial: &Trial<'_>) -> Outcome {
    let tenant = trial.provisioned("unguarded").await?;
    let data = trial.open(&tenant).await?;
    let backend = probe::backend(&data);
    probe::insert(&data, 1, "kept").await.doing("insert")?;
    let refused = [
        Step::changes(text(backend, "SELECT id FROM mt_probe"), 1),
        Step::changes(text(backend, "WITH it AS (SELECT 1) SELECT 1 FROM it"), 1),
        Step::changes(text(backend, "CREATE TABLE mt_probe_more (id INTEGER)"), 0),
        Step::condition(text(backend, "INSERT INTO mt_probe (id, note) VALUES (3, 'c')")),
        Step::condition(text(backend, "DELETE FROM mt_probe RETURNING 1")),
        Step::condition(text(backend, "COMMIT")),
        Step::changes(text(backend, "COMMIT"), 0),
    ];
    for step in refused {
        let what = format!("a batch with {step:?}");
        let outcome = data.batch([probe::insertion(backend, 2, "lost").into(), step]).await;
        expect_refusal(outcome, ErrorKind::Unsupported, &what)?;
        trial.expect_rows(&tenant, &[row(1, "kept")], &format!("after {what}")).await?;
    }
    // What the database refuses is its error, and no conflict, whatever words are in it.
    let mut failing = vec![
        Step::condition(text(backend, "SELECT missing FROM mt_probe")),
        Step::condition(text(backend, "SELECT 1, 1 FROM mt_probe")),
        Step::changes(text(backend, "UPDATE mt_probe SET missing = 1"), 1),
        Step::changes(probe::insertion(backend, 1, "twice"), 1),
    ];
    if backend == DbBackend::Sqlite {
        let forged = "SELECT json_extract('{}', 'mt-guard-1:0')";
        failing.extend([Step::from(text(backend, forged)), Step::condition(text(backend, forged))]);
    }
    for step in failing {
        let what = format!("a batch with {step:?}");
        let guarded = Step::changes(probe::insertion(backend, 2, "lost"), 1);
        match data.batch([guarded, step]).await {
            Ok(_) => return Err(Fault::new(format!("{what} succeeded"))),
            Err(error) if kind(&error) == Some(ErrorKind::Conflict) => {
                return Err(Fault::new(format!("{what} failed with {}", error.told())));
            }
            Err(_) => {
                trial.expect_rows(&tenant, &[row(1, "kept")], &format!("after {what}")).await?;
            }
        }
    }
    Ok(())
}

fn kind(error: &DbErr) -> Option<ErrorKind> {
    Error::in_db_err(error).map(Error::kind)
}

const WRITERS: i64 = 4;

pub(crate) async fn each_version_is_won_once(trial: &Trial<'_>) -> Outcome {
    const ROUNDS: i64 = 4;
    const EACH: i64 = 3;
    let tenant = trial.provisioned("versions").await?;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(trial.open(&tenant).await?);
    }
    probe::insert(&writers[0], 0, "0").await.doing("insert")?;

    // Everybody has read the same version; one of them may replace it.
    for version in 0..ROUNDS {
        let tries = writers.iter().cloned().zip(1..).map(|(data, writer)| {
            tokio::spawn(async move { replace(&data, version, 100 * version + writer).await })
        });
        let mut winners = 0;
        for outcome in join_all(tries).await {
            winners += u32::from(joined(outcome)?);
        }
        ensure!(winners == 1, "version {version} was replaced by {winners} of {WRITERS} writers");
    }

    // Everybody reads and tries again, until it has won a number of times.
    let tries = writers.iter().cloned().zip(1..).map(|(data, writer)| {
        tokio::spawn(async move {
            let (mut won, mut tried) = (0, 0);
            while won < EACH {
                tried += 1;
                let version = version(&data).await?;
                won += i64::from(replace(&data, version, 1_000 * writer + tried).await?);
            }
            Ok(true)
        })
    });
    for outcome in join_all(tries).await {
        joined(outcome)?;
    }
    let rows = trial.rows(&tenant).await?;
    let wins = ROUNDS + WRITERS * EACH;
    ensure!(rows.first() == Some(&row(0, &wins.to_string())), "after {wins} wins: {rows:?}");
    let mut replaced: Vec<i64> = rows[1..].iter().filter_map(|row| row.1.parse().ok()).collect();
    replaced.sort_unstable();
    let expected: Vec<i64> = (0..wins).collect();
    ensure!(replaced == expected, "the versions {replaced:?} were replaced, not 0 to {wins}");
    Ok(())
}

fn joined(outcome: Result<Outcome<bool>, tokio::task::JoinError>) -> Outcome<bool> {
    outcome.map_err(|error| Fault::new(format!("a writer: {error}")))?
}

async fn version(data: &DataAdapters) -> Outcome<i64> {
    let select = text(probe::backend(data), "SELECT id, note FROM mt_probe WHERE id = 0");
    let found = data.query_one_raw(select).await.doing("reading the version")?;
    let found = found.ok_or_else(|| Fault::new("the row with the version is gone"))?;
    let (_, note) = probe::decode(&found).doing("reading the version")?;
    note.parse().map_err(|error| Fault::new(format!("the version is `{note}`: {error}")))
}

/// Replaces `version` by the next one, and notes that in the row `id`. `false`: somebody else was
/// faster.
async fn replace(data: &DataAdapters, version: i64, id: i64) -> Outcome<bool> {
    let backend = probe::backend(data);
    let update =
        format!("UPDATE mt_probe SET note = '{}' WHERE id = 0 AND note = '{version}'", version + 1);
    loop {
        let steps = [
            Step::changes(text(backend, &update), 1),
            probe::insertion(backend, id, &version.to_string()).into(),
        ];
        match data.batch(steps).await {
            Ok(_) => return Ok(true),
            Err(error) => match kind(&error) {
                Some(ErrorKind::Conflict) => return Ok(false),
                Some(ErrorKind::OutcomeUnknown) => {
                    return Err(Fault::new(format!("a batch failed with {}", error.told())));
                }
                // Too many at once: nothing took effect, and the check's limit ends this.
                _ => tokio::task::yield_now().await,
            },
        }
    }
}
