//! Databases: making, finding, listing, settings, removing.

use std::{
    collections::{HashSet, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
};

use backon::Retryable as _;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mt_core::Result;
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use super::{
    Configuration, ConfigurationChange, CreateDatabase, Creation, Database, DatabaseFilter,
    Instance, PlatformClient, Seed, Usage,
    error::{Action, Cause, Subject},
    refusal::{Refusal, Why},
    transport::{Call, Request},
    wire::{DatabaseUsage, Instances, OneDatabase, Page},
};

/// How many databases are asked for at once.
const PAGE: &str = "100";

impl PlatformClient {
    /// Makes a database, or finds the one that is there.
    ///
    /// - Idempotent: a name that is taken, and a request whose answer was lost, are looked up; a
    ///   database in the group asked for, and where a seed was asked for not branched from
    ///   another, is the answer. That a found one has the seed's content is not proved: look at its stamp.
    /// - A group that sleeps is woken, once, and the database made as soon as it is awake: idle
    ///   groups are put to sleep by the service, and a sign-up must not fail for it.
    /// - A new database may not answer for some seconds; wait for it before using it.
    /// - Cost: one request; a second to look.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `NameTaken` | a database of that name is in another group, or branched from another |
    /// | `Conflict` | the name is taken, and no database has it: it is being made or deleted |
    /// | `OutcomeUnknown` | an answer was lost, and the database could not be looked up or was not there until the deadline |
    /// | `Config` | no such group; or no name: 1 to 64 of `a-z`, `0-9` and `-` |
    /// | `TenantNotFound` | the database of the seed is not there |
    pub async fn create_database(&self, create: &CreateDatabase) -> Result<Creation> {
        let call = self.on_database("create", &create.name)?;
        if !is_database_name(&create.name) {
            let text = "expected 1 to 64 of a-z, 0-9 and -";
            return Err(call.failed(Cause::Setting(text.to_owned())).into());
        }
        let limits = &self.transport().limits;
        let is_woken = AtomicBool::new(false);
        let outcome = (|| self.create_awake(&call, create, &is_woken))
            .retry(limits.backoff())
            .sleep(sleep)
            .when(Cause::is_transient)
            .adjust(|cause, delay| call.delay(cause, delay, limits.longest_wait))
            .await;
        outcome.map_err(|cause| call.failed(unknown_if(call.is_unclear(), cause)).into())
    }

    /// Asks once, and once more after waking the group.
    async fn create_awake(
        &self,
        call: &Call,
        create: &CreateDatabase,
        is_woken: &AtomicBool,
    ) -> Result<Creation, Cause> {
        match self.create_once(call, create).await {
            Err(cause)
                if cause.why() == Some(Why::Asleep) && !is_woken.swap(true, Ordering::Relaxed) =>
            {
                let group = &create.group;
                tracing::info!(group, "the group sleeps and is woken");
                self.wake(call, group).await.map_err(|source| Cause::NotWoken {
                    group: group.clone(),
                    source: Box::new(source),
                })?;
                self.create_once(call, create).await
            }
            outcome => outcome,
        }
    }

    /// Asks once, and looks where the answer does not tell. A transient error may be followed by
    /// asking again: the service makes no second database of the same name.
    async fn create_once(&self, call: &Call, create: &CreateDatabase) -> Result<Creation, Cause> {
        let request = Request::once(Method::POST, self.url(["databases"])).with_body(create.body());
        let answer = self.transport().attempt(call, &request).await;
        let answer = answer.and_then(|body| {
            let made: OneDatabase = self.transport().read(&body)?;
            same_name(&create.name, made.database)
        });
        let cause = match answer {
            Ok(mut made) => {
                made.group.get_or_insert_with(|| create.group.clone());
                return Ok(Creation { database: made, created: true });
            }
            Err(cause) => cause,
        };
        call.note(&cause);
        match cause {
            Cause::Refused { why: Why::Taken, refusal } => {
                let found = self.find(call, &create.name).await?;
                adopt(create, found, refusal)
            }
            cause if cause.is_before_effect() => Err(cause),
            cause => match self.find(call, &create.name).await {
                Ok(Some(found)) => adopt_found(create, found),
                // Nothing there, or not yet: asking again makes it or finds it.
                Ok(None) => Err(cause),
                Err(_unseen) => Err(Cause::Unknown(Box::new(cause))),
            },
        }
    }

    async fn find(&self, call: &Call, name: &str) -> Result<Option<Database>, Cause> {
        let request = Request::idempotent(Method::GET, self.url(["databases", name]));
        match self.transport().fetch::<OneDatabase>(call, &request).await {
            Ok(found) => same_name(name, found.database).map(Some),
            Err(cause) if cause.is_missing() => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// The database `name`; `None`: there is none. Only the service's own word counts for that,
    /// not the 404 of a gateway.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn database(&self, name: &str) -> Result<Option<Database>> {
        let call = self.on_database("find", name)?;
        self.find(&call, name).await.map_err(|cause| call.failed(cause).into())
    }

    /// The databases that `filter` lets through, page by page, in the service's order. One that is
    /// made or deleted meanwhile may be there or not.
    ///
    /// # Errors
    /// An error ends the stream. `Internal` also when the service's pages do not come to an end: a
    /// list cut short would look complete.
    pub fn databases(&self, filter: DatabaseFilter) -> BoxStream<'static, Result<Database>> {
        let listing = Listing {
            client: self.clone(),
            filter,
            next: Some(None),
            seen: HashSet::new(),
            page: VecDeque::new(),
        };
        stream::try_unfold(listing, |mut listing| async move {
            loop {
                if let Some(database) = listing.page.pop_front() {
                    return Ok(Some((database, listing)));
                }
                let Some(cursor) = listing.next.take() else { return Ok(None) };
                listing.turn(cursor).await?;
            }
        })
        .boxed()
    }

    /// Deletes the database `name`; `false`: it was not there, and no answer to this call was lost
    /// that might have said otherwise. What it held is gone at once.
    ///
    /// # Errors
    /// `Config`: it is protected from deletion. `Unavailable` does not say that it is still there;
    /// deleting it again is safe.
    pub async fn delete_database(&self, name: &str) -> Result<bool> {
        let call = self.on_database("delete", name)?;
        let request = Request::idempotent(Method::DELETE, self.url(["databases", name]));
        match self.transport().run(&call, &request).await {
            Ok(_) => Ok(true),
            Err(cause) if cause.is_missing() => Ok(call.is_unclear()),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    /// The settings of the database `name`.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn configuration(&self, name: &str) -> Result<Configuration> {
        let call = self.on_database("read the settings of", name)?;
        let url = self.url(["databases", name, "configuration"]);
        let request = Request::idempotent(Method::GET, url);
        self.transport().fetch(&call, &request).await.map_err(|cause| call.failed(cause).into())
    }

    /// Changes settings of the database `name`, those that `change` names and no others, and tells
    /// what they are then.
    ///
    /// # Errors
    /// `Unavailable` does not say that nothing was changed; changing it again is safe.
    pub async fn configure(
        &self,
        name: &str,
        change: &ConfigurationChange,
    ) -> Result<Configuration> {
        let call = self.on_database("change the settings of", name)?;
        let url = self.url(["databases", name, "configuration"]);
        let request = Request::idempotent(Method::PATCH, url).with_body(json!(change));
        self.transport().fetch(&call, &request).await.map_err(|cause| call.failed(cause).into())
    }

    /// What the database `name` was used for between two times. Default of the service: this
    /// month.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn usage(
        &self,
        name: &str,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<Usage> {
        let call = self.on_database("read the usage of", name)?;
        let mut url = self.url(["databases", name, "usage"]);
        for (key, time) in [("from", from), ("to", to)] {
            if let Some(time) = time {
                let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
                url.query_pairs_mut().append_pair(key, &text);
            }
        }
        let request = Request::idempotent(Method::GET, url);
        let usage = self.transport().fetch::<DatabaseUsage>(&call, &request).await;
        usage
            .and_then(|usage| {
                let none = || Cause::Malformed("neither `usage` nor `total` is there".to_owned());
                usage.total().ok_or_else(none)
            })
            .map_err(|cause| call.failed(cause).into())
    }

    /// The copies of the database `name`.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn instances(&self, name: &str) -> Result<Vec<Instance>> {
        let call = self.on_database("list the instances of", name)?;
        let url = self.url(["databases", name, "instances"]);
        let request = Request::idempotent(Method::GET, url);
        match self.transport().fetch::<Instances>(&call, &request).await {
            Ok(list) => Ok(list.instances),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }
}

/// A list on its way.
struct Listing {
    client: PlatformClient,
    filter: DatabaseFilter,
    /// The cursor of the next page; the first has none.
    next: Option<Option<String>>,
    seen: HashSet<String>,
    page: VecDeque<Database>,
}

impl Listing {
    async fn turn(&mut self, cursor: Option<String>) -> Result<()> {
        let transport = self.client.transport();
        let call = transport.call(Action::new("list the databases of", Subject::Organization));
        let request = Request::idempotent(Method::GET, self.url(cursor.as_deref()));
        let page = transport.fetch::<Page>(&call, &request).await;
        let mut page = page.map_err(|cause| call.failed(cause))?;
        let next = page.next();
        if let Some(next) = next {
            if self.seen.insert(next.clone()) {
                self.next = Some(Some(next));
            } else if !page.databases.is_empty() {
                return Err(call.failed(Cause::Stuck(next)).into());
            }
        }
        self.page.extend(page.databases.into_iter().filter(|d| self.filter.matches(d)));
        Ok(())
    }

    fn url(&self, cursor: Option<&str>) -> Url {
        let mut url = self.client.url(["databases"]);
        let filter = &self.filter;
        let pairs = [
            ("limit", Some(PAGE)),
            ("cursor", cursor),
            ("group", filter.group.as_deref()),
            ("parent", filter.parent.as_deref()),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        url
    }
}

/// The database that has the name, if it is the one that was to be made.
fn adopt(
    create: &CreateDatabase,
    found: Option<Database>,
    refusal: Refusal,
) -> Result<Creation, Cause> {
    found.map_or(Err(Cause::Unseen(refusal)), |found| adopt_found(create, found))
}

fn adopt_found(create: &CreateDatabase, found: Database) -> Result<Creation, Cause> {
    if let Some(group) = &found.group
        && *group != create.group
    {
        let text = format!("in the group `{group}`, not in `{}`", create.group);
        return Err(Cause::Foreign(text));
    }
    let parent = found.parent.as_ref().and_then(|parent| parent.name.as_deref());
    if let (Some(Seed::Database { name, .. }), Some(parent)) = (&create.seed, parent)
        && parent != name
    {
        return Err(Cause::Foreign(format!("branched from `{parent}`, not from `{name}`")));
    }
    Ok(Creation { database: found, created: false })
}

/// A database under another name than was asked for is never used.
fn same_name(name: &str, database: Database) -> Result<Database, Cause> {
    if database.name == name { Ok(database) } else { Err(Cause::Mismatch(database.name)) }
}

/// What the service makes of a name, checked here: another server of the protocol takes anything.
fn is_database_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// After a lost answer, giving up is not knowing.
fn unknown_if(is_unclear: bool, cause: Cause) -> Cause {
    if !is_unclear || matches!(cause, Cause::Unknown(_)) || !cause.is_transient() {
        return cause;
    }
    Cause::Unknown(Box::new(cause))
}
