//! Copies of tenants, and what is made of them.

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mt_control::{MigrateAll, MultiTenancy, RestoreAs};
use mt_core::{ErrorKind, TenantId, TenantState};
use mt_tests::Installation;

use crate::support::{
    NOTES, Process, add, all_closed, bytes, column, eventually, file_of, kind_in, names, notes,
    runner, sql, tenant,
};

/// The entries of an archive, as `tar` reads them.
fn entries(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        (name, contents)
    };
    archive.entries().unwrap().map(read).collect()
}

async fn texts(tenants: &MultiTenancy, id: &TenantId) -> Vec<String> {
    notes(&tenants.get_adapters(id).await.unwrap()).await.unwrap()
}

/// A tenant with one note and a backup of it, and another note after that.
async fn with_backup(installation: &Installation, id: &TenantId) -> (MultiTenancy, PathBuf) {
    let tenants = Process::of(installation).open().await;
    tenants.provision(id).await.unwrap();
    add(&tenants.get_adapters(id).await.unwrap(), "in the backup").await.unwrap();
    let path = installation.path().join(format!("{id}.tar"));
    tenants.backup(id, &path).await.unwrap();
    add(&tenants.get_adapters(id).await.unwrap(), "after the backup").await.unwrap();
    (tenants, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_taken_while_it_is_written_to_is_of_one_moment() {
    const WRITERS: usize = 4;
    let installation = Installation::new().unwrap();
    let tenants = Process::of(&installation).open().await;
    let acme = tenant("acme");
    tenants.provision(&acme).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let written: Arc<Vec<AtomicUsize>> =
        Arc::new((0..WRITERS).map(|_| AtomicUsize::new(0)).collect());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (tenants, acme) = (tenants.clone(), acme.clone());
            let (over, written) = (Arc::clone(&over), Arc::clone(&written));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let data = tenants.get_adapters(&acme).await.unwrap();
                    let number = written[writer].load(Ordering::SeqCst);
                    add(&data, &format!("{writer}:{number:06}")).await.unwrap();
                    written[writer].store(number + 1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let counts = || written.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
    for round in 0..5 {
        let then = counts();
        eventually("writes", || async { counts().iter().zip(&then).all(|(now, then)| now > then) })
            .await;
        let path = installation.path().join(format!("{round}.tar"));
        let before = counts();
        let manifest = tenants.backup(&acme, &path).await.unwrap();
        let after = counts();
        let copy = installation.path().join(format!("{round}.sqlite"));
        std::fs::write(&copy, &entries(&path)["database"]).unwrap();
        let rows = column(&copy, "SELECT text FROM notes ORDER BY text");
        assert_eq!(manifest.rows["notes"], rows.len() as u64);
        for writer in 0..WRITERS {
            let own = format!("{writer}:");
            let own: Vec<_> = rows.iter().filter(|row| row.starts_with(&own)).collect();
            let prefix: Vec<_> = (0..own.len()).map(|n| format!("{writer}:{n:06}")).collect();
            assert_eq!(own, prefix.iter().collect::<Vec<_>>(), "no gap");
            assert!(own.len() >= before[writer], "what was acknowledged before is in it");
            assert!(own.len() <= after[writer] + 1);
        }
    }
    over.store(true, Ordering::SeqCst);
    join_all(writers).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_tenant_has_its_data_back_in_a_new_generation() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    let held = tenants.get_adapters(&acme).await.unwrap();
    for generation in 2..=3 {
        let record = tenants.restore(&acme, &path, RestoreAs::Same).await.unwrap();
        assert_eq!((record.state, record.last_error), (TenantState::Active, None));
        assert_eq!(record.placement.generation.get(), generation);
        assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
        assert!(file_of(&installation, "acme", generation).exists());
        assert!(!file_of(&installation, "acme", generation - 1).exists());
        add(&tenants.get_adapters(&acme).await.unwrap(), "new").await.unwrap();
    }
    assert_eq!(
        kind_in(&add(&held, "into the old one").await.unwrap_err()),
        Some(ErrorKind::TenantNotActive)
    );
    tenants.suspend(&acme).await.unwrap();
    let record = tenants.restore(&acme, &path, RestoreAs::Same).await.unwrap();
    assert_eq!(record.state, TenantState::Suspended, "it is in the state it was in");
    tenants.activate(&acme).await.unwrap();
    assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
    tenants.deprovision(&acme).await.unwrap();
    assert_eq!(names(&installation.tenants_path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_older_than_the_schema_is_found_by_the_next_migration() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (old, path) = with_backup(&installation, &acme).await;
    old.shutdown().await.unwrap();
    let more = sql("m2_more", "CREATE TABLE more (x)");
    let tenants = Process::of(&installation).schema(runner([NOTES, more])).open().await;
    let migrate = async || {
        let report = tenants.migrate_all(MigrateAll::default()).await.unwrap();
        report.migrated().count()
    };
    assert_eq!(migrate().await, 1);
    let record = tenants.restore(&acme, &path, RestoreAs::Same).await.unwrap();
    assert_eq!(record.schema_version.as_deref(), Some("m1_notes"));
    assert_eq!((migrate().await, migrate().await), (1, 0));
    assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
    // As a new tenant it is brought up to date at once.
    let record = tenants.restore(&acme, &path, RestoreAs::New(tenant("copy"))).await.unwrap();
    assert_eq!(record.schema_version.as_deref(), Some("m2_more"));
    assert_eq!(migrate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_is_made_of_a_copy_also_of_another_installation() {
    let (here, there) = (Installation::new().unwrap(), Installation::new().unwrap());
    let (acme, copy) = (tenant("acme"), tenant("copy"));
    let (tenants, path) = with_backup(&here, &acme).await;
    let seeds = Arc::new(AtomicUsize::new(0));
    let seeded = Arc::clone(&seeds);
    let others = Process::of(&there)
        .hooks(move |isolation| {
            isolation.seed(move |_| {
                seeded.fetch_add(1, Ordering::SeqCst);
                async { Ok::<(), &str>(()) }
            })
        })
        .open()
        .await;
    for (tenants, installation) in [(&tenants, &here), (&others, &there)] {
        let as_copy = || RestoreAs::New(copy.clone());
        let record = tenants.restore(&acme, &path, as_copy()).await.unwrap();
        assert_eq!((record.tenant, record.state), (copy.clone(), TenantState::Active));
        assert_eq!(texts(tenants, &copy).await, ["in the backup"]);
        let stamp = tenants.get_adapters(&copy).await.unwrap().stamp().clone();
        assert_eq!((&stamp.tenant, stamp.deployment), (&copy, tenants.catalog().deployment()));
        let again = tenants.restore(&acme, &path, as_copy()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::TenantExists);
        let by_case = RestoreAs::New(tenant("Copy"));
        let again = tenants.restore(&acme, &path, by_case).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::TenantExists);
        assert!(file_of(installation, "copy", 1).exists());
    }
    assert_eq!(texts(&tenants, &acme).await, ["in the backup", "after the backup"]);
    assert_eq!(seeds.load(Ordering::SeqCst), 0, "a copy has its data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_tenant_or_installation_replaces_nobodys_data() {
    let (here, there) = (Installation::new().unwrap(), Installation::new().unwrap());
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let (tenants, path) = with_backup(&here, &acme).await;
    tenants.provision(&globex).await.unwrap();
    add(&tenants.get_adapters(&globex).await.unwrap(), "theirs").await.unwrap();
    let error = tenants.restore(&globex, &path, RestoreAs::Same).await.unwrap_err();
    assert_eq!((error.kind(), error.tenant()), (ErrorKind::ForeignDatabase, Some(&globex)));
    assert_eq!(texts(&tenants, &globex).await, ["theirs"]);

    let (others, _) = with_backup(&there, &acme).await;
    let error = others.restore(&acme, &path, RestoreAs::Same).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignDatabase);
    let record = others.catalog().get(&acme).await.unwrap();
    assert_eq!((record.state, record.placement.generation.get()), (TenantState::Active, 1));
    assert_eq!(texts(&others, &acme).await, ["in the backup", "after the backup"]);

    tenants.deprovision(&acme).await.unwrap();
    let error = tenants.restore(&acme, &path, RestoreAs::Same).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotFound);
    assert!(!file_of(&here, "acme", 1).exists());
}

/// Every way to damage an archive of which a restore must not make anything.
fn damaged(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let find = |text: &str| {
        let at = whole.windows(text.len()).position(|window| window == text.as_bytes());
        at.unwrap_or_else(|| panic!("{text}"))
    };
    let manifest = find("\"format\"");
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    // Torn: within each header, the copy and the manifest.
    let step = manifest / 23;
    for cut in (0..manifest).step_by(step).chain([1, 511, 512, 513, manifest - 512, manifest + 9]) {
        all.push((format!("cut at {cut}"), whole[..cut].to_vec()));
    }
    // Edited: one bit at a time, headers' checksums, the copy's pages, the manifest.
    for at in (0..manifest - 600).step_by(step).chain([0, 130, 150, 512, 512 + 100]) {
        let mut edited = whole.to_vec();
        edited[at] ^= 0x01;
        all.push((format!("bit at {at}"), edited));
    }
    for (from, to) in [
        ("\"notes\": 1", "\"notes\": 9"),
        ("\"sha256\": \"", "\"sha256\": \"z"),
        ("\"size_bytes\": ", "\"size_bytes\": 9"),
        ("\"size_bytes\": ", "\"size_bytes\":-1"),
        ("\"generation\": 1", "\"generation\": 0"),
    ] {
        let at = find(from);
        let mut edited = whole.to_vec();
        edited[at..at + to.len()].copy_from_slice(to.as_bytes());
        all.push((format!("{from} made {to}"), edited));
    }
    all.push(("noise".to_owned(), b"not an archive at all ".repeat(100)));
    all.push(("a database".to_owned(), whole[512..manifest].to_vec()));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_or_edited_archive_is_corrupt_and_nothing_changes() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    let whole = std::fs::read(&path).unwrap();
    tenants.shutdown().await.unwrap();
    all_closed(&installation.tenants_path()).await;
    let tenants = Process::of(&installation).open().await;
    let before = bytes(&installation.tenants_path());
    let broken = installation.path().join("broken.tar");
    for (how, contents) in damaged(&whole) {
        assert!(contents != whole, "{how}");
        std::fs::write(&broken, contents).unwrap();
        let error = tenants.restore(&acme, &broken, RestoreAs::Same).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{how}: {error:?}");
        let record = tenants.catalog().get(&acme).await.unwrap();
        assert_eq!(record.state, TenantState::Active, "{how}");
        assert_eq!(record.placement.generation.get(), 1, "{how}");
        assert!(bytes(&installation.tenants_path()) == before, "{how}");
    }
    let missing = tenants.restore(&acme, installation.path().join("no"), RestoreAs::Same).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(texts(&tenants, &acme).await, ["in the backup", "after the backup"]);
    tenants.restore(&acme, &path, RestoreAs::Same).await.unwrap();
    assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_is_not_made_of_a_damaged_copy() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    let mut contents = std::fs::read(&path).unwrap();
    contents[5_000] ^= 0x10;
    let broken = installation.path().join("broken.tar");
    std::fs::write(&broken, contents).unwrap();
    let copy = tenant("copy");
    let before = names(&installation.tenants_path());
    let error = tenants.restore(&acme, &broken, RestoreAs::New(copy.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let refused = tenants.get_adapters(&copy).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotActive);
    assert_eq!(names(&installation.tenants_path()), before);
    let record = tenants.catalog().get(&copy).await.unwrap();
    assert_eq!((record.state, record.restoring), (TenantState::Failed, true));
    // Provisioning it would make a tenant without the data it is for.
    assert_eq!(tenants.provision(&copy).await.unwrap_err().kind(), ErrorKind::Conflict);
    // Nor does a removal that fails make it one that can be provisioned.
    let file = file_of(&installation, "copy", 1);
    std::fs::write(&file, "somebody's letter, and no database. ".repeat(100)).unwrap();
    assert!(tenants.deprovision(&copy).await.is_err());
    assert_eq!(tenants.provision(&copy).await.unwrap_err().kind(), ErrorKind::Conflict);
    std::fs::remove_file(file).unwrap();
    tenants.deprovision(&copy).await.unwrap();
    tenants.restore(&acme, &path, RestoreAs::New(copy.clone())).await.unwrap();
    assert_eq!(texts(&tenants, &copy).await, ["in the backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_an_ordinary_tar_and_its_manifest_holds_no_secret() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let tenants = Process::of(&installation).open().await;
    tenants.provision(&acme).await.unwrap();
    add(&tenants.get_adapters(&acme).await.unwrap(), "a private note").await.unwrap();
    let path = installation.path().join("acme.tar");
    let manifest = tenants.backup(&acme, &path).await.unwrap();
    let entries = entries(&path);
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["database", "manifest.json"]);
    assert_eq!(entries["database"].len() as u64, manifest.size_bytes);
    assert!(entries["database"].starts_with(b"SQLite format 3\0"));
    let text = String::from_utf8(entries["manifest.json"].clone()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json, serde_json::to_value(&manifest).unwrap());
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let known = [
        "created_at",
        "deployment",
        "encoding",
        "format",
        "generation",
        "rows",
        "schema_version",
        "sha256",
        "size_bytes",
        "tenant",
    ];
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, known);
    assert!(!text.contains("private"), "{text}");
    assert!(!text.contains(installation.path().to_str().unwrap()), "{text}");
    assert_eq!(json["rows"]["notes"], 1);
    assert_eq!(manifest.schema_version.as_deref(), Some("m1_notes"));
    let mode = std::fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "nobody else may read it: {mode:o}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_there_is_not_overwritten() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    let before = std::fs::read(&path).unwrap();
    let listed = names(installation.path()).len();
    assert_eq!(tenants.backup(&acme, &path).await.unwrap_err().kind(), ErrorKind::Config);
    let nowhere = installation.path().join("no/such/folder.tar");
    assert_eq!(tenants.backup(&acme, &nowhere).await.unwrap_err().kind(), ErrorKind::Config);
    let nobody = installation.path().join("nobody.tar");
    let error = tenants.backup(&tenant("nobody"), &nobody).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantNotFound);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(names(installation.path()).len(), listed, "nothing half written is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_process_serves_is_not_replaced_under_it() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (first, path) = with_backup(&installation, &acme).await;
    first.shutdown().await.unwrap();
    let service = Process::of(&installation)
        .settings(|builder| builder.with_state_ttl(Duration::from_secs(3600)))
        .open()
        .await;
    let admin = Process::of(&installation).drain(Duration::from_millis(100)).open().await;
    let held = service.get_adapters(&acme).await.unwrap();
    let file = file_of(&installation, "acme", 1);
    let inode = std::fs::metadata(&file).unwrap().ino();
    for outcome in [
        admin.restore(&acme, &path, RestoreAs::Same).await.map(drop),
        admin.deprovision(&acme).await,
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InUse);
        assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode);
        let record = admin.catalog().get(&acme).await.unwrap();
        assert_eq!((record.state, record.placement.generation.get()), (TenantState::Active, 1));
    }
    add(&held, "served on").await.unwrap();
    let all = ["in the backup", "after the backup", "served on"];
    assert_eq!(notes(&held).await.unwrap(), all);
    assert_eq!(texts(&admin, &acme).await, all);
    drop(held);
    service.shutdown().await.unwrap();
    admin.restore(&acme, &path, RestoreAs::Same).await.unwrap();
    assert_eq!(texts(&admin, &acme).await, ["in the backup"]);
}

/// Writers go on in the process that serves; what they were told is written before the copy took
/// the database's place was in the old one, and what they write after is in the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_waits_until_the_process_that_serves_lets_go() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (first, path) = with_backup(&installation, &acme).await;
    first.shutdown().await.unwrap();
    let service = Process::of(&installation)
        .settings(|builder| builder.with_state_ttl(Duration::from_millis(50)))
        .open()
        .await;
    let admin = Process::of(&installation).open().await;
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (service, acme, over) = (service.clone(), acme.clone(), Arc::clone(&over));
        async move {
            let mut acknowledged: Vec<(u32, String)> = Vec::new();
            for number in 0.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                match service.get_adapters(&acme).await {
                    Ok(data) => {
                        let text = format!("written {number}");
                        match add(&data, &text).await {
                            Ok(()) => {
                                let generation = data.stamp().generation.get();
                                acknowledged.push((generation, text));
                            }
                            Err(e) => assert_eq!(kind_in(&e), Some(ErrorKind::TenantNotActive)),
                        }
                    }
                    Err(e) => assert!(
                        [ErrorKind::TenantNotActive, ErrorKind::ForeignDatabase, ErrorKind::InUse,]
                            .contains(&e.kind()),
                        "{e:?}"
                    ),
                }
                tokio::task::yield_now().await;
            }
            acknowledged
        }
    });
    let old = file_of(&installation, "acme", 1);
    eventually("writes", || async { column(&old, "SELECT text FROM notes").len() > 10 }).await;
    let record = admin.restore(&acme, &path, RestoreAs::Same).await.unwrap();
    assert_eq!(record.placement.generation.get(), 2);
    let new = file_of(&installation, "acme", 2);
    eventually("writes", || async { column(&new, "SELECT text FROM notes").len() > 10 }).await;
    over.store(true, Ordering::SeqCst);
    let acknowledged = writer.await.unwrap();
    let kept = column(&new, "SELECT text FROM notes ORDER BY id");
    let expected = acknowledged.iter().filter(|(generation, _)| *generation == 2);
    let expected: Vec<_> = expected.map(|(_, text)| text.as_str()).collect();
    assert_eq!(kept[0], "in the backup");
    assert_eq!(kept[1..], expected);
    assert!(!old.exists());
    let generations: Vec<u32> = acknowledged.iter().map(|(generation, _)| *generation).collect();
    assert!(generations.is_sorted(), "nobody went back to the old database");
}

