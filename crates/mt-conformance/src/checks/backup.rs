use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use chrono::{Duration, Utc};
use mt_core::{BackupManifest, DataAdapters, DatabaseFactory, ErrorKind, RestoreOptions, TenantId};
use sea_orm::ConnectionTrait as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    checks::{
        lifecycle::{CANCEL_AFTER, cancel},
        removal::expect_revoked,
    },
    fault::{Doing as _, Fault, Outcome, ensure, expect_kind, expect_one_of},
    probe::{self, Row, row},
    trial::{Trial, patiently},
};

/// A copy, as a backup would be kept.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) manifest: BackupManifest,
    pub(crate) bytes: Vec<u8>,
}

impl Taken {
    /// The same copy with other bytes, which the manifest describes well.
    fn resealed(&self, bytes: Vec<u8>) -> Self {
        let mut manifest = self.manifest.clone();
        manifest.size_bytes = bytes.len() as u64;
        manifest.sha256 = sha256(&bytes);
        Self { manifest, bytes }
    }
}

pub(crate) async fn copy(trial: &Trial<'_>, tenant: &TenantId) -> Outcome<Taken> {
    let mut bytes = Vec::new();
    let manifest = trial.factory().backup(tenant, &mut bytes).await.doing("backup")?;
    Ok(Taken { manifest, bytes })
}

pub(crate) async fn restore(
    factory: &dyn DatabaseFactory,
    tenant: &TenantId,
    taken: &Taken,
    options: RestoreOptions,
) -> mt_core::Result<()> {
    let mut source = taken.bytes.as_slice();
    factory.restore(tenant, &taken.manifest, &mut source, options).await
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Takes a copy of the same tenant only.
fn same() -> RestoreOptions {
    RestoreOptions::default()
}

/// Takes a copy of another tenant or deployment too.
fn restamp() -> RestoreOptions {
    RestoreOptions::default().with_restamp(true)
}

/// A tenant with the row 1.
async fn start(trial: &Trial<'_>, label: &str) -> Outcome<(TenantId, DataAdapters)> {
    let tenant = trial.provisioned(label).await?;
    let data = trial.open(&tenant).await?;
    probe::insert(&data, 1, "before").await.doing("insert")?;
    Ok((tenant, data))
}

/// A tenant with the row 1, and a copy of it; or `None` where there is no backup or no restore,
/// after seeing that what is missing is refused.
async fn start_with_copy(
    trial: &Trial<'_>,
    label: &str,
) -> Outcome<Option<(TenantId, DataAdapters, Taken)>> {
    let (tenant, data) = start(trial, label).await?;
    if backup_is_missing(trial, &tenant).await? {
        restore_is_missing(trial, &tenant, &made_up(&data)).await?;
        return Ok(None);
    }
    let taken = copy(trial, &tenant).await?;
    if restore_is_missing(trial, &tenant, &taken).await? {
        return Ok(None);
    }
    Ok(Some((tenant, data, taken)))
}

/// `false`: the capability is set. `true`: it is not, and `backup` was refused before it wrote.
pub(crate) async fn backup_is_missing(trial: &Trial<'_>, tenant: &TenantId) -> Outcome<bool> {
    if trial.capabilities().backup {
        return Ok(false);
    }
    let mut sink = Vec::new();
    let copied = trial.factory().backup(tenant, &mut sink).await;
    expect_kind(copied, ErrorKind::Unsupported, "backup without the capability")?;
    ensure!(sink.is_empty(), "an unsupported backup wrote {} bytes", sink.len());
    Ok(true)
}

/// `false`: the capability is set. `true`: it is not, and `restore` was refused before anything
/// of the tenant, who has the row 1, changed.
pub(crate) async fn restore_is_missing(
    trial: &Trial<'_>,
    tenant: &TenantId,
    taken: &Taken,
) -> Outcome<bool> {
    if trial.capabilities().restore {
        return Ok(false);
    }
    let data = trial.open(tenant).await?;
    let restored = restore(trial.factory(), tenant, taken, same()).await;
    expect_kind(restored, ErrorKind::Unsupported, "restore without the capability")?;
    ensure!(!data.is_revoked(), "an unsupported restore revoked a handle");
    trial.expect_rows(tenant, &[row(1, "before")], "after an unsupported restore").await?;
    Ok(true)
}

/// What says that it is a copy of `data`, for a factory that makes none.
pub(crate) fn made_up(data: &DataAdapters) -> Taken {
    let bytes = b"no copy at all".to_vec();
    let stamp = data.stamp();
    let manifest = BackupManifest {
        format: BackupManifest::FORMAT,
        encoding: "made-up".to_owned(),
        deployment: stamp.deployment,
        tenant: stamp.tenant.clone(),
        generation: stamp.generation,
        schema_version: None,
        created_at: Utc::now(),
        size_bytes: bytes.len() as u64,
        sha256: sha256(&bytes),
        rows: [(probe::TABLE.to_owned(), 1)].into(),
    };
    Taken { manifest, bytes }
}

pub(crate) async fn restore_gives_back_the_rows_of_the_backup(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, taken)) = start_with_copy(trial, "restored").await? else {
        return Ok(());
    };
    let before = data.stamp().clone();
    probe::insert(&data, 2, "after").await.doing("insert")?;
    data.execute_unprepared("UPDATE mt_probe SET note = 'after'").await.doing("update")?;
    drop(data);
    restore(trial.factory(), &tenant, &taken, same()).await.doing("restore")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after restore").await?;

    let data = trial.open(&tenant).await?;
    let stamp = data.stamp();
    ensure!(stamp.deployment == before.deployment, "restore changed the deployment: {stamp:?}");
    ensure!(
        stamp.generation > before.generation,
        "the generation was {} before restore and is {} after it",
        before.generation,
        stamp.generation
    );
    let info = trial.factory().describe(&tenant).await.doing("describe")?;
    ensure!(info.stamp == *stamp, "describe tells {:?}, {data:?} another stamp", info.stamp);
    let entries = trial.entries_of(&tenant).await?;
    ensure!(entries.len() <= 1, "restore left another database behind: {entries:?}");
    probe::insert(&data, 2, "new").await.doing("insert after restore")?;
    trial.factory().provision(&tenant).await.doing("provision of a restored tenant")?;
    let expected = [row(1, "before"), row(2, "new")];
    trial.expect_rows(&tenant, &expected, "after restore, insert and provision").await
}

