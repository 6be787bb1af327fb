//! Copies of a tenant's database.
//!
//! The service's own dump is SQL text; a copy is a SQLite file that is made here from all rows of
//! one state of the database, the same as mt-sqlite's.

use std::{iter, pin::Pin};

use chrono::Utc;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream::Peekable};
use mt_core::{BackupManifest, Error, ErrorKind, Result, TenantId};
use mt_remote::{Answer, Command, Fault, Part, Protocol as _, Row, Value};
use mt_sqlite_copy::{
    Built, FileBuilder, Filling, SchemaObject, ScratchFile, manifest, on_thread, send,
};
use tokio::io::AsyncWrite;

use crate::{NAME, TursoFactory, hrana::Hrana, platform::Authorization};

/// How often the schema may change while its tables are being read.
const ROUNDS: usize = 3;

pub(crate) async fn take(
    factory: &TursoFactory,
    tenant: &TenantId,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<BackupManifest> {
    let _lock = factory.locks.shared(tenant, factory.config.drain_timeout()).await?;
    let place = factory.locate(tenant).await?;
    let (stamp, _) = factory.look_at(&place).await?.stamped(tenant)?;
    stamp.check(factory.context.deployment, tenant, place.generation)?;
    let created_at = Utc::now();
    let hrana = factory.hrana(&place, Authorization::ReadOnly)?;
    let built = factory.forgetting(&place, copy(&hrana, factory.context.ledger()).await)?;
    let sent = send(built.file.path(), sink).await?;
    manifest(stamp, created_at, built.contents, sent)
}

/// Copies one state of the database.
async fn copy(hrana: &Hrana, ledger: Option<&str>) -> Result<Built> {
    let mut refusal = None;
    for _ in 0..ROUNDS {
        let schema = to_schema(hrana.execute(Command::new(SchemaObject::SELECT)).await?)?;
        match copy_as(hrana, schema, ledger).await? {
            Ok(built) => return Ok(built),
            Err(Changed(fault)) => refusal = fault,
        }
    }
    let error =
        Error::new(ErrorKind::Conflict, "the schema changed each time the database was read");
    Err(match refusal {
        Some(fault) => error.with_source(Error::from(fault)),
        None => error,
    })
}

/// The schema is another one by now; and perhaps a query was refused, of a table that is gone.
struct Changed(Option<Fault>);

/// Copies a state of the database that has `schema`.
async fn copy_as(
    hrana: &Hrana,
    schema: Vec<SchemaObject>,
    ledger: Option<&str>,
) -> Result<Result<Built, Changed>> {
    let expected = schema.clone();
    let create = move || FileBuilder::create(ScratchFile::in_temporary_directory()?, &schema);
    let builder = on_thread(create).await?;
    let queries = iter::once(SchemaObject::SELECT.to_owned()).chain(builder.queries());
    let mut parts = hrana.snapshot(queries.map(Command::new).collect()).peekable();
    if read_schema(&mut parts).await? != expected {
        return match parts.next().await {
            Some(Err(Fault::Other(error))) => Err(error),
            Some(Err(fault)) => Ok(Err(Changed(Some(fault)))),
            Some(Ok(_)) | None => Ok(Err(Changed(None))),
        };
    }
    let mut filling = Filling::start(builder, ledger.map(str::to_owned));
    while let Some((query, part)) = parts.try_next().await? {
        if let (Some(table), Part::Row(row)) = (query.checked_sub(1), part) {
            filling.insert(table, row.into_iter().map(to_sqlite).collect()).await?;
        }
    }
    filling.finish().await.map(Ok)
}

/// The rows of the first query. Where that is refused, the schema is not another one: there is none
/// to compare.
async fn read_schema<S>(parts: &mut Peekable<S>) -> Result<Vec<SchemaObject>>
where
    S: Stream<Item = Result<(usize, Part), Fault>> + Unpin,
{
    let mut answer = Answer::default();
    let mut parts = Pin::new(parts);
    let mut begun = false;
    while let Some(Ok((_, part))) = parts.as_mut().next_if(|part| matches!(part, Ok((0, _)))).await
    {
        begun = true;
        if let Part::Row(row) = part {
            answer.rows.push(row);
        }
    }
    if !begun && let Some(Err(fault)) = parts.as_mut().next_if(Result::is_err).await {
        return Err(fault.into());
    }
    to_schema(answer)
}

fn to_sqlite(value: Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(value) => value.into(),
        Value::Real(value) => value.into(),
        Value::Text(value) => value.into(),
        Value::Blob(value) => value.into(),
    }
}

fn to_schema(answer: Answer) -> Result<Vec<SchemaObject>> {
    answer.rows.into_iter().map(to_object).collect()
}

fn to_object(row: Row) -> Result<SchemaObject> {
    let Ok([kind, name, table, sql]) = <[Value; 4]>::try_from(row) else {
        return Err(unreadable());
    };
    let text = |value| match value {
        Value::Text(text) => Ok(text),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => Err(unreadable()),
    };
    Ok(SchemaObject {
        kind: text(kind)?,
        name: text(name)?,
        table: text(table)?,
        sql: if sql == Value::Null { None } else { Some(text(sql)?) },
    })
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "the database's schema cannot be read").with_provider(NAME)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use mt_remote::StatementError;

    use super::*;

    fn refusal() -> Fault {
        Fault::Statement(StatementError::new("malformed schema", None))
    }

    #[tokio::test]
    async fn a_refused_look_at_the_schema_is_no_change_of_it() {
        let mut parts = stream::iter([Err(refusal())]).peekable();
        let error = read_schema(&mut parts).await.unwrap_err();
        assert!(error.to_chain().contains("malformed schema"), "{}", error.to_chain());
        assert_ne!(error.kind(), ErrorKind::Conflict);

        // What is refused after it is a table's.
        let begun = Ok((0, Part::Columns(Vec::new())));
        let mut parts = stream::iter([begun, Err(refusal())]).peekable();
        assert_eq!(read_schema(&mut parts).await.unwrap(), []);
        assert!(parts.next().await.unwrap().is_err());
    }
}
