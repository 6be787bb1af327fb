//! Copies of a tenant's database, as `pg_dump` makes them.

use std::collections::BTreeMap;

use chrono::Utc;
use mt_core::{BackupManifest, ErrorKind, Result, Stamp, TenantId};
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, Row as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    PostgresFactory,
    child::Program,
    contents::{self, Table},
    error::{Error, Result as OwnResult},
    libpq::Surroundings,
    login::{LOCK_TIMEOUT, Login, leave, run},
    programs::{DUMP, Found},
};

/// A copy is an archive of `pg_dump` in its custom format.
pub(crate) const ENCODING: &str = "postgres-dump";

/// How much is read or written at a time.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

impl PostgresFactory {
    /// The programs to use with this server.
    ///
    /// # Errors
    /// `Unsupported`: there are none, or they are too old.
    pub(crate) async fn programs(&self, what: &str) -> Result<&Found> {
        let refuse = |advice: String| {
            mt_core::Error::unsupported(crate::NAME, format!("{what} without {DUMP}: {advice}"))
        };
        // Where there are none, the server need not be asked.
        self.programs.choose(self.admin.known_version().unwrap_or_default()).map_err(refuse)?;
        self.programs.choose(self.admin.version().await?).map_err(refuse)
    }

    pub(crate) async fn copy(
        &self,
        tenant: &TenantId,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        let found = self.programs("copy a tenant's database").await?;
        let (place, identity) = self.ours(tenant).await?;
        let (stamp, _) = place.stamped(tenant)?;
        let prefix = &self.config.database_prefix;
        let copied = async {
            let login = Login::to_read(&self.admin, prefix, &identity).await?;
            let copied = self.copy_as(&login, found, tenant, &place.name, stamp, sink).await;
            if let Err(error) = login.end().await {
                let error = mt_core::Error::from(error);
                tracing::warn!(tenant = %tenant, error = %error.to_chain(), "the role of a backup is left behind");
            }
            copied
        };
        match copied.await {
            // Whoever removes it closes it first.
            Err(error) if error.kind() != ErrorKind::QuotaExceeded => {
                self.ours(tenant).await?;
                Err(error)
            }
            copied => copied,
        }
    }

    async fn copy_as(
        &self,
        login: &Login,
        found: &Found,
        tenant: &TenantId,
        database: &str,
        stamp: Stamp,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<BackupManifest> {
        let created_at = Utc::now();
        let mut moment = login.connect(database).await?;
        let (snapshot, tables) = begin(&mut moment).await?;
        require_stamp(&mut moment, tenant, &stamp).await?;
        let server = self.admin.server();
        let (role, timeout) = (&login.role, self.config.acquire_timeout());
        let surroundings =
            Surroundings::prepare(server, database, role, login.password(), timeout).await?;
        let dumping = dump(&surroundings, found, &snapshot, sink);
        let counting = look(&mut moment, &tables, self.context.ledger());
        let (sent, (rows, schema_version)) = tokio::try_join!(dumping, counting)?;
        leave(moment).await;
        Ok(BackupManifest {
            format: BackupManifest::FORMAT,
            encoding: ENCODING.to_owned(),
            deployment: stamp.deployment,
            tenant: stamp.tenant,
            generation: stamp.generation,
            schema_version,
            created_at,
            size_bytes: sent.size_bytes,
            sha256: sent.sha256,
            rows,
        })
    }
}

/// Begins a transaction of one moment, which `pg_dump` joins by the answered name.
async fn begin(connection: &mut PgConnection) -> OwnResult<(String, Vec<Table>)> {
    let action = "begin a copy";
    run(connection, action, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let snapshot = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *connection);
    let snapshot = snapshot.await.map_err(Error::server(action))?;
    let tables = contents::tables(connection).await?;
    contents::lock(connection, &tables).await?;
    Ok((snapshot, tables))
}

/// Refuses a database that became another one since it was looked for.
async fn require_stamp(
    connection: &mut PgConnection,
    tenant: &TenantId,
    stamp: &Stamp,
) -> Result<()> {
    const SELECT: &str = "SELECT tenant, deployment, created_at, generation FROM public._mt_tenant";
    let row = sqlx::query(SELECT).fetch_optional(connection).await;
    let row = row.map_err(Error::server("read the database's stamp"))?;
    let row = row.ok_or_else(|| Stamp::missing(tenant))?;
    let text = |index: usize| row.try_get::<String, _>(index);
    let columns = || Ok((text(0)?, text(1)?, text(2)?, row.try_get(3)?));
    let (tenant, deployment, created_at, generation) =
        columns().map_err(Error::server("read the database's stamp"))?;
    if Stamp::from_columns(&tenant, &deployment, &created_at, generation)? != *stamp {
        return Err(Error::Changed.into());
    }
    Ok(())
}

async fn look(
    connection: &mut PgConnection,
    tables: &[Table],
    ledger: Option<&str>,
) -> OwnResult<(BTreeMap<String, u64>, Option<String>)> {
    let rows = contents::count(connection, tables).await?;
    Ok((rows, contents::newest(connection, ledger).await?))
}

/// What went to the sink.
struct Sent {
    size_bytes: u64,
    sha256: String,
}

async fn dump(
    surroundings: &Surroundings,
    found: &Found,
    snapshot: &str,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> OwnResult<Sent> {
    let mut command = surroundings.command(&found.program(DUMP));
    command.args([
        "--format=custom",
        "--no-password",
        "--no-owner",
        "--no-privileges",
        "--no-publications",
        "--no-subscriptions",
        // What a handle expects is put into each database by us.
        "--exclude-table=public._mt_tenant",
    ]);
    command.arg(format!("--snapshot={snapshot}"));
    // A migration that wants a table waits for our own transaction, which waits for `pg_dump`, which
    // would wait for the migration.
    command.arg(format!("--lock-wait-timeout={LOCK_TIMEOUT}"));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut program = Program::start(DUMP, command)?;
    let archive = program.child.stdout.take();
    let (sent, verdict) = program.end(send(archive, sink)).await?;
    verdict.map(|()| sent)
}

async fn send(
    archive: Option<impl AsyncRead + Unpin>,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> OwnResult<Sent> {
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    if let Some(mut archive) = archive {
        loop {
            let read = archive.read(&mut chunk).await.map_err(Error::Pipe)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            size_bytes += read as u64;
            sink.write_all(&chunk[..read]).await.map_err(Error::Sink)?;
        }
    }
    sink.flush().await.map_err(Error::Sink)?;
    Ok(Sent { size_bytes, sha256: format!("{:x}", hash.finalize()) })
}
