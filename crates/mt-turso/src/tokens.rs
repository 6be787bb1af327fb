//! Tokens that open databases: minted when they are needed, kept while they are good.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use mt_core::{Error, ErrorKind, Result, Secret};
use tokio::time::Instant;

use crate::{
    NAME,
    platform::{Authorization, Expiration, PlatformClient, TokenScope},
};

/// The tokens of an organization's databases.
///
/// - One per database and [`Authorization`], or one per authorization for all databases of a
///   group. Each is kept until it expires and found by the database's **name and id**: one is never
///   given out for another database, not even for one that was made under the same name later.
/// - The service mints by name. So after each mint for a database it is asked what the name means,
///   and the token of another one is thrown away.
/// - A fifth of its life before it expires, at most 5 minutes, it is renewed in the background,
///   while the one that is still good is given out. One that has expired is never given out.
/// - Many callers cause one mint and share its outcome. It runs on its own, so a caller that gives
///   up does not cancel it for the others. A failure is not kept.
/// - Memory: one entry, about half a kilobyte, per database used within a token's life.
///
/// # One token for a group
/// Saves two requests per database per hour where there are thousands, and gives up two walls. Who
/// gets hold of it reads and writes *every* database of the group; this crate still sends it only
/// to the host of the database that was asked for. And it opens whatever has a database's name: who
/// has used a database before it was deleted and made anew uses the new one then, unnoticed.
pub struct Tokens(Arc<Inner>);

struct Inner {
    mint: Arc<dyn Mint>,
    group: Option<String>,
    lifetime: Duration,
    entries: Mutex<Entries>,
    mints: AtomicU64,
}

#[derive(Default)]
struct Entries {
    map: HashMap<Key, Entry>,
    /// The number of entries at which those that are worth nothing any more are removed.
    sweep_at: usize,
}

/// What a token is for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `None`: the group.
    database: Option<Named>,
    authorization: Authorization,
}

/// A database, and what tells it from another that has its name later.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Named {
    name: Arc<str>,
    id: Arc<str>,
}

#[derive(Default)]
struct Entry {
    token: Option<Token>,
    minting: Option<Minting>,
    /// When a token of this key was refused last, so that its successor is known as one.
    refused_at: Option<Instant>,
}

#[derive(Clone)]
struct Token {
    secret: Secret,
    minted_at: Instant,
    renew_at: Instant,
    expires_at: Instant,
    /// Whether it was minted because the one before was refused.
    is_successor: bool,
}

/// A mint that is under way; `number` tells one from the next.
struct Minting {
    outcome: Outcome,
    number: u64,
}

/// What everybody waits for.
type Outcome = Shared<BoxFuture<'static, Result<Secret>>>;

/// Where tokens come from.
#[async_trait]
trait Mint: Send + Sync + 'static {
    async fn mint(
        &self,
        scope: TokenScope<'_>,
        authorization: Authorization,
        lifetime: Duration,
    ) -> Result<Secret>;

    /// The id of the database that `name` means now.
    async fn id_of(&self, name: &str) -> Result<Option<String>>;
}

#[async_trait]
impl Mint for PlatformClient {
    async fn mint(
        &self,
        scope: TokenScope<'_>,
        authorization: Authorization,
        lifetime: Duration,
    ) -> Result<Secret> {
        self.mint_token(scope, authorization, Expiration::After(lifetime)).await
    }

    async fn id_of(&self, name: &str) -> Result<Option<String>> {
        Ok(self.database(name).await?.map(|database| database.id))
    }
}

/// How long a token that took a refused one's place is kept although it is refused too. A database
/// that refuses every token must not cost a mint per query, and so everybody's rate.
const HOLD: Duration = Duration::from_secs(10);

/// The longest before its end that a token is renewed.
const MAX_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The shortest life: the service counts in minutes.
const MIN_LIFETIME: Duration = Duration::from_secs(60);

/// The fewest entries that are worth a look for worthless ones.
const MIN_SWEEP: usize = 64;

