//! Copies of a tenant's database.
//!
//! A copy is a SQLite file that is made here from all rows of one state of the database, the same
//! as mt-sqlite's. A database that is not larger than [`SINGLE_BYTES`] is read in one request,
//! which is one state: two requests in all. A larger one is read in pages, and its bookmark, which
//! every write moves, says before and after whether they are of one state: three requests, and one
//! for each few megabytes.

mod pages;
mod select;
mod value;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use mt_core::{BackupManifest, Error, ErrorKind, Result, Stamp, TenantId};
use mt_remote::Fault;
use mt_sqlite_copy::{
    Built, FileBuilder, Filling, SchemaObject, ScratchFile, manifest, on_thread, send,
};
use sea_orm::DbBackend;
use serde_json::Value as Json;
use tokio::io::AsyncWrite;

use self::{
    pages::{History, Pages},
    select::Selection,
};
pub(crate) use self::{
    select::quoted,
    value::{balanced_sum, halves, measure, real, to_hex},
};
use crate::{
    D1Factory, NAME,
    api::Bookmark,
    budget::Lane,
    place::Place,
    raw::{Effect, RawAnswer, RawStatement, Wire},
    restore::require_restorable,
};

/// Up to this size a database is read at once. An answer has up to four times as many bytes, and
/// the service has 128 MB and 30 seconds to make it in
/// (<https://developers.cloudflare.com/d1/platform/limits/>).
pub(crate) const SINGLE_BYTES: u64 = 8 * 1024 * 1024;
/// How often the schema may change while its tables are being read.
const ROUNDS: usize = 3;

pub(crate) async fn take(
    factory: &D1Factory,
    tenant: &TenantId,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<BackupManifest> {
    let _lock = factory.locks.shared(tenant, factory.config.drain_timeout()).await?;
    let place = factory.locate(tenant).await?;
    let created_at = Utc::now();
    let source = Source { factory, place: &place, wire: factory.wire(&place, Lane::Control) };
    let begun = factory.forgetting(&place, source.begin(tenant).await)?;
    begun.stamp.check(factory.context.deployment, tenant, place.generation)?;
    let stamp = begun.stamp.clone();
    let built = factory.forgetting(&place, source.copy(begun).await)?;
    let file = require_restorable(built.file).await?;
    let sent = send(file.path(), sink).await?;
    manifest(stamp, created_at, built.contents, sent)
}

/// The database that is copied.
struct Source<'f> {
    factory: &'f D1Factory,
    place: &'f Place,
    wire: Arc<dyn Wire>,
}

/// What is known of it before its rows are read.
struct Begun {
    stamp: Stamp,
    schema: Vec<SchemaObject>,
    size_bytes: Option<u64>,
}

