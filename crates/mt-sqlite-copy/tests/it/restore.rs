use chrono::Utc;
use mt_core::{BackupManifest, DeploymentId, ErrorKind, Generation, Stamp, TenantId};
use mt_sqlite_copy::{
    Contents, ScratchFile, find_stamp, manifest, receive, send, standardized, verify_and_stamp,
};
use rusqlite::Connection;
use sea_orm::DbBackend;

use crate::scratch;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A copy of a database of the tenant `acme`.
async fn copy() -> (Vec<u8>, BackupManifest) {
    let file = scratch();
    let stamp = Stamp::new(DeploymentId::random(), &tenant("acme"), Generation::FIRST);
    let connection = Connection::open(file.path()).unwrap();
    for statement in stamp.to_statements(DbBackend::Sqlite, Some("ledger")) {
        connection.execute(&statement.sql, []).unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO ledger VALUES ('m1', 1), ('m2', 2); CREATE TABLE note (text TEXT);
             INSERT INTO note VALUES ('hello'), ('world');",
        )
        .unwrap();
    let contents = Contents::read(&connection, Some("ledger")).unwrap();
    connection.close().unwrap();
    let mut bytes = Vec::new();
    let sent = send(file.path(), &mut bytes).await.unwrap();
    (bytes, manifest(stamp, Utc::now(), contents, sent).unwrap())
}

#[tokio::test]
async fn a_copy_arrives_and_is_stamped_anew() {
    let (bytes, manifest) = copy().await;
    assert_eq!(manifest.schema_version.as_deref(), Some("m2"));
    assert_eq!(manifest.size_bytes, bytes.len() as u64);
    let file = scratch();
    receive(&manifest, &mut bytes.as_slice(), &file).await.unwrap();
    assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
    let next = Generation::FIRST.next();
    let stamp = Stamp::new(DeploymentId::random(), &tenant("other"), next);
    verify_and_stamp(&file, &manifest, &stamp).unwrap();
    let connection = Connection::open(file.path()).unwrap();
    assert_eq!(find_stamp(&connection).unwrap(), Some(stamp));
    let notes: i64 = connection.query_row("SELECT count(*) FROM note", [], |r| r.get(0)).unwrap();
    assert_eq!(notes, 2);
}

#[tokio::test]
async fn a_copy_that_is_not_what_its_manifest_says_is_corrupt() {
    let (bytes, manifest) = copy().await;
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut longer = bytes.clone();
    longer.push(0);
    for wrong in [&flipped, &longer, &bytes[..bytes.len() - 1].to_vec(), &Vec::new()] {
        let error = receive(&manifest, &mut wrong.as_slice(), &scratch()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.to_chain());
    }
}

async fn received(bytes: &[u8], manifest: &BackupManifest) -> ScratchFile {
    let file = scratch();
    receive(manifest, &mut &bytes[..], &file).await.unwrap();
    file
}

#[tokio::test]
async fn a_received_file_is_looked_into() {
    let (bytes, good) = copy().await;
    let stamp = Stamp::new(good.deployment, &good.tenant, good.generation.next());
    let mut more = good.clone();
    more.rows.insert("note".to_owned(), 3);
    let mut foreign = good.clone();
    foreign.tenant = tenant("other");
    let mut newer = good.clone();
    newer.generation = good.generation.next();
    for (wrong, kind) in [
        (more, ErrorKind::Corrupt),
        (foreign, ErrorKind::ForeignDatabase),
        (newer, ErrorKind::ForeignDatabase),
    ] {
        let error = verify_and_stamp(&received(&bytes, &good).await, &wrong, &stamp).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.to_chain());
    }
    let file = scratch();
    std::fs::write(file.path(), [7; 4096]).unwrap();
    let error = verify_and_stamp(&file, &good, &stamp).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.to_chain());
    // An empty file is a database without tables.
    let error = verify_and_stamp(&scratch(), &good, &stamp).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase, "{}", error.to_chain());
}

#[test]
fn a_file_is_made_what_a_service_takes() {
    for (pragmas, is_rewritten) in [
        ("", false),
        ("PRAGMA page_size = 8192;", true),
        ("PRAGMA auto_vacuum = 1;", true),
        ("PRAGMA page_size = 512; PRAGMA auto_vacuum = 2;", true),
    ] {
        let file = scratch();
        let connection = Connection::open(file.path()).unwrap();
        let fill = "CREATE TABLE note (text TEXT); INSERT INTO note (rowid, text) VALUES (7, 'x');
            PRAGMA journal_mode = WAL;";
        connection.execute_batch(&format!("{pragmas}{fill}")).unwrap();
        connection.close().unwrap();
        let before = file.path().to_owned();
        let file = standardized(file).unwrap();
        assert_eq!(file.path() != before, is_rewritten, "{pragmas}");
        assert_eq!(before.exists(), !is_rewritten, "{pragmas}");
        let bytes = std::fs::read(file.path()).unwrap();
        // https://www.sqlite.org/fileformat2.html#the_database_header
        assert_eq!(bytes[16..20], [0x10, 0, 2, 2], "{pragmas}");
        assert_eq!(bytes[52..60], [0, 0, 0, 0, 0, 0, 0, 1], "{pragmas}");
        let connection = Connection::open(file.path()).unwrap();
        let id: i64 = connection.query_row("SELECT rowid FROM note", [], |r| r.get(0)).unwrap();
        assert_eq!(id, 7, "{pragmas}");
    }
}

#[test]
fn another_encoding_is_not_made_utf_8() {
    let file = scratch();
    let connection = Connection::open(file.path()).unwrap();
    connection.execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a)").unwrap();
    connection.close().unwrap();
    let error = standardized(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("UTF-16le"), "{}", error.to_chain());
}

#[tokio::test]
async fn a_copy_of_a_database_that_changed_hands_has_no_manifest() {
    let (bytes, good) = copy().await;
    let file = received(&bytes, &good).await;
    let connection = Connection::open(file.path()).unwrap();
    let contents = Contents::read(&connection, None).unwrap();
    let sent = send(file.path(), &mut Vec::new()).await.unwrap();
    let stamp = Stamp::new(good.deployment, &tenant("other"), good.generation);
    let error = manifest(stamp, Utc::now(), contents, sent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
