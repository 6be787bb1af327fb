use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use mt_devservers::{D1, Postgres, Turso, d1::RateLimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long a server may take to say that it is well.
const ANSWER: Duration = Duration::from_secs(2);

const POSTGRES: &str = "postgres";
const SQLD: &str = "sqld";
const WORKERD: &str = "workerd";

/// What stands before an address that is not asked by HTTP.
const POSTGRES_SCHEME: &str = "postgres://";

/// Where each server says that it is well.
pub(super) type Health = BTreeMap<String, Vec<String>>;

/// The servers, which end with this value.
pub(super) struct Servers {
    d1: D1,
    postgres: Postgres,
    turso: Turso,
}

impl Servers {
    pub(super) async fn start() -> anyhow::Result<Self> {
        // As much as the service takes of a token, and as it refuses when that is overrun.
        let d1 = D1::builder().rate_limit(RateLimit::SERVICE);
        // What is written is to outlive a crash of the machine too: it may be somebody's trial of days.
        let postgres = Postgres::builder().durable();
        let (d1, postgres, turso) = tokio::try_join!(d1.start(), postgres.start(), Turso::start())?;
        Ok(Self { d1, postgres, turso })
    }

    pub(super) fn folders(&self) -> [PathBuf; 3] {
        [self.d1.workerd().folder(), self.postgres.folder(), self.turso.sqld().folder()]
    }

    pub(super) fn health(&self) -> Health {
        let sqld = [self.turso.sqld().port(), self.turso.sqld().admin_port()];
        let sqld = sqld.map(|port| format!("http://127.0.0.1:{port}/health"));
        let workerd = format!("http://127.0.0.1:{}/ready", self.d1.workerd().port());
        let postgres = format!("{POSTGRES_SCHEME}127.0.0.1:{}", self.postgres.port());
        let servers = [(POSTGRES, vec![postgres]), (SQLD, sqld.to_vec()), (WORKERD, vec![workerd])];
        servers.map(|(server, urls)| (server.to_owned(), urls)).into()
    }

    /// The settings that reach them.
    pub(super) fn environment(&self) -> BTreeMap<&'static str, String> {
        let servers =
            [self.d1.environment(), self.postgres.environment(), self.turso.environment()];
        servers.concat().into_iter().collect()
    }

    /// Starts again what does not answer, with its databases.
    pub(super) async fn restart_silent(&self) -> anyhow::Result<()> {
        let health = self.health();
        for server in silent(&health).await? {
            let restarted = match server {
                POSTGRES => self.postgres.restart().await,
                SQLD => self.turso.sqld().restart().await,
                _ => self.d1.workerd().restart().await,
            };
            restarted.with_context(|| format!("{server} could not be started again"))?;
        }
        Ok(())
    }
}

/// Asks a PostgreSQL whether it speaks TLS, which it answers to anybody.
async fn answers(address: &str) -> anyhow::Result<()> {
    const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&TLS_REQUEST).await?;
    let answer = stream.read_u8().await?;
    ensure!(matches!(answer, b'S' | b'N'), "{address} is no PostgreSQL");
    Ok(())
}

/// Those that do not answer.
pub(super) async fn silent(health: &Health) -> anyhow::Result<Vec<&str>> {
    let client = mt_devservers::http_client().timeout(ANSWER).build()?;
    let mut silent = Vec::new();
    for (server, urls) in health {
        for url in urls {
            let is_well = match url.strip_prefix(POSTGRES_SCHEME) {
                Some(address) => timeout(ANSWER, answers(address)).await.is_ok_and(|a| a.is_ok()),
                None => client.get(url).send().await.is_ok_and(|a| a.status().is_success()),
            };
            if !is_well {
                silent.push(server.as_str());
                break;
            }
        }
    }
    Ok(silent)
}