impl Source<'_> {
    async fn begin(&self, tenant: &TenantId) -> Result<Begun> {
        let stamp = Stamp::select(DbBackend::Sqlite, None).sql;
        match ask(&*self.wire, vec![reading(stamp), reading(SchemaObject::SELECT)]).await {
            Ok(answers) => {
                let [stamp, schema] = exactly(answers)?;
                let stamp = to_stamp(&stamp)?.ok_or_else(|| Stamp::missing(tenant))?;
                let size_bytes = schema.meta.size_after;
                Ok(Begun { stamp, schema: to_schema(schema)?, size_bytes })
            }
            // Perhaps there is no stamp; a look tells what there is instead.
            Err(fault @ Fault::Statement(_)) => {
                self.factory.look_at(self.place).await?.stamped(tenant)?;
                Err(fault.into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    async fn copy(&self, begun: Begun) -> Result<Built> {
        let ledger = self.factory.context.ledger();
        let size_bytes = match begun.size_bytes {
            Some(size_bytes) => Some(size_bytes),
            None => {
                let database = self.factory.client.database(&self.place.uuid).await?;
                database.and_then(|database| database.file_size)
            }
        };
        if size_bytes.is_none_or(|size_bytes| size_bytes > SINGLE_BYTES) {
            return Pages::new(&*self.wire, self).copy(ledger).await;
        }
        let mut schema = begun.schema;
        for _ in 0..ROUNDS {
            match copy_at_once(&*self.wire, schema, ledger).await? {
                Ok(built) => return Ok(built),
                Err(changed) => schema = changed,
            }
        }
        let message = "the schema changed each time the database was read; repeat when it does not";
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

#[async_trait]
impl History for Source<'_> {
    async fn bookmark(&self) -> Result<Bookmark> {
        self.factory.client.bookmark(&self.place.uuid, None).await
    }
}

/// Copies all rows by one request, if the database has still `schema`; else answers what it has.
async fn copy_at_once(
    wire: &dyn Wire,
    schema: Vec<SchemaObject>,
    ledger: Option<&str>,
) -> Result<Result<Built, Vec<SchemaObject>>> {
    let (builder, selections) = prepare(&schema).await?;
    let mut statements = vec![reading(SchemaObject::SELECT)];
    statements.extend(selections.iter().flat_map(Selection::whole));
    let answers = match ask(wire, statements).await {
        Ok(answers) => answers,
        // A table or a column may be gone.
        Err(fault @ Fault::Statement(_)) => {
            let now = to_schema(exactly::<1>(read_schema(wire).await?)?[0].clone())?;
            return if now == schema { Err(fault.into()) } else { Ok(Err(now)) };
        }
        Err(fault) => return Err(fault.into()),
    };
    let mut answers = answers.into_iter();
    let now = to_schema(answers.next().ok_or_else(unreadable)?)?;
    if now != schema {
        return Ok(Err(now));
    }
    let mut filling = Filling::start(builder, ledger.map(str::to_owned));
    for (table, selection) in selections.iter().enumerate() {
        for row in selection.rows(&mut answers)? {
            filling.insert(table, row?).await?;
        }
    }
    filling.finish().await.map(Ok)
}

async fn read_schema(wire: &dyn Wire) -> Result<Vec<RawAnswer>, Fault> {
    ask(wire, vec![reading(SchemaObject::SELECT)]).await
}

/// The tables of the copy, and how their rows are asked for.
async fn prepare(schema: &[SchemaObject]) -> Result<(FileBuilder, Vec<Selection>)> {
    let schema = schema.to_vec();
    let create = move || FileBuilder::create(ScratchFile::in_temporary_directory()?, &schema);
    let builder = on_thread(create).await?.expecting_exact_rows();
    let selections = builder.tables().into_iter().map(Selection::new).collect();
    Ok((builder, selections))
}

/// One question, which is one state of the database.
async fn ask(wire: &dyn Wire, statements: Vec<RawStatement>) -> Result<Vec<RawAnswer>, Fault> {
    let expected = statements.len();
    let answers = wire.send(statements, Effect::Reads).await?;
    if answers.len() != expected {
        return Err(unreadable().into());
    }
    Ok(answers)
}

fn reading(sql: impl Into<String>) -> RawStatement {
    RawStatement { sql: sql.into(), params: Vec::new() }
}

fn exactly<const N: usize>(answers: Vec<RawAnswer>) -> Result<[RawAnswer; N]> {
    <[RawAnswer; N]>::try_from(answers).map_err(|_other_length| unreadable())
}

fn to_stamp(answer: &RawAnswer) -> Result<Option<Stamp>> {
    let Some(row) = answer.rows.first() else { return Ok(None) };
    let text = |place: usize| row.get(place).and_then(Json::as_str).ok_or_else(unreadable);
    let generation = row.get(3).and_then(Json::as_i64).ok_or_else(unreadable)?;
    Stamp::from_columns(text(0)?, text(1)?, text(2)?, generation).map(Some)
}

/// The schema without what is the service's own.
fn to_schema(answer: RawAnswer) -> Result<Vec<SchemaObject>> {
    let object = |row: Vec<Json>| {
        let [kind, name, table, sql] =
            <[Json; 4]>::try_from(row).map_err(|_other_length| unreadable())?;
        let text = |value: Json| match value {
            Json::String(text) => Ok(text),
            _ => Err(unreadable()),
        };
        Ok(SchemaObject {
            kind: text(kind)?,
            name: text(name)?,
            table: text(table)?,
            sql: if sql.is_null() { None } else { Some(text(sql)?) },
        })
    };
    let objects: Result<Vec<SchemaObject>> = answer.rows.into_iter().map(object).collect();
    Ok(objects?.into_iter().filter(|object| !object.table.starts_with(SERVICES_OWN)).collect())
}

/// How tables begin that nobody but the service can read.
pub(crate) const SERVICES_OWN: &str = "_cf_";

fn unreadable() -> Error {
    let message = "the service answered something else than it was asked for";
    Error::new(ErrorKind::Unavailable, message).with_provider(NAME)
}

#[cfg(test)]
pub(crate) mod tests;