pub(crate) async fn restore_revokes_open_handles(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, taken)) = start_with_copy(trial, "fenced").await? else {
        return Ok(());
    };
    restore(trial.factory(), &tenant, &taken, same()).await.doing("restore with an idle handle")?;
    expect_revoked(&data).await?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after restore").await
}

pub(crate) async fn restore_makes_a_missing_database(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, taken)) = start_with_copy(trial, "revived").await? else {
        return Ok(());
    };
    drop(data);
    trial.factory().deprovision(&tenant).await.doing("deprovision")?;
    restore(trial.factory(), &tenant, &taken, same()).await.doing("restore of a removed tenant")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after restore of a removed tenant").await?;
    trial.factory().deprovision(&tenant).await.doing("deprovision after restore")?;
    trial.expect_absent(&tenant).await
}

pub(crate) async fn a_backup_while_writing_is_of_one_moment(trial: &Trial<'_>) -> Outcome {
    let (tenant, data) = start(trial, "moment").await?;
    if backup_is_missing(trial, &tenant).await? {
        return Ok(());
    }
    let backend = probe::backend(&data);
    // Enough to copy that the writer meets it, and all of it under id 1,000,000.
    data.execute_unprepared("DELETE FROM mt_probe").await.doing("delete")?;
    let filling = probe::series(backend, 4_000, &"f".repeat(400));
    data.execute_raw(filling).await.doing("inserting many rows")?;
    let writer = Writer::start(data.clone());
    let mut copies = Vec::new();
    for _ in 0..3 {
        writer.wait_for_one_more().await?;
        copies.push(copy(trial, &tenant).await?);
    }
    let acknowledged = writer.stop().await?;

    for taken in &copies {
        let counted = taken.manifest.rows.get(probe::TABLE);
        ensure!(
            counted.is_some_and(|rows| rows.is_multiple_of(2) && *rows > 4_000),
            "the copy has half of a pair that was written at once: {counted:?} rows"
        );
    }
    if trial.capabilities().restore
        && let Some(taken) = copies.last()
    {
        drop(data);
        restore(trial.factory(), &tenant, taken, same()).await.doing("restore")?;
        let rows = trial.rows(&tenant).await?;
        let pairs: Vec<&Row> = rows.iter().filter(|(id, _)| *id >= Writer::FIRST).collect();
        ensure!(
            pairs.len().is_multiple_of(2),
            "a restored copy has {} halves of pairs",
            pairs.len()
        );
        let expected = taken.manifest.rows.get(probe::TABLE);
        let seen = rows.len() as u64;
        ensure!(expected == Some(&seen), "the manifest tells {expected:?} rows, there are {seen}");
        ensure!(
            pairs.iter().zip(Writer::FIRST..).all(|((id, _), expected)| *id == expected),
            "a restored copy has a later write without an earlier one"
        );
        return Ok(());
    }
    let rows = i64::try_from(trial.rows(&tenant).await?.len()).unwrap_or(i64::MAX);
    ensure!(
        rows == 4_000 + acknowledged,
        "{acknowledged} rows were acknowledged during backups, {} are there",
        rows - 4_000
    );
    Ok(())
}

