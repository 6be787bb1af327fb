//! Turso: the platform API in front of a real sqld.

mod api;
mod builder;
mod fault;
mod front;
mod gateway;
mod organization;
mod platform;
mod token;
mod upload;

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use builder::TursoBuilder;
pub use fault::{Fault, Faults, Rule};
pub use organization::GroupState;
pub use platform::WarmUp;

pub use crate::{
    call::{Call, Requests},
    fault::{Canned, Hits},
};

use crate::{
    Sqld,
    background::Background,
    turso::{organization::RestorePoint, platform::Platform},
};

/// A platform of our own: one organization, its API, and its databases in a real sqld behind a
/// gateway.
///
/// Everything listens on 127.0.0.1, runs on threads of its own, so that a test's runtime neither
/// starves it nor ends it, and is gone when this value is dropped or its process ends.
pub struct Turso {
    platform: Arc<Platform>,
    api: SocketAddr,
    _background: Background,
}

impl Turso {
    /// Starts with the defaults of [`TursoBuilder`].
    ///
    /// # Errors
    /// sqld cannot be fetched or started.
    pub async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// What can be chosen.
    pub fn builder() -> TursoBuilder {
        TursoBuilder::default()
    }

    /// The base of the platform API, without the `/v1`.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The platform token.
    pub fn api_token(&self) -> &str {
        &self.platform.token
    }

    /// The slug of the organization.
    pub fn organization(&self) -> &str {
        &self.platform.slug
    }

    /// The group that is there from the start.
    pub fn group(&self) -> &str {
        &self.platform.group
    }

    /// The settings with which another process finds this one.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MT_TURSO__API_URL", self.api_url()),
            ("MT_TURSO__API_TOKEN", self.api_token().to_owned()),
            ("MT_TURSO__ORGANIZATION", self.organization().to_owned()),
            ("MT_TURSO__GROUP", self.group().to_owned()),
        ]
    }

    /// The server behind, to kill and to restart.
    pub fn sqld(&self) -> &Sqld {
        &self.platform.sqld
    }

    /// What goes wrong on the API.
    pub fn api_faults(&self) -> &Faults {
        &self.platform.api_faults
    }

    /// What goes wrong on the data plane; nothing when it is [direct](TursoBuilder::direct).
    pub fn data_faults(&self) -> &Faults {
        &self.platform.data_faults
    }

    /// What was asked of the API.
    pub fn api_requests(&self) -> &Requests {
        &self.platform.api_requests
    }

    /// What was asked of the data plane; nothing is known when it is
    /// [direct](TursoBuilder::direct).
    pub fn requests(&self) -> &Requests {
        &self.platform.requests
    }

    /// From now on, how long a new database is answered with 404.
    pub fn set_warm_up(&self, warm_up: WarmUp) {
        self.platform.knobs().warm_up = warm_up;
    }

    /// From now on, tells this `base_url` in the answers of pipelines and cursors; `None` leaves
    /// what sqld says, which is null.
    pub fn set_base_url(&self, base_url: Option<&str>) {
        self.platform.knobs().base_url = base_url.map(str::to_owned);
    }

    /// From now on, how many databases there may be.
    pub fn set_quota(&self, databases: Option<usize>) {
        self.platform.organization().quota = databases;
    }

    /// Puts a group to sleep, or into the archive: its databases answer 502, and none can be made
    /// in it, until the API is asked to unarchive it.
    ///
    /// # Errors
    /// There is no such group.
    pub fn set_group_state(&self, group: &str, state: GroupState) -> anyhow::Result<()> {
        let mut organization = self.platform.organization();
        let group = organization.groups.get_mut(group).context("there is no such group")?;
        group.state = state;
        Ok(())
    }

    /// Keeps a database as it is now, and tells the time: a seed with a timestamp takes the newest
    /// of what was kept until then. sqld has no history of its own without a bucket.
    ///
    /// # Errors
    /// There is no such database, or sqld fails.
    pub async fn keep_restore_point(&self, database: &str) -> anyhow::Result<DateTime<Utc>> {
        let platform = &self.platform;
        let namespace = format!("restore-point-{}", Uuid::new_v4().simple());
        platform.sqld.admin().fork(&platform.namespace(database), &namespace).await?;
        let at = Utc::now();
        let mut organization = platform.organization();
        let Some(database) = organization.database_mut(database) else {
            bail!("there is no such database");
        };
        database.restore_points.push(RestorePoint { at, namespace });
        Ok(at)
    }
}

impl fmt::Debug for Turso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turso").field("api", &self.api).finish_non_exhaustive()
    }
}