impl Tokens {
    /// Tokens that are good for `lifetime`, of each database for itself, or of all databases of
    /// `group` together. Does no I/O.
    ///
    /// # Errors
    /// `Config`: the lifetime is under a minute, or `group` is empty.
    pub fn new(
        platform: &PlatformClient,
        group: Option<String>,
        lifetime: Duration,
    ) -> Result<Self> {
        let refused = |text: &str| Err(Error::new(ErrorKind::Config, text).with_provider(NAME));
        if lifetime < MIN_LIFETIME {
            return refused("the lifetime of tokens is too short, expected a minute at least");
        }
        if group.as_ref().is_some_and(String::is_empty) {
            return refused("the name of the group whose token is used is empty");
        }
        Ok(Self::from_mint(Arc::new(platform.clone()), group, lifetime))
    }

    fn from_mint(mint: Arc<dyn Mint>, group: Option<String>, lifetime: Duration) -> Self {
        let (entries, mints) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { mint, group, lifetime, entries, mints }))
    }

    /// A token that opens the database `name` with this `id`, for `authorization`.
    ///
    /// # Errors
    /// Those of [`PlatformClient::mint_token`] and [`PlatformClient::database`], when there is none
    /// that is still good. `ForeignDatabase`: the name means another database by now.
    /// `TenantNotFound`: it means none.
    pub async fn get(&self, name: &str, id: &str, authorization: Authorization) -> Result<Secret> {
        match self.0.find_or_mint(&self.0.key(name, id, authorization)) {
            Ok(secret) => Ok(secret),
            Err(outcome) => outcome.await,
        }
    }

    /// Says that the database refused `token`, which is then given out no more. Returns whether
    /// [`get`](Self::get) may now bring another.
    ///
    /// `false`: it had itself taken the place of a refused one less than 10 seconds ago, and is
    /// kept that long. Another would fare no better, and the service should not be asked for one
    /// per query.
    pub fn refused(
        &self,
        name: &str,
        id: &str,
        authorization: Authorization,
        token: &Secret,
    ) -> bool {
        let mut entries = self.0.lock();
        let Some(entry) = entries.map.get_mut(&self.0.key(name, id, authorization)) else {
            return true;
        };
        let now = Instant::now();
        if let Some(kept) = &entry.token
            && kept.secret.expose() == token.expose()
        {
            if kept.is_successor && now < kept.minted_at + HOLD {
                return false;
            }
            entry.token = None;
            entry.refused_at = Some(now);
        }
        true
    }

    /// Forgets the tokens of every database that has or had this `name`, because it was deleted or
    /// its keys were rotated. A group's token stays: it is the other databases' too.
    pub fn forget(&self, name: &str) {
        let is_its =
            |key: &Key| key.database.as_ref().is_some_and(|database| &*database.name == name);
        self.0.lock().map.retain(|key, _| !is_its(key));
    }

    /// Forgets all, because the keys of the group were rotated.
    pub fn forget_all(&self) {
        self.0.lock().map.clear();
    }
}

