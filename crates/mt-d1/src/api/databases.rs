//! Databases: making, finding, removing.

use backon::Retryable as _;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use mt_core::Result;
use reqwest::Method;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::sleep;

use super::{
    CreateDatabase, Creation, D1Client, Database,
    envelope::Success,
    error::{Action, Cause, Subject},
    is_segment, is_uuid,
    list::Listing,
    refusal::{Refusal, Why},
    transport::{Call, Request},
};
use crate::budget::Lane;

/// What is asked of one database. Its size is not told unless it is asked for.
const FIELDS: &str = "uuid,name,file_size";

impl D1Client {
    /// Makes a database. Where the answer is lost, looks before it asks again.
    ///
    /// - A name that is taken, and a request whose answer was lost, are looked up: what is there is
    ///   [`Creation::Exists`], and whose it is has to be seen by its stamp.
    /// - A new database may be missing for a moment when it is asked for.
    /// - Cost: one request; another for each look.
    ///
    /// # Errors
    /// Those of [`D1Client`], and
    ///
    /// | kind | when |
    /// |---|---|
    /// | `Conflict` | the name is taken, and no database has it: it is being made or deleted |
    /// | `OutcomeUnknown` | an answer was lost, and the database could not be looked up or was not there until the deadline |
    /// | `QuotaExceeded` | the account has as many databases as it may |
    pub async fn create(&self, database: &CreateDatabase) -> Result<Creation> {
        let action = Action::new("create", Subject::New(database.name.clone()));
        let transport = self.transport();
        let call = transport.call(action, &Lane::Control, None);
        if !is_segment(&database.name) {
            return Err(call.failed(Cause::Setting(NO_NAME)).into());
        }
        let body = json!(database).to_string().into_bytes();
        let request = Request::once(Method::POST, self.url([])).with_body(body);
        let outcome = (|| self.create_once(&call, &request, &database.name))
            .retry(transport.limits.backoff())
            .sleep(sleep)
            .when(Cause::is_transient)
            .adjust(|cause, delay| call.delay(cause, delay))
            .await;
        outcome.map_err(|cause| call.failed(unknown_if(call.is_unclear(), cause)).into())
    }

    /// Asks once, and looks where the answer does not tell. After a transient error it may be asked
    /// again: the service makes no second database of the same name.
    async fn create_once(
        &self,
        call: &Call,
        request: &Request,
        name: &str,
    ) -> Result<Creation, Cause> {
        let answer = self.transport().attempt(call, request).await;
        let cause = match answer.and_then(Success::needed).and_then(|made| same_name(name, made)) {
            Ok(made) => return Ok(Creation::Created(made)),
            Err(cause) => cause,
        };
        call.note(&cause);
        match cause {
            Cause::Refused { why: Why::Taken, refusal } => {
                self.find_taken(call, name, &refusal).await.map(Creation::Exists)
            }
            cause if cause.is_before_effect() => Err(cause),
            cause => match self.find(call, name).await {
                Ok(Some(found)) => Ok(Creation::Exists(found)),
                // Nothing there, or not yet: asking again makes it or finds it.
                Ok(None) => Err(cause),
                Err(_unseen) => Err(Cause::Unknown(Box::new(cause))),
            },
        }
    }

    /// The database that has a name which is taken. It may not be seen at once.
    async fn find_taken(
        &self,
        call: &Call,
        name: &str,
        refusal: &Refusal,
    ) -> Result<Database, Cause> {
        let look = async || {
            let found = self.find(call, name).await?;
            found.ok_or_else(|| Cause::Unseen(refusal.clone()))
        };
        look.retry(self.transport().limits.backoff())
            .sleep(sleep)
            .when(|cause| matches!(cause, Cause::Unseen(_)))
            .adjust(|cause, delay| call.delay(cause, delay))
            .await
    }

    /// The database of this name, exactly. Only the service's own word counts for there being none,
    /// not the 404 of a gateway.
    ///
    /// # Errors
    /// Those of [`D1Client`].
    pub async fn database_by_name(&self, name: &str) -> Result<Option<Database>> {
        let action = Action::new("find", Subject::Database(name.to_owned()));
        let call = self.transport().call(action, &Lane::Control, None);
        if !is_segment(name) {
            return Err(call.failed(Cause::Setting(NO_NAME)).into());
        }
        self.find(&call, name).await.map_err(|cause| call.failed(cause).into())
    }

