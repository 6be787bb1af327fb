//! Restores that are refused, cut off or repeated.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use mt_conformance::{MemoryPlacements, PlacementFault};
use mt_core::{
    DatabaseFactory as _, DeploymentId, ErrorKind, FactoryContext, Placement, PlacementStore as _,
    RestoreOptions,
};
use sea_orm::ConnectionTrait as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use crate::support::{Stage, Taken, text};

const TABLE: &str = "CREATE TABLE t (x int); INSERT INTO t VALUES (1)";

/// A tenant with a copy of the row 1, and the row 2 beside it since; `None`: no copies here.
async fn start(context: Option<FactoryContext>) -> Option<(Stage, Taken)> {
    let stage = match context {
        Some(context) => Stage::with(context).await,
        None => Stage::set().await,
    };
    stage.as_owner(TABLE).await;
    if !stage.can_copy().await {
        return None;
    }
    let taken = Taken::of(&stage.factory, &stage.tenant).await.unwrap();
    stage.as_owner("INSERT INTO t VALUES (2)").await;
    Some((stage, taken))
}

async fn rows(stage: &Stage) -> String {
    let mut inside = stage.inside(&stage.database().await).await;
    text(&mut inside, "SELECT string_agg(x::text, ',' ORDER BY x) FROM t").await
}

/// The names of the tenant's databases.
async fn databases(stage: &Stage) -> String {
    let sql = format!(
        "SELECT string_agg(datname, ',') FROM pg_database WHERE starts_with(datname, '{}')",
        stage.site.prefix
    );
    text(&mut stage.superuser().await, sql).await
}

/// Gives out a part of a copy, and then waits forever.
struct Stalling<'b>(&'b [u8], Arc<AtomicBool>);

impl AsyncRead for Stalling<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            self.1.store(true, Ordering::SeqCst);
            return Poll::Pending;
        }
        let some = self.0.len().min(into.remaining());
        into.put_slice(&self.0[..some]);
        self.0 = &self.0[some..];
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_restore_cut_off_half_way_leaves_nothing_and_can_be_repeated() {
    let Some((stage, taken)) = start(None).await else { return };
    for part in [0, taken.bytes.len() / 2, taken.bytes.len()] {
        let stalled = Arc::new(AtomicBool::new(false));
        let mut source = Stalling(&taken.bytes[..part], Arc::clone(&stalled));
        let options = RestoreOptions::default();
        let waits = async {
            while !stalled.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Its password is of no use to whoever finds it later.
            let sql = format!(
                "SELECT string_agg((rolvaliduntil - now() BETWEEN interval '50 minutes' \
                 AND interval '1 hour')::text, ',') FROM pg_roles \
                 WHERE starts_with(rolname, '{}--d-')",
                stage.site.prefix
            );
            assert_eq!(text(&mut stage.superuser().await, sql).await, "true");
        };
        tokio::select! {
            restored = stage.factory.restore(&stage.tenant, &taken.manifest, &mut source, options) => {
                panic!("{restored:?}")
            }
            () = waits => {}
        }
        stage.tidied().await;
        assert_eq!(rows(&stage).await, "1,2");
    }
    taken.restore(&stage.factory, &stage.tenant).await.unwrap();
    assert_eq!(rows(&stage).await, "1");
    assert_eq!(stage.remains().await, [""; 0]);
}

#[tokio::test]
async fn a_damaged_archive_is_refused_whatever_its_manifest_says() {
    let Some((stage, taken)) = start(None).await else { return };
    let middle = taken.bytes.len() / 2;
    let (mut flipped, mut padded) = (taken.bytes.clone(), taken.bytes.clone());
    // The version of the archive.
    flipped[5] = 0xff;
    padded.truncate(40);
    padded.resize(8_192, 0);
    let generation = stage.factory.describe(&stage.tenant).await.unwrap().stamp.generation;
    for (bytes, kinds) in [
        (taken.bytes[..middle].to_vec(), &[ErrorKind::Corrupt][..]),
        (b"PGDMP".to_vec(), &[ErrorKind::Corrupt]),
        (b"SELECT 1;".to_vec(), &[ErrorKind::Corrupt]),
        (padded, &[ErrorKind::Corrupt]),
        (flipped, &[ErrorKind::Corrupt, ErrorKind::Unsupported]),
    ] {
        let length = bytes.len();
        let restored = taken.resealed(bytes).restore(&stage.factory, &stage.tenant).await;
        let error = restored.unwrap_err();
        assert!(kinds.contains(&error.kind()), "{length}: {}", error.to_chain());
        assert_eq!((rows(&stage).await.as_str(), stage.remains().await), ("1,2", vec![]));
    }
    let info = stage.factory.describe(&stage.tenant).await.unwrap();
    assert_eq!(info.stamp.generation, generation);
}

