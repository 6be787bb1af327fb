//! What the API and the gateway share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    Sqld,
    call::Requests,
    turso::{
        fault::Faults,
        organization::{Group, GroupState, Organization},
        token::{self, Claims, Key},
    },
};

/// Where the first group is.
const LOCATION: &str = "aws-us-east-1";

/// For how many seconds an expired token has been one; sqld lets the first minute pass.
const EXPIRED_FOR: i64 = 3_600;

#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) slug: String,
    pub(crate) group: String,
    pub(crate) token: String,
    /// Which port is told as the databases': the gateway's, or sqld's own.
    pub(crate) data_port: u16,
    pub(crate) sqld: Sqld,
    pub(crate) api_faults: Faults,
    pub(crate) data_faults: Faults,
    pub(crate) api_requests: Requests,
    pub(crate) requests: Requests,
    organization: Mutex<Organization>,
    knobs: Mutex<Knobs>,
    /// Settings are read here and written to sqld as a whole: one at a time.
    pub(crate) settings: tokio::sync::Mutex<()>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// How long a new database is answered with 404 on the data plane, as in the cloud: until both
/// are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// So many of its first requests.
    pub requests: u32,
    /// So long after it was created.
    pub time: Duration,
}

/// What can be changed while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knobs {
    pub(crate) warm_up: WarmUp,
    pub(crate) base_url: Option<String>,
}

/// What happened to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wear {
    /// Its key was rotated.
    Stale,
    /// Its time is over.
    Expired,
}

/// Whether the data plane serves a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Given,
    /// It was created a moment ago.
    NotYet,
    /// Its group sleeps or is archived.
    Asleep,
}

impl Platform {
    pub(crate) fn new(
        slug: String,
        group: String,
        quota: Option<usize>,
        data_port: u16,
        sqld: Sqld,
    ) -> anyhow::Result<Self> {
        let mut organization = Organization { quota, ..Organization::default() };
        organization.groups.insert(group.clone(), Group::new(LOCATION)?);
        Ok(Self {
            slug,
            group,
            token: format!("platform-{}", Uuid::new_v4().simple()),
            data_port,
            sqld,
            api_faults: Faults::default(),
            data_faults: Faults::default(),
            api_requests: Requests::default(),
            requests: Requests::default(),
            organization: organization.into(),
            knobs: Mutex::default(),
            settings: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
        })
    }

    /// Whoever makes, fills or deletes a database waits for whoever else does: sqld is never asked
    /// for two of these of one namespace at once.
    pub(crate) async fn turn(&self, database: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(database.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    pub(crate) fn organization(&self) -> MutexGuard<'_, Organization> {
        self.organization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace of a database; also the first label of its host name.
    pub(crate) fn namespace(&self, database: &str) -> String {
        format!("{database}-{}", self.slug)
    }

    /// Where a database is reached. Clients have to store it, not to make it up.
    pub(crate) fn hostname(&self, database: &str) -> String {
        format!("{}.localhost:{}", self.namespace(database), self.data_port)
    }

    /// The database that a host name means.
    pub(crate) fn database_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        let label = host.split(['.', ':']).next()?;
        label.strip_suffix(&self.slug)?.strip_suffix('-')
    }

    /// Whether a request to a database is to be served. Those that come too early are counted.
    pub(crate) fn service(&self, database: &str) -> Service {
        let WarmUp { requests, time } = self.knobs().warm_up;
        let mut organization = self.organization();
        let Some(database) = organization.database_mut(database) else { return Service::Given };
        if database.misses < requests || database.created.elapsed() < time {
            database.misses += 1;
            return Service::NotYet;
        }
        let group = database.group.clone();
        match organization.groups.get(&group).map(|group| group.state) {
            Some(GroupState::Sleeping | GroupState::Archived) => Service::Asleep,
            Some(GroupState::Awake) | None => Service::Given,
        }
    }

    /// A token that says what `token` says, after `wear`. What is no token stays what it is.
    pub(crate) fn worn(
        &self,
        token: &str,
        database: Option<&str>,
        wear: Wear,
    ) -> anyhow::Result<String> {
        let Some(claims) = token::claims(token) else { return Ok(token.to_owned()) };
        if wear == Wear::Stale {
            return Key::generate()?.sign(&claims);
        }
        let claims = Claims { exp: Some(claims.iat - EXPIRED_FOR), ..claims };
        let organization = self.organization();
        let known = database.and_then(|name| organization.database(name));
        // A group's token is signed by its group.
        let groups = organization.groups.values();
        let group = groups
            .into_iter()
            .find(|group| claims.gid.as_ref().is_some_and(|gid| *gid == group.uuid.to_string()));
        let key = group.map(|group| &group.key).or(known.map(|database| &database.key));
        key.context("an expired token needs a database or a group")?.sign(&claims)
    }
}