    /// Asks for the database under its name, which the vendor's own tool does and its OpenAPI file
    /// does not tell; searches for it where that cannot be, or does not answer what it should.
    async fn find(&self, call: &Call, name: &str) -> Result<Option<Database>, Cause> {
        // Where ids are, one that is a name would be taken for an id.
        if !is_uuid(name) {
            match self.ask(call, name).await {
                Ok(found) if found.name == name => return Ok(Some(found)),
                Ok(_another) => {}
                Err(cause) if cause.is_missing() => return Ok(None),
                Err(cause) if cause.why() == Some(Why::Account) => {}
                Err(cause) => return Err(cause),
            }
        }
        let mut listing = Listing::named(self, name);
        while let Some(found) = listing.next(call).await? {
            if found.name == name {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The database of this id.
    ///
    /// # Errors
    /// Those of [`D1Client`].
    pub async fn database(&self, uuid: &str) -> Result<Option<Database>> {
        let call = self.on_database("find", uuid)?;
        let found = match self.ask(&call, uuid).await {
            Ok(found) if found.uuid.eq_ignore_ascii_case(uuid) => Ok(Some(found)),
            Ok(another) => Err(Cause::Mismatch(another.uuid)),
            Err(cause) if cause.is_missing() => Ok(None),
            Err(cause) => Err(cause),
        };
        found.map_err(|cause| call.failed(cause).into())
    }

    /// All databases whose name starts with `prefix`, page by page, in the service's order. One that
    /// is made or deleted meanwhile may be there or not; the others are, each once.
    ///
    /// Cost: a request for every 100, at least.
    ///
    /// # Errors
    /// Those of [`D1Client`]. One ends the stream.
    pub fn databases(&self, prefix: &str) -> BoxStream<'_, Result<Database>> {
        let listing = Listing::starting(self, prefix);
        let all = futures_util::stream::try_unfold(listing, async |mut listing| {
            let action = Action::new("list the databases of", Subject::Account);
            // Each page has a deadline of its own: whoever reads the list may take its time.
            let call = self.transport().call(action, &Lane::Control, None);
            match listing.next(&call).await {
                Ok(found) => Ok(found.map(|found| (found, listing))),
                Err(cause) => Err(mt_core::Error::from(call.failed(cause))),
            }
        });
        Box::pin(all.into_stream())
    }

    /// Deletes a database; none there is success. What it held is gone at once.
    ///
    /// Deleting is repeated until it is answered: an id is never used twice.
    ///
    /// # Errors
    /// Those of [`D1Client`]. `OutcomeUnknown`: an answer was lost, and repeating it did not tell.
    pub async fn delete(&self, uuid: &str) -> Result<()> {
        let call = self.on_database("delete", uuid)?;
        let request = Request::idempotent(Method::DELETE, self.url([uuid]));
        let answer = self.transport().run(&call, &request, |_: Success<IgnoredAny>| Ok(()));
        match answer.await {
            Ok(()) => Ok(()),
            Err(cause) if cause.is_missing() => Ok(()),
            Err(cause) => Err(call.failed(unknown_if(call.is_unclear(), cause)).into()),
        }
    }

    /// What the service takes `id` for: a database's id or its name.
    async fn ask(&self, call: &Call, id: &str) -> Result<Database, Cause> {
        let mut url = self.url([id]);
        url.query_pairs_mut().append_pair("fields", FIELDS);
        let request = Request::idempotent(Method::GET, url);
        self.transport().run(call, &request, Success::needed).await
    }

    /// An operation of the control plane on the database of this id.
    pub(super) fn on_database(&self, verb: &'static str, uuid: &str) -> Result<Call> {
        let action = Action::new(verb, Subject::Database(uuid.to_owned()));
        let call = self.transport().call(action, &Lane::Control, Some(uuid));
        // A name would do at some paths, and be somebody else's database tomorrow.
        if is_uuid(uuid) { Ok(call) } else { Err(call.failed(Cause::Setting(NO_ID)).into()) }
    }
}

const NO_NAME: &str = "there is no such name: it is empty, a dot, or has control characters";
pub(super) const NO_ID: &str = "this is no id of a database; expected a uuid";

/// A database under another name than was asked for is never used.
fn same_name(name: &str, database: Database) -> Result<Database, Cause> {
    if database.name == name { Ok(database) } else { Err(Cause::Mismatch(database.name)) }
}

/// After a lost answer, giving up is not knowing: a refusal of what was repeated says nothing of what
/// was lost.
fn unknown_if(is_unclear: bool, cause: Cause) -> Cause {
    if !is_unclear || matches!(cause, Cause::Unknown(_) | Cause::Unseen(_)) {
        return cause;
    }
    Cause::Unknown(Box::new(cause))
}