/// As after `control.db` was put back from an older copy: the file is there, the row is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_never_takes_the_place_of_a_database_that_is_there() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    let lost = tenant("lost");
    tenants.provision(&lost).await.unwrap();
    add(&tenants.get_adapters(&lost).await.unwrap(), "not in the catalog").await.unwrap();
    tenants.shutdown().await.unwrap();
    let catalog = rusqlite::Connection::open(installation.path().join("control.db")).unwrap();
    assert_eq!(catalog.execute("DELETE FROM tenant WHERE id = 'lost'", []).unwrap(), 1);
    drop(catalog);

    let tenants = Process::of(&installation).open().await;
    let damaged = installation.path().join("damaged.tar");
    let mut archive = std::fs::read(&path).unwrap();
    archive[5_000] ^= 1;
    std::fs::write(&damaged, archive).unwrap();
    for archive in [&damaged, &path] {
        let refused = tenants.restore(&acme, archive, RestoreAs::New(lost.clone())).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NameTaken);
        assert!(tenants.catalog().find(&lost).await.unwrap().is_none(), "nothing of it is ours");
        let file = file_of(&installation, "lost", 1);
        assert_eq!(column(&file, "SELECT text FROM notes"), ["not in the catalog"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_catalog_is_told_apart() {
    let installation = Installation::new().unwrap();
    let path = installation.path().join("control.db");
    std::fs::write(&path, "no catalog, but a letter. ".repeat(100)).unwrap();
    let error = mt_control::Catalog::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.to_chain());
    let inside_a_file = path.join("control.db");
    let error = mt_control::Catalog::open(inside_a_file).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.to_chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_suspends_a_tenant_during_its_restore_is_heard() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    // Somebody has it open, so that the restore has to wait.
    let held = Process::of(&installation).open().await;
    let data = held.get_adapters(&acme).await.unwrap();
    let restoring = tokio::spawn({
        let (tenants, acme) = (tenants.clone(), acme.clone());
        async move { tenants.restore(&acme, path, RestoreAs::Same).await }
    });
    let is_restoring = || async { held.catalog().get(&acme).await.unwrap().restoring };
    eventually("the restore", is_restoring).await;
    let again = held.restore(&acme, installation.path().join("acme.tar"), RestoreAs::Same).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    held.suspend(&acme).await.unwrap();
    drop(data);
    let record = restoring.await.unwrap().unwrap();
    assert_eq!((record.state, record.restoring), (TenantState::Suspended, false));
    tenants.activate(&acme).await.unwrap();
    assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_a_file_that_is_no_database_any_more() {
    let installation = Installation::new().unwrap();
    let acme = tenant("acme");
    let (tenants, path) = with_backup(&installation, &acme).await;
    tenants.shutdown().await.unwrap();
    let file = file_of(&installation, "acme", 1);
    std::fs::write(&file, "the disk was not what it seemed. ".repeat(200)).unwrap();
    let tenants = Process::of(&installation).open().await;
    assert_eq!(tenants.get_adapters(&acme).await.unwrap_err().kind(), ErrorKind::Corrupt);
    tenants.restore(&acme, path, RestoreAs::Same).await.unwrap();
    assert_eq!(texts(&tenants, &acme).await, ["in the backup"]);
    assert!(!file.exists());
    assert!(file.with_extension("sqlite.corrupt").exists(), "the damaged file is kept");
}
