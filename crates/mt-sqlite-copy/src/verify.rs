use std::path::Path;

use mt_core::{BackupManifest, Stamp};
use rusqlite::Connection;
use sea_orm::DbBackend;

use crate::{ScratchFile, contents::count_rows, error::Error, find_stamp};

/// What a page of a file has for a service to take it.
pub(crate) const PAGE_BYTES: i64 = 4096;

/// Opens a received copy, looks whether it is sound and is what `manifest` says, and puts `stamp`
/// in the place of the one it has. It is in WAL mode afterwards, with no log beside it.
///
/// # Errors
/// `ForeignDatabase`: its stamp is not the manifest's. `Corrupt`: it is no database or a damaged
/// one, or its tables have other rows.
pub fn verify_and_stamp(
    file: &ScratchFile,
    manifest: &BackupManifest,
    stamp: &Stamp,
) -> mt_core::Result<()> {
    let opening = || Error::sqlite("open the copy");
    let mut connection = Connection::open(file.path()).map_err(opening())?;
    require_stamp_of(manifest, find_stamp(&connection)?)?;
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(opening())?;
    if verdict != "ok" {
        return Err(Error::Damaged(verdict).into());
    }
    let rows = count_rows(&connection)?;
    if rows != manifest.rows {
        let damage = format!("its tables have {rows:?} rows, expected {:?}", manifest.rows);
        return Err(Error::Damaged(damage).into());
    }
    let stamping = || Error::sqlite("stamp the copy");
    let transaction = connection.transaction().map_err(stamping())?;
    for statement in stamp.to_replacing_statements(DbBackend::Sqlite) {
        transaction.execute(&statement.sql, []).map_err(stamping())?;
    }
    transaction.commit().map_err(stamping())?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(stamping())?;
    connection.close().map_err(|(_, e)| stamping()(e))?;
    Ok(())
}

/// Refuses a copy with another stamp than its manifest says: not the tenant's database is wrong then,
/// but the copy.
fn require_stamp_of(manifest: &BackupManifest, found: Option<Stamp>) -> mt_core::Result<()> {
    let BackupManifest { deployment, tenant, generation, .. } = manifest;
    let is_stamped = match found {
        None => "carries no stamp".to_owned(),
        Some(found) if found.check(*deployment, tenant, *generation).is_ok() => return Ok(()),
        Some(Stamp { deployment, tenant, generation, .. }) => {
            format!("is stamped for tenant `{tenant}` of {deployment}, generation {generation}")
        }
    };
    let message = format!(
        "the copy {is_stamped}; its manifest says `{tenant}` of {deployment}, generation \
         {generation}, so one of the two was changed"
    );
    Err(mt_core::Error::new(mt_core::ErrorKind::ForeignDatabase, message))
}

/// Gives a file in WAL mode pages of 4096 bytes and no auto-vacuum, where it has others: what
/// services take that a database can be uploaded to. Rows keep their numbers.
///
/// # Errors
/// `Unsupported`: its text is not UTF-8. `QuotaExceeded`: no room for a second file.
pub fn standardized(file: ScratchFile) -> mt_core::Result<ScratchFile> {
    let opening = || Error::sqlite("open the copy");
    let connection = Connection::open(file.path()).map_err(opening())?;
    let number = |pragma: &str| {
        connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(opening())
    };
    let encoding: String =
        connection.pragma_query_value(None, "encoding", |row| row.get(0)).map_err(opening())?;
    if encoding != "UTF-8" {
        return Err(Error::Encoding(encoding).into());
    }
    if number("page_size")? == PAGE_BYTES && number("auto_vacuum")? == 0 {
        return Ok(file);
    }
    let rewriting = || Error::sqlite("rewrite the copy with pages of another size");
    let directory = file.path().parent().unwrap_or(Path::new("."));
    let standard = ScratchFile::in_directory(directory)?;
    let settings = format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = 0;");
    connection.execute_batch(&settings).map_err(rewriting())?;
    // In place it would number the rows anew, and keep the size of the pages.
    let target = standard.path().to_string_lossy();
    connection.execute("VACUUM INTO ?1", [target]).map_err(rewriting())?;
    let rewritten = Connection::open(standard.path()).map_err(rewriting())?;
    rewritten.pragma_update(None, "journal_mode", "WAL").map_err(rewriting())?;
    rewritten.close().map_err(|(_, e)| rewriting()(e))?;
    connection.close().map_err(|(_, e)| rewriting()(e))?;
    Ok(standard)
}