/// Writes pairs of rows, each pair at once, until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    pairs: Arc<AtomicI64>,
    task: tokio::task::JoinHandle<Outcome>,
}

impl Writer {
    const FIRST: i64 = 1_000_000;

    fn start(data: DataAdapters) -> Self {
        let (stop, pairs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&pairs));
        let task = tokio::spawn(async move {
            let backend = probe::backend(&data);
            while !stopped.load(Ordering::SeqCst) {
                let id = Self::FIRST + 2 * counted.load(Ordering::SeqCst);
                let pair = [id, id + 1].map(|id| probe::insertion(backend, id, "pair"));
                data.batch(pair).await.doing("a batch during a backup")?;
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { stop, pairs, task }
    }

    /// Waits until it has written since the call.
    async fn wait_for_one_more(&self) -> Outcome {
        let before = self.pairs.load(Ordering::SeqCst);
        while self.pairs.load(Ordering::SeqCst) == before {
            ensure!(!self.task.is_finished(), "a batch failed while a backup was taken");
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// How many rows were acknowledged.
    async fn stop(self) -> Outcome<i64> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.map_err(|error| Fault::new(format!("a writer: {error}")))??;
        Ok(2 * self.pairs.load(Ordering::SeqCst))
    }
}

pub(crate) async fn a_manifest_tells_what_was_written(trial: &Trial<'_>) -> Outcome {
    let (tenant, data) = start(trial, "manifest").await?;
    if backup_is_missing(trial, &tenant).await? {
        return Ok(());
    }
    trial.create(&tenant, &[probe::table_called("mt_probe_empty")]).await?;
    probe::insert(&data, 2, "before").await.doing("insert")?;
    let earliest = Utc::now() - Duration::minutes(10);
    let taken = copy(trial, &tenant).await?;
    let latest = Utc::now() + Duration::minutes(10);
    let BackupManifest {
        format,
        encoding,
        deployment,
        tenant: of,
        generation,
        schema_version,
        created_at,
        size_bytes,
        sha256: checksum,
        rows,
    } = &taken.manifest;
    let stamp = data.stamp();
    let length = taken.bytes.len();
    ensure!(length > 0, "the copy is empty");
    ensure!(*size_bytes == length as u64, "the manifest says {size_bytes} bytes of {length}");
    ensure!(*checksum == sha256(&taken.bytes), "the manifest's SHA-256 is not the copy's");
    ensure!(*format == BackupManifest::FORMAT, "the manifest is of format {format}");
    ensure!(*of == tenant, "the manifest says that it is a copy of {of}");
    ensure!(*deployment == stamp.deployment, "the manifest names deployment {deployment}");
    ensure!(*generation == stamp.generation, "the manifest says generation {generation}");
    ensure!(
        schema_version.as_deref() == data.schema_version(),
        "the manifest says schema {schema_version:?}"
    );
    ensure!((earliest..latest).contains(created_at), "the manifest is of {created_at}");
    for (table, expected) in [(probe::TABLE, 2), ("mt_probe_empty", 0)] {
        let told = rows.get(table);
        ensure!(told == Some(&expected), "the manifest tells {told:?} rows of {table}");
    }
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    ensure!(
        !encoding.is_empty() && encoding.len() <= 64 && encoding.chars().all(word),
        "the manifest's encoding is no plain word: {encoding:?}"
    );
    let json = serde_json::to_string(&taken.manifest)
        .map_err(|error| Fault::new(format!("the manifest is no JSON: {error}")))?;
    let back: BackupManifest = serde_json::from_str(&json)
        .map_err(|error| Fault::new(format!("the manifest's JSON is none: {error}")))?;
    ensure!(back == taken.manifest, "the manifest changes on its way through JSON");
    for secret in trial.secrets() {
        ensure!(!json.contains(secret), "the manifest holds a secret");
        let found = taken.bytes.windows(secret.len().max(1)).any(|part| part == secret.as_bytes());
        ensure!(!found, "the copy holds a secret");
        ensure!(!format!("{:?}", trial.factory()).contains(secret), "Debug shows a secret");
    }
    Ok(())
}

pub(crate) async fn a_failing_sink_fails_the_backup(trial: &Trial<'_>) -> Outcome {
    let (tenant, data) = start(trial, "sink").await?;
    if backup_is_missing(trial, &tenant).await? {
        return Ok(());
    }
    let copied = trial.factory().backup(&tenant, &mut Broken).await;
    ensure!(copied.is_err(), "a backup whose sink failed succeeded");
    probe::insert(&data, 2, "after").await.doing("insert after a backup that failed")?;
    copy(trial, &tenant).await?;
    let expected = [row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after a backup that failed").await
}

/// A disk that is full, and one that cannot be read.
struct Broken;

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
    }
}

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

pub(crate) async fn a_copy_of_another_tenant_is_refused_or_restamped(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, _data, taken)) = start_with_copy(trial, "source").await? else {
        return Ok(());
    };
    let other = trial.provisioned("target").await?;
    let data = trial.open(&other).await?;
    probe::insert(&data, 9, "other").await.doing("insert")?;
    let factory = trial.factory();
    let restored = restore(factory, &other, &taken, same()).await;
    expect_kind(restored, ErrorKind::ForeignDatabase, "restore of another tenant's copy")?;
    ensure!(!data.is_revoked(), "a refused restore revoked a handle");
    drop(data);
    trial.expect_rows(&other, &[row(9, "other")], "after a refused restore").await?;
    let nobody = trial.tenant("nobody")?;
    let restored = restore(factory, &nobody, &taken, same()).await;
    expect_kind(restored, ErrorKind::ForeignDatabase, "restore of another tenant's copy")?;
    trial.expect_absent(&nobody).await?;