#[tokio::test]
async fn a_switch_whose_answer_is_lost_is_looked_up_and_a_repeated_restore_finds_what_is_left() {
    let store = Arc::new(MemoryPlacements::default());
    let context =
        FactoryContext::new(DeploymentId::random()).with_placements(Arc::clone(&store) as _);
    let Some((stage, taken)) = start(Some(context)).await else { return };
    store.fail(Some(PlacementFault::Made));
    taken.restore(&stage.factory, &stage.tenant).await.unwrap();
    assert_eq!(rows(&stage).await, "1");

    stage.as_owner("INSERT INTO t VALUES (3)").await;
    store.fail(Some(PlacementFault::NotMade));
    let error = taken.restore(&stage.factory, &stage.tenant).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Asked twice without an answer, it may still do so: both are there.
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(databases(&stage).await.split(',').count(), 2);
    // The old one is open again.
    stage.factory.get_adapters(&stage.tenant).await.unwrap();
    assert_eq!(rows(&stage).await, "1,3");

    store.fail(Some(PlacementFault::Silent));
    let error = taken.restore(&stage.factory, &stage.tenant).await.unwrap_err();
    assert!(error.to_string().contains("not known"), "{error}");
    store.fail(None);
    // Both are there, and the old one is served.
    assert_eq!(databases(&stage).await.split(',').count(), 2);
    assert_eq!(rows(&stage).await, "1,3");
    stage.factory.get_adapters(&stage.tenant).await.unwrap();
    taken.restore(&stage.factory, &stage.tenant).await.unwrap();
    assert_eq!(databases(&stage).await.split(',').count(), 1);
    assert_eq!((rows(&stage).await.as_str(), stage.remains().await), ("1", vec![]));

    // Whoever restored died after he had switched: the next restore removes both of before.
    store.fail(Some(PlacementFault::NotMade));
    taken.restore(&stage.factory, &stage.tenant).await.unwrap_err();
    store.fail(None);
    let before = store.get(&stage.tenant).await.unwrap().unwrap();
    let after = Placement::derived(before.generation.next());
    store.compare_and_set(&stage.tenant, &before, &after).await.unwrap();
    assert_eq!(databases(&stage).await.split(',').count(), 2);
    taken.restore(&stage.factory, &stage.tenant).await.unwrap();
    assert_eq!(databases(&stage).await.split(',').count(), 1);
    assert_eq!((rows(&stage).await.as_str(), stage.remains().await), ("1", vec![]));
    stage.factory.deprovision(&stage.tenant).await.unwrap();
    assert_eq!(databases(&stage).await, "");
}

#[tokio::test]
async fn a_restore_that_lost_its_turn_replaces_nothing() {
    let Some((stage, taken)) = start(None).await else { return };
    let database = stage.database().await;
    let mut superuser = stage.superuser().await;
    // It waits until nobody is in the database.
    let inside = stage.inside(&database).await;
    let restore = taken.restore(&stage.factory, &stage.tenant);
    let lose = async {
        let is_open =
            format!("SELECT datallowconn::text FROM pg_database WHERE datname = '{database}'");
        while text(&mut superuser, is_open.as_str()).await == "true" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let digest = Sha256::digest(&database);
        let key = i64::from_be_bytes(digest[..8].try_into().unwrap());
        let end = format!(
            "SELECT count(pg_terminate_backend(pid))::text FROM pg_locks \
             WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = {key}"
        );
        assert_eq!(text(&mut superuser, end).await, "1");
        drop(inside);
    };
    let (restored, ()) = tokio::join!(restore, lose);
    assert_eq!(restored.unwrap_err().kind(), ErrorKind::Unavailable);
    stage.tidied().await;
    assert_eq!((databases(&stage).await, rows(&stage).await.as_str()), (database, "1,2"));
    stage.factory.get_adapters(&stage.tenant).await.unwrap();
    taken.restore(&stage.factory, &stage.tenant).await.unwrap();
    assert_eq!(rows(&stage).await, "1");
}

