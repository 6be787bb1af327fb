//! Groups of databases.

use mt_core::Result;
use reqwest::Method;
use serde_json::json;

use super::{
    Group, PlatformClient,
    error::{Action, Cause, Subject},
    refusal::Why,
    transport::{Call, Request},
    wire::{Groups, OneGroup},
};

impl PlatformClient {
    /// The groups of the organization.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn groups(&self) -> Result<Vec<Group>> {
        let call = self.transport().call(Action::new("list the groups of", Subject::Organization));
        let request = Request::idempotent(Method::GET, self.url(["groups"]));
        match self.transport().fetch::<Groups>(&call, &request).await {
            Ok(list) => Ok(list.groups),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    /// The group `name`; `None`: there is none.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn group(&self, name: &str) -> Result<Option<Group>> {
        let call = self.on_group("find", name)?;
        self.find_group(&call, name).await.map_err(|cause| call.failed(cause).into())
    }

    /// Makes the group `name` with its primary in `location`, such as `aws-us-east-1`, or finds the
    /// one that is there.
    ///
    /// # Errors
    /// | kind | when |
    /// |---|---|
    /// | `NameTaken` | a group of that name is there, elsewhere |
    /// | `OutcomeUnknown` | the answer was lost, and no group of that name is there yet |
    pub async fn create_group(&self, name: &str, location: &str) -> Result<Group> {
        let call = self.on_group("create", name)?;
        let request = Request::once(Method::POST, self.url(["groups"]))
            .with_body(json!({ "name": name, "location": location }));
        let cause = match self.transport().fetch::<OneGroup>(&call, &request).await {
            Ok(made) => return Ok(made.group),
            Err(cause) => cause,
        };
        if cause.why() != Some(Why::Taken) && cause.is_before_effect() {
            return Err(call.failed(cause).into());
        }
        match self.find_group(&call, name).await {
            Ok(Some(group)) if is_in(&group, location) => Ok(group),
            Ok(Some(group)) => {
                let place = group.primary.unwrap_or_default();
                Err(call
                    .failed(Cause::Foreign(format!("in `{place}`, not in `{location}`")))
                    .into())
            }
            Ok(None) => Err(call.failed(cause).into()),
            Err(unseen) => {
                tracing::debug!(%unseen, "the group could not be looked up either");
                Err(call.failed(cause).into())
            }
        }
    }

    /// Deletes the group `name` **and every database in it**; `false`: it was not there.
    ///
    /// # Errors
    /// `Config`: it is protected from deletion. `Unavailable` does not say that it is still there;
    /// deleting it again is safe.
    pub async fn delete_group(&self, name: &str) -> Result<bool> {
        let call = self.on_group("delete", name)?;
        let request = Request::idempotent(Method::DELETE, self.url(["groups", name]));
        match self.transport().run(&call, &request).await {
            Ok(_) => Ok(true),
            Err(cause) if is_no_group(&cause) => Ok(call.is_unclear()),
            Err(cause) => Err(call.failed(cause).into()),
        }
    }

    /// Wakes the group `name`, which the service put to sleep for want of use. Its databases may
    /// not answer for some seconds yet. One that is awake stays so.
    ///
    /// # Errors
    /// Those of [`PlatformClient`].
    pub async fn unarchive_group(&self, name: &str) -> Result<()> {
        let call = self.on_group("wake", name)?;
        self.wake(&call, name).await.map_err(|cause| call.failed(cause).into())
    }

    pub(super) async fn wake(&self, call: &Call, group: &str) -> Result<(), Cause> {
        let url = self.url(["groups", group, "unarchive"]);
        let request = Request::idempotent(Method::POST, url).with_empty_answer();
        self.transport().run(call, &request).await?;
        Ok(())
    }

    async fn find_group(&self, call: &Call, name: &str) -> Result<Option<Group>, Cause> {
        let request = Request::idempotent(Method::GET, self.url(["groups", name]));
        match self.transport().fetch::<OneGroup>(call, &request).await {
            Ok(found) if found.group.name == name => Ok(Some(found.group)),
            Ok(found) => Err(Cause::Mismatch(found.group.name)),
            Err(cause) if is_no_group(&cause) => Ok(None),
            Err(cause) => Err(cause),
        }
    }
}

fn is_no_group(cause: &Cause) -> bool {
    matches!(cause.why(), Some(Why::Missing | Why::UnknownGroup))
}

/// Where the service does not say, it is not elsewhere.
fn is_in(group: &Group, location: &str) -> bool {
    group.primary.as_deref().is_none_or(|primary| primary == location)
}