    for target in [&other, &nobody] {
        restore(factory, target, &taken, restamp()).await.doing("restore with restamp")?;
        // Opening it tells that it is stamped for the new tenant.
        trial.expect_rows(target, &[row(1, "before")], "after restore with restamp").await?;
    }
    trial.expect_rows(&tenant, &[row(1, "before")], "in the tenant that was copied").await
}

pub(crate) async fn a_copy_of_another_deployment_is_refused_or_restamped(
    trial: &Trial<'_>,
) -> Outcome {
    let Some((_tenant, data, mut taken)) = start_with_copy(trial, "abroad").await? else {
        return Ok(());
    };
    let stranger = trial.stranger();
    // Tenants of the same id in two installations; the id alone must not be enough.
    let tenant = trial.strangers_tenant("abroad")?;
    taken.manifest.tenant = tenant.clone();
    let restored = restore(stranger, &tenant, &taken, same()).await;
    expect_kind(restored, ErrorKind::ForeignDatabase, "restore of another deployment's copy")?;
    let opened = stranger.get_adapters(&tenant).await;
    expect_kind(opened, ErrorKind::TenantNotFound, "get_adapters after a refused restore")?;

    taken.manifest.tenant = data.tenant().clone();
    restore(stranger, &tenant, &taken, restamp()).await.doing("restore with restamp")?;
    let theirs = stranger.get_adapters(&tenant).await.doing("get_adapters after restore")?;
    let stamp = theirs.stamp();
    ensure!(
        stamp.tenant == tenant && stamp.deployment != data.stamp().deployment,
        "a copy restored in another deployment is stamped {stamp:?}"
    );
    let seen = probe::rows(&theirs).await.doing("select after restore with restamp")?;
    ensure!(seen == [row(1, "before")], "a copy restored in another deployment has {seen:?}");
    let ours = trial.factory().get_adapters(&tenant).await;
    // It may be of a generation that this installation does not know of.
    let kinds = [ErrorKind::ForeignDatabase, ErrorKind::TenantNotFound];
    expect_one_of(ours, &kinds, "get_adapters of the other deployment's tenant").map(drop)
}

