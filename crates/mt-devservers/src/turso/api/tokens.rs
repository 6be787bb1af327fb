//! `/auth/tokens` and `/auth/rotate`, of databases and of groups.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::turso::{
    api::{ApiError, Name, Result, Shared},
    organization::Organization,
    platform::Platform,
    token::{Access, Claims, Key, expiration},
};

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    expiration: Option<String>,
    authorization: Option<String>,
}

impl Wish {
    /// What is left out is as the service has it: no expiration, full access.
    fn claims(&self) -> Result<Claims> {
        let expiration = expiration(self.expiration.as_deref().unwrap_or("never"))
            .ok_or_else(|| ApiError::bad_request("Invalid expiration format"))?;
        let a = match self.authorization.as_deref() {
            None | Some("full-access") => Access::Full,
            Some("read-only") => Access::ReadOnly,
            Some(_) => return Err(ApiError::bad_request("Invalid authorization")),
        };
        let iat = Utc::now().timestamp();
        let exp = expiration.map(|seconds| iat.saturating_add(seconds));
        Ok(Claims { id: None, gid: None, a, iat, exp })
    }
}

/// A token of one database: signed by its own key, and bound to it by its id.
pub(super) async fn of_database(
    State(platform): Shared,
    Path((_, name)): Name,
    Query(wish): Query<Wish>,
) -> Result<Json<Value>> {
    let organization = platform.organization();
    let database = organization.database(&name).ok_or_else(|| ApiError::no_database(&name))?;
    let claims = Claims { id: Some(platform.namespace(&name)), ..wish.claims()? };
    Ok(Json(json!({"jwt": database.key.sign(&claims)?})))
}

/// A token of every database in a group, also of those that come later: signed by the group's
/// key, which each of them knows, and bound to none.
pub(super) async fn of_group(
    State(platform): Shared,
    Path((_, name)): Name,
    Query(wish): Query<Wish>,
) -> Result<Json<Value>> {
    let organization = platform.organization();
    let group = organization.groups.get(&name).ok_or_else(ApiError::no_group)?;
    let claims = Claims { gid: Some(group.uuid.to_string()), ..wish.claims()? };
    Ok(Json(json!({"jwt": group.key.sign(&claims)?})))
}

/// Every token of the database is worth nothing any more. Those of its group still are.
pub(super) async fn rotate_database(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<StatusCode> {
    let _alone = platform.settings.lock().await;
    let key = Key::generate()?;
    {
        let mut organization = platform.organization();
        let database = organization.database_mut(&name);
        database.ok_or_else(|| ApiError::no_database(&name))?.key = key;
    }
    configure(&platform, &name).await?;
    Ok(StatusCode::OK)
}

/// Every token of the group, and of each database in it, is worth nothing any more.
pub(super) async fn rotate_group(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<StatusCode> {
    let _alone = platform.settings.lock().await;
    let databases = new_keys(&mut platform.organization(), &name)?;
    for database in databases {
        configure(&platform, &database).await?;
    }
    Ok(StatusCode::OK)
}

/// Gives new keys to a group and its databases, and tells which these are.
fn new_keys(organization: &mut Organization, name: &str) -> Result<Vec<String>> {
    let group = organization.groups.get_mut(name).ok_or_else(ApiError::no_group)?;
    group.key = Key::generate()?;
    let mut changed = Vec::new();
    for (database, known) in &mut organization.databases {
        if known.group == name && known.is_there() {
            known.key = Key::generate()?;
            changed.push(database.clone());
        }
    }
    Ok(changed)
}

/// Tells sqld what is known of a database. The caller holds the lock of the settings.
pub(super) async fn configure(platform: &Platform, name: &str) -> Result<()> {
    let settings = platform.organization().settings(name);
    let settings = settings.ok_or_else(|| ApiError::no_database(name))?;
    Ok(platform.sqld.admin().configure(&platform.namespace(name), &settings).await?)
}
