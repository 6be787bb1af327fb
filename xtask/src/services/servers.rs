use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use mt_devservers::{D1, Turso, d1::RateLimit};

/// How long a server may take to say that it is well.
const ANSWER: Duration = Duration::from_secs(2);

const SQLD: &str = "sqld";
const WORKERD: &str = "workerd";

/// Where each server says that it is well.
pub(super) type Health = BTreeMap<String, Vec<String>>;

/// The servers, which end with this value.
pub(super) struct Servers {
    d1: D1,
    turso: Turso,
}

impl Servers {
    pub(super) async fn start() -> anyhow::Result<Self> {
        // As much as the service takes of a token, and as it refuses when that is overrun.
        let d1 = D1::builder().rate_limit(RateLimit::SERVICE);
        let (d1, turso) = tokio::try_join!(d1.start(), Turso::start())?;
        Ok(Self { d1, turso })
    }

    pub(super) fn folders(&self) -> [PathBuf; 2] {
        [self.d1.workerd().folder(), self.turso.sqld().folder()]
    }

    pub(super) fn health(&self) -> Health {
        let sqld = [self.turso.sqld().port(), self.turso.sqld().admin_port()];
        let sqld = sqld.map(|port| format!("http://127.0.0.1:{port}/health"));
        let workerd = format!("http://127.0.0.1:{}/ready", self.d1.workerd().port());
        [(SQLD.to_owned(), sqld.to_vec()), (WORKERD.to_owned(), vec![workerd])].into()
    }

    /// The settings that reach them.
    pub(super) fn environment(&self) -> BTreeMap<&'static str, String> {
        [self.d1.environment(), self.turso.environment()].concat().into_iter().collect()
    }

    /// Starts again what does not answer, with its databases.
    pub(super) async fn restart_silent(&self) -> anyhow::Result<()> {
        let health = self.health();
        for server in silent(&health).await? {
            let restarted = match server {
                SQLD => self.turso.sqld().restart().await,
                _ => self.d1.workerd().restart().await,
            };
            restarted.with_context(|| format!("{server} could not be started again"))?;
        }
        Ok(())
    }
}

/// Those that do not answer.
pub(super) async fn silent(health: &Health) -> anyhow::Result<Vec<&str>> {
    let client = mt_devservers::http_client().timeout(ANSWER).build()?;
    let mut silent = Vec::new();
    for (server, urls) in health {
        for url in urls {
            let answer = client.get(url).send().await;
            if !answer.is_ok_and(|answer| answer.status().is_success()) {
                silent.push(server.as_str());
                break;
            }
        }
    }
    Ok(silent)
}