pub(crate) async fn a_damaged_copy_is_refused(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, taken)) = start_with_copy(trial, "damaged").await? else {
        return Ok(());
    };
    probe::insert(&data, 2, "after").await.doing("insert")?;
    let generation = data.stamp().generation;
    drop(data);
    let missing = trial.tenant("damaged")?;
    for (damage, damaged) in damages(&taken) {
        let restored = restore(trial.factory(), &tenant, &damaged, same()).await;
        expect_kind(restored, ErrorKind::Corrupt, &format!("restore of a copy {damage}"))?;
        let when = format!("after restore of a copy {damage}");
        trial.expect_rows(&tenant, &[row(1, "before"), row(2, "after")], &when).await?;
        let restored = restore(trial.factory(), &missing, &damaged, restamp()).await;
        expect_kind(restored, ErrorKind::Corrupt, &format!("restore of a copy {damage}"))?;
        trial.expect_absent(&missing).await?;
    }
    let torn = trial.factory().restore(&tenant, &taken.manifest, &mut Broken, same()).await;
    ensure!(torn.is_err(), "a restore whose source failed succeeded");
    let expected = [row(1, "before"), row(2, "after")];
    trial.expect_rows(&tenant, &expected, "after a restore whose source failed").await?;
    let stamp = trial.open(&tenant).await?.stamp().clone();
    ensure!(stamp.generation == generation, "a refused restore made generation {stamp:?}");
    restore(trial.factory(), &tenant, &taken, same()).await.doing("restore of the whole copy")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after restore of the whole copy").await
}

/// What can become of a copy, or of its manifest.
fn damages(taken: &Taken) -> Vec<(&'static str, Taken)> {
    let with_bytes = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = taken.clone();
        change(&mut damaged.bytes);
        damaged
    };
    let with_manifest = |change: &dyn Fn(&mut BackupManifest)| {
        let mut damaged = taken.clone();
        change(&mut damaged.manifest);
        damaged
    };
    let middle = taken.bytes.len() / 2;
    vec![
        ("with a flipped bit", with_bytes(&|bytes| bytes[middle] ^= 1)),
        ("that is cut off", with_bytes(&|bytes| bytes.truncate(middle))),
        ("that is empty", with_bytes(&Vec::clear)),
        ("with a byte too many", with_bytes(&|bytes| bytes.push(0))),
        ("of another checksum", with_manifest(&|manifest| manifest.sha256 = sha256(b"another"))),
        ("of another size", with_manifest(&|manifest| manifest.size_bytes += 1)),
        (
            "with other numbers of rows",
            with_manifest(&|manifest| {
                manifest.rows.insert(probe::TABLE.to_owned(), 99);
            }),
        ),
        ("that is no database", taken.resealed(vec![b'x'; 8_192])),
    ]
}

pub(crate) async fn a_copy_of_another_engine_is_refused(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, mut taken)) = start_with_copy(trial, "engine").await? else {
        return Ok(());
    };
    "mt-probe-nowhere".clone_into(&mut taken.manifest.encoding);
    let restored = restore(trial.factory(), &tenant, &taken, same()).await;
    expect_kind(restored, ErrorKind::Unsupported, "restore of another engine's copy")?;
    ensure!(!data.is_revoked(), "an unsupported restore revoked a handle");
    trial.expect_rows(&tenant, &[row(1, "before")], "after an unsupported restore").await
}

pub(crate) async fn a_cancelled_restore_leaves_a_whole_database(trial: &Trial<'_>) -> Outcome {
    let Some((tenant, data, taken)) = start_with_copy(trial, "cancelled").await? else {
        return Ok(());
    };
    drop(data);
    for limit in CANCEL_AFTER {
        let data = patient_open(trial, &tenant).await?;
        data.execute_unprepared("DELETE FROM mt_probe WHERE id > 1").await.doing("delete")?;
        probe::insert(&data, 2, "after").await.doing("insert")?;
        drop(data);
        let call = restore(trial.factory(), &tenant, &taken, same());
        cancel(limit, call).await.doing("restore")?;
        let data = patient_open(trial, &tenant).await?;
        let seen = probe::rows(&data).await.doing("select after a cancelled restore")?;
        let (old, new) = ([row(1, "before"), row(2, "after")], [row(1, "before")]);
        ensure!(seen == old || seen == new, "after a cancelled restore, there is {seen:?}");
    }
    patiently(|| restore(trial.factory(), &tenant, &taken, same()))
        .await
        .doing("restore after a cancelled one")?;
    trial.expect_rows(&tenant, &[row(1, "before")], "after a cancelled restore and one more").await
}

/// Opens a tenant that something cancelled may still hold for a moment.
async fn patient_open(trial: &Trial<'_>, tenant: &TenantId) -> Outcome<DataAdapters> {
    patiently(|| trial.factory().get_adapters(tenant))
        .await
        .doing("get_adapters after a cancelled restore")
}
