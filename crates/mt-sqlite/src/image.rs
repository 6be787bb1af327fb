use std::{
    io::{self, Cursor},
    sync::{Arc, Mutex, PoisonError},
};

use mt_core::{Connection, ErrorKind, FactoryContext, Stamp};
use rusqlite::MAIN_DB;
use sea_orm::{
    ConnectionTrait as _, DbBackend, SqlxSqliteConnector,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    NAME,
    error::{Error, Result, sharpen},
    files::{Files, IMAGE},
};

/// A migrated database in memory, of which every new tenant gets a copy with a stamp of its own.
///
/// It is made by really running the schema's migrations once; a copy then costs a tenth of a
/// millisecond, where running them costs tens.
#[derive(Debug)]
pub(crate) struct Image(Mutex<rusqlite::Connection>);

/// Bytes 18 and 19 of a database file say how it is written: 1 for a rollback journal, 2 for a
/// write-ahead log (<https://www.sqlite.org/fileformat2.html#file_format_version_numbers>). A
/// database in memory has no log, so the image has 1 and its copies get 2.
const FORMAT_VERSIONS: std::ops::Range<usize> = 18..20;
const WRITE_AHEAD_LOG: u8 = 2;

impl Image {
    /// Runs the context's migrations on a new file and takes it into memory.
    ///
    /// # Errors
    /// `MigrationFailed`; or the folder cannot be written.
    pub(crate) async fn make(files: &Files, context: &FactoryContext) -> mt_core::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(IMAGE)
            .tempdir_in(&files.directory)
            .map_err(Error::file("make a directory in", &files.directory))?;
        let path = directory.path().join("image.sqlite");
        // Nobody will miss this file, so nothing is done to keep it.
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
        let made = fill(&connection, context).await;
        let closed = connection.close_by_ref().await;
        made.map_err(sharpen)?;
        closed.map_err(|e| failed("cannot close the image of a new database").with_source(e))?;
        let bytes = tokio::fs::read(&path).await.map_err(Error::file("read", &path))?;
        Ok(load(bytes)?)
    }

    /// Writes a new tenant's database to `file`.
    pub(crate) fn write_stamped(&self, stamp: &Stamp, file: &mut impl io::Write) -> Result<()> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stamping = || Error::sqlite("stamp the new database");
        let values = (
            stamp.tenant.as_str(),
            stamp.deployment.to_string(),
            stamp.created_at.to_rfc3339(),
            stamp.generation.get(),
        );
        connection.execute(RESTAMP, values).map_err(stamping())?;
        let bytes = connection.serialize(MAIN_DB).map_err(stamping())?;
        let (head, tail) = bytes.split_at(bytes.len().min(FORMAT_VERSIONS.end));
        let mut head = head.to_vec();
        if let Some(versions) = head.get_mut(FORMAT_VERSIONS) {
            versions.fill(WRITE_AHEAD_LOG);
        }
        let written = file.write_all(&head).and_then(|()| file.write_all(tail));
        written.map_err(|source| Error::File {
            action: "write the new database of",
            path: stamp.tenant.as_str().into(),
            source,
        })
    }
}

/// The image has a stamp; this puts another in its place.
const RESTAMP: &str =
    "UPDATE _mt_tenant SET tenant = ?1, deployment = ?2, created_at = ?3, generation = ?4";

async fn fill(
    connection: &sea_orm::DatabaseConnection,
    context: &FactoryContext,
) -> mt_core::Result<()> {
    // Tables before data: what a tenant's own stamp will replace.
    let placeholder = Stamp::new(
        context.deployment,
        &mt_core::TenantId::new("image")?,
        mt_core::Generation::FIRST,
    );
    for statement in placeholder.to_statements(DbBackend::Sqlite, context.ledger()) {
        connection
            .execute_raw(statement)
            .await
            .map_err(|e| failed("cannot stamp the image of a new database").with_source(e))?;
    }
    match &context.template {
        None => Ok(()),
        Some(template) => template.apply(&Connection::SeaOrm(connection.clone())).await,
    }
}

fn load(bytes: Vec<u8>) -> Result<Image> {
    let taking = Error::sqlite("take the image of a new database into memory");
    let load = || {
        let mut connection = rusqlite::Connection::open_in_memory()?;
        let length = bytes.len();
        connection.deserialize_read_exact(MAIN_DB, Cursor::new(bytes), length, false)?;
        Ok(connection)
    };
    load().map(|connection| Image(Mutex::new(connection))).map_err(taking)
}

fn failed(message: &str) -> mt_core::Error {
    mt_core::Error::new(ErrorKind::Internal, message).with_provider(NAME)
}

/// The image of one factory, made when the first tenant needs it.
#[derive(Debug, Default)]
pub(crate) struct LazyImage(tokio::sync::OnceCell<Arc<Image>>);

impl LazyImage {
    /// The image, if it was made before.
    pub(crate) fn get(&self) -> Option<Arc<Image>> {
        self.0.get().map(Arc::clone)
    }

    pub(crate) async fn make(
        &self,
        files: &Files,
        context: &FactoryContext,
    ) -> mt_core::Result<Arc<Image>> {
        let make = async || Image::make(files, context).await.map(Arc::new);
        self.0.get_or_try_init(make).await.map(Arc::clone)
    }
}
