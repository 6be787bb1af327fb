//! What the platform knows: groups, databases, their keys and their settings.

use std::{collections::BTreeMap, time::Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{sqld::admin::Settings, turso::token::Key};

/// sqld's own default, in its own words: no limit that anybody meets.
const NO_LIMIT: &str = "1000 PB";

/// The reason that sqld tells of a database that was blocked.
const BLOCKED: &str = "blocked by the database's configuration";

#[derive(Debug, Default)]
pub(crate) struct Organization {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) databases: BTreeMap<String, Database>,
    /// How many databases there may be.
    pub(crate) quota: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) uuid: Uuid,
    pub(crate) location: String,
    pub(crate) key: Key,
    pub(crate) state: GroupState,
    pub(crate) delete_protection: bool,
}

/// Whether the databases of a group are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// They are.
    Awake,
    /// Nobody used them for a while.
    Sleeping,
    /// Nobody used them for longer.
    Archived,
}

#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) id: Uuid,
    /// Of its one instance.
    pub(crate) instance: Uuid,
    pub(crate) group: String,
    pub(crate) key: Key,
    pub(crate) parent: Option<Parent>,
    pub(crate) configuration: Configuration,
    pub(crate) phase: Phase,
    pub(crate) created: Instant,
    /// How many requests of the data plane found it not there yet.
    pub(crate) misses: u32,
    pub(crate) restore_points: Vec<RestorePoint>,
}

/// Where a database is in its life. While sqld is asked for something that takes time, the name
/// is taken and the database is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Creating,
    Ready,
    /// Created empty, to be filled by an upload.
    AwaitsUpload,
    Uploading,
    Deleting,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Parent {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) branched_at: DateTime<Utc>,
}

/// A state of the past that is kept in a namespace of its own.
#[derive(Clone, Debug)]
pub(crate) struct RestorePoint {
    pub(crate) at: DateTime<Utc>,
    pub(crate) namespace: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the service's own object")]
pub(crate) struct Configuration {
    pub(crate) size_limit: Option<String>,
    pub(crate) allow_attach: bool,
    pub(crate) block_reads: bool,
    pub(crate) block_writes: bool,
    pub(crate) delete_protection: bool,
    pub(crate) allowed_ips: Vec<String>,
    pub(crate) allowed_aws_vpc_ids: Vec<String>,
}

impl Group {
    pub(crate) fn new(location: &str) -> anyhow::Result<Self> {
        Ok(Self {
            uuid: Uuid::new_v4(),
            location: location.to_owned(),
            key: Key::generate()?,
            state: GroupState::Awake,
            delete_protection: false,
        })
    }
}

impl Database {
    pub(crate) fn new(group: &str, size_limit: Option<String>) -> anyhow::Result<Self> {
        Ok(Self {
            id: Uuid::new_v4(),
            instance: Uuid::new_v4(),
            group: group.to_owned(),
            key: Key::generate()?,
            parent: None,
            configuration: Configuration { size_limit, ..Configuration::default() },
            phase: Phase::Creating,
            created: Instant::now(),
            misses: 0,
            restore_points: Vec::new(),
        })
    }

    /// Whether the API shows it.
    pub(crate) fn is_there(&self) -> bool {
        match self.phase {
            Phase::Ready | Phase::AwaitsUpload | Phase::Uploading => true,
            Phase::Creating | Phase::Deleting => false,
        }
    }
}

impl Organization {
    /// The database, if the API shows it.
    pub(crate) fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name).filter(|database| database.is_there())
    }

    pub(crate) fn database_mut(&mut self, name: &str) -> Option<&mut Database> {
        self.databases.get_mut(name).filter(|database| database.is_there())
    }

    /// What sqld has to know of a database: whatever its phase, also while it is created.
    pub(crate) fn settings(&self, name: &str) -> Option<Settings> {
        let database = self.databases.get(name)?;
        let group = self.groups.get(&database.group)?;
        let Configuration { size_limit, block_reads, block_writes, .. } = &database.configuration;
        Some(Settings {
            block_reads: *block_reads,
            block_writes: *block_writes,
            block_reason: (*block_reads || *block_writes).then(|| BLOCKED.to_owned()),
            max_db_size: size_limit.clone().unwrap_or_else(|| NO_LIMIT.to_owned()),
            jwt_key: database.key.public_pem() + &group.key.public_pem(),
        })
    }
}