impl Inner {
    fn key(&self, name: &str, id: &str, authorization: Authorization) -> Key {
        let named = || Named { name: name.into(), id: id.into() };
        Key { database: self.group.is_none().then(named), authorization }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is good now, or the mint that everybody waits for.
    fn find_or_mint(self: &Arc<Self>, key: &Key) -> Result<Secret, Outcome> {
        let now = Instant::now();
        let mut entries = self.lock();
        let entry = entries.map.entry(key.clone()).or_default();
        if let Some(token) = entry.token.as_ref().filter(|token| now < token.expires_at) {
            let secret = token.secret.clone();
            if now >= token.renew_at && entry.minting.is_none() {
                entry.minting = Some(self.start(key));
            }
            return Ok(secret);
        }
        let minting = entry.minting.get_or_insert_with(|| self.start(key));
        let outcome = minting.outcome.clone();
        entries.sweep(now);
        Err(outcome)
    }

    /// Mints in a task of its own, so that no caller can cancel it for the others.
    fn start(self: &Arc<Self>, key: &Key) -> Minting {
        let number = self.mints.fetch_add(1, Ordering::Relaxed);
        let task = tokio::spawn({
            let (tokens, key) = (Arc::clone(self), key.clone());
            async move {
                // Counted from before it is asked for: the token's own clock starts later.
                let asked_at = Instant::now();
                let outcome = tokens.mint(&key).await;
                tokens.settle(&key, number, asked_at, &outcome);
                outcome
            }
        });
        // Weak: what waits for an outcome must not keep the tokens alive.
        let (tokens, key) = (Arc::downgrade(self), key.clone());
        let outcome = async move {
            task.await.unwrap_or_else(|e| {
                let error = Err(Error::new(ErrorKind::Internal, "minting a token was interrupted")
                    .with_provider(NAME)
                    .with_source(e));
                if let Some(tokens) = tokens.upgrade() {
                    tokens.settle(&key, number, Instant::now(), &error);
                }
                error
            })
        };
        Minting { outcome: outcome.boxed().shared(), number }
    }

    async fn mint(&self, key: &Key) -> Result<Secret> {
        let scope = match (&key.database, &self.group) {
            (Some(database), _) => TokenScope::Database(&database.name),
            (None, Some(group)) => TokenScope::Group(group),
            (None, None) => {
                return Err(Error::new(ErrorKind::Internal, "a token is wanted for nothing"));
            }
        };
        let token = self.mint.mint(scope, key.authorization, self.lifetime).await?;
        // Looked at afterwards: a name that means this database now did so when it was minted.
        if let Some(database) = &key.database {
            require_same(database, self.mint.id_of(&database.name).await?.as_deref())?;
        }
        Ok(token)
    }

    /// Puts the outcome of mint `number` in its place, unless the key was forgotten since: then
    /// those who waited may use it, and nobody after them.
    fn settle(&self, key: &Key, number: u64, asked_at: Instant, outcome: &Result<Secret>) {
        let mut entries = self.lock();
        let Some(entry) = entries.map.get_mut(key) else { return };
        if entry.minting.as_ref().is_none_or(|minting| minting.number != number) {
            return;
        }
        entry.minting = None;
        match outcome {
            Ok(secret) => {
                let is_successor = entry.refused_at.take().is_some();
                let token = Token::new(secret.clone(), asked_at, self.lifetime, is_successor);
                entry.token = Some(token);
            }
            Err(error) => {
                let now = Instant::now();
                let Some(token) = entry.token.as_mut().filter(|token| now < token.expires_at)
                else {
                    // Whoever waited has the error; the next asks again.
                    return;
                };
                // Half of the rest, so that a failing platform is not asked at every use.
                token.renew_at = now + (token.expires_at - now) / 2;
                let database = key.database.as_ref().map_or("(group)", |database| &*database.name);
                tracing::warn!(database, error = %error.to_chain(), "a token was not renewed");
            }
        }
    }
}

/// Whether the name still means the database.
fn require_same(database: &Named, found: Option<&str>) -> Result<()> {
    match found {
        Some(id) if id == &*database.id => Ok(()),
        Some(_) => Err(made_anew(&database.name)),
        None => Err(Error::new(ErrorKind::TenantNotFound, "the service has no such database")
            .with_provider(NAME)),
    }
}

pub(crate) fn made_anew(name: &str) -> Error {
    let message = format!("another database was made under the name `{name}`; open it again");
    Error::new(ErrorKind::ForeignDatabase, message).with_provider(NAME)
}

impl Entries {
    /// Removes what is worth nothing any more, when there may be much of it.
    fn sweep(&mut self, now: Instant) {
        if self.map.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.map.retain(|_, entry| {
            entry.minting.is_some()
                || entry.token.as_ref().is_some_and(|token| now < token.expires_at)
        });
        self.sweep_at = self.map.len() * 2;
    }
}

impl Token {
    fn new(secret: Secret, minted_at: Instant, lifetime: Duration, is_successor: bool) -> Self {
        let expires_at = minted_at + lifetime;
        let margin = (lifetime / 5).min(MAX_MARGIN);
        Self { secret, minted_at, renew_at: expires_at - margin, expires_at, is_successor }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("group", &self.0.group)
            .field("lifetime", &self.0.lifetime)
            .field("kept", &self.0.lock().map.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