#[tokio::test]
async fn of_two_restores_at_once_one_database_is_left() {
    let Some((stage, taken)) = start(None).await else { return };
    // As two processes have it.
    let other = stage.site.factory(&stage.context);
    let (one, two) = tokio::join!(
        taken.restore(&stage.factory, &stage.tenant),
        taken.restore(&other, &stage.tenant)
    );
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    for error in [one, two].into_iter().filter_map(Result::err) {
        let kinds = [ErrorKind::Conflict, ErrorKind::InUse];
        assert!(kinds.contains(&error.kind()), "{}", error.to_chain());
    }
    assert_eq!(rows(&stage).await, "1");
    assert_eq!(databases(&stage).await.split(',').count(), 1);
    assert_eq!(stage.remains().await, [""; 0]);
}

#[tokio::test]
async fn a_restore_and_a_removal_at_once_leave_all_or_nothing() {
    let Some((stage, taken)) = start(None).await else { return };
    let other = stage.site.factory(&stage.context);
    let (restored, removed) = tokio::join!(
        taken.restore(&stage.factory, &stage.tenant),
        other.deprovision(&stage.tenant)
    );
    removed.unwrap();
    match stage.factory.describe(&stage.tenant).await {
        Ok(_) => {
            restored.unwrap();
            stage.factory.deprovision(&stage.tenant).await.unwrap();
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::TenantNotFound),
    }
    assert_eq!((databases(&stage).await.as_str(), stage.remains().await), ("", vec![]));
}

#[tokio::test]
async fn a_store_that_cannot_change_is_refused_before_anything_is_made() {
    let stage = Stage::with(FactoryContext::new(DeploymentId::random())).await;
    assert!(!stage.factory.capabilities().restore);
    let data = stage.factory.get_adapters(&stage.tenant).await.unwrap();
    if stage.factory.capabilities().backup {
        let taken = Taken::of(&stage.factory, &stage.tenant).await.unwrap();
        let error = taken.restore(&stage.factory, &stage.tenant).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    data.execute_unprepared("SELECT 1").await.unwrap();
    assert_eq!(stage.remains().await, [""; 0]);
}

#[tokio::test]
async fn an_administrator_who_is_no_superuser_copies_too() {
    let stage = Stage::set().await;
    let role = format!("{}admin", stage.site.prefix);
    let mut superuser = stage.superuser().await;
    let make = format!("CREATE ROLE \"{role}\" LOGIN CREATEDB CREATEROLE PASSWORD 'guess'");
    crate::support::run(&mut superuser, make).await.unwrap();
    let mut theirs = stage.site.url();
    theirs.set_username(&role).unwrap();
    theirs.set_password(Some("guess")).unwrap();
    let factory =
        stage.site.builder(&stage.context).with_admin_url(theirs.as_str()).build().unwrap();
    stage.factory.deprovision(&stage.tenant).await.unwrap();
    factory.provision(&stage.tenant).await.unwrap();
    stage.as_owner(TABLE).await;
    if factory.capabilities().backup {
        let data = factory.get_adapters(&stage.tenant).await.unwrap();
        data.execute_unprepared("SELECT lo_from_bytea(7, '\\x07')").await.unwrap();
        let taken = Taken::of(&factory, &stage.tenant).await.unwrap();
        drop(data);
        taken.restore(&factory, &stage.tenant).await.unwrap();
        assert_eq!(rows(&stage).await, "1");
    }
    factory.deprovision(&stage.tenant).await.unwrap();
    assert_eq!(stage.remains().await, [""; 0]);
    crate::support::run(&mut superuser, format!("DROP ROLE \"{role}\"")).await.unwrap();
}
