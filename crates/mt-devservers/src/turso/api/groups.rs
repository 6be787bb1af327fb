//! `/groups`.

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::turso::{
    api::{ApiError, Name, Result, Shared, databases},
    organization::{Group, GroupState, Organization},
};

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    name: String,
    location: String,
}

pub(super) async fn list(State(platform): Shared) -> Json<Value> {
    let organization = platform.organization();
    let groups: Vec<_> =
        organization.groups.iter().map(|(name, group)| shown(name, group)).collect();
    Json(json!({"groups": groups}))
}

pub(super) async fn create(
    State(platform): Shared,
    wish: std::result::Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(wish) = wish.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let mut organization = platform.organization();
    if organization.groups.contains_key(&wish.name) {
        return Err(ApiError::new(StatusCode::CONFLICT, "group already exists"));
    }
    let group = Group::new(&wish.location)?;
    let answer = json!({"group": shown(&wish.name, &group)});
    organization.groups.insert(wish.name, group);
    Ok(Json(answer))
}

pub(super) async fn get(State(platform): Shared, Path((_, name)): Name) -> Result<Json<Value>> {
    let organization = platform.organization();
    let group = organization.groups.get(&name).ok_or_else(ApiError::no_group)?;
    Ok(Json(json!({"group": shown(&name, group)})))
}

/// Deletes a group with all that is in it.
pub(super) async fn delete(State(platform): Shared, Path((_, name)): Name) -> Result<Json<Value>> {
    let databases = databases_of(&platform.organization(), &name)?;
    for database in databases {
        databases::remove(&platform, &database).await?;
    }
    let group = platform.organization().groups.remove(&name).ok_or_else(ApiError::no_group)?;
    Ok(Json(json!({"group": shown(&name, &group)})))
}

fn databases_of(organization: &Organization, name: &str) -> Result<Vec<String>> {
    let group = organization.groups.get(name).ok_or_else(ApiError::no_group)?;
    if group.delete_protection {
        return Err(ApiError::forbidden("group is protected from deletion"));
    }
    let databases = organization.databases.iter().filter(|(_, database)| database.group == name);
    Ok(databases.map(|(name, _)| name.clone()).collect())
}

/// Wakes a group up, whether it is archived or sleeps.
pub(super) async fn unarchive(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<Json<Value>> {
    let mut organization = platform.organization();
    let group = organization.groups.get_mut(&name).ok_or_else(ApiError::no_group)?;
    group.state = GroupState::Awake;
    Ok(Json(json!({"group": shown(&name, group)})))
}

fn shown(name: &str, group: &Group) -> Value {
    json!({
        "name": name,
        "uuid": group.uuid,
        "locations": [group.location],
        "primary": group.location,
        "delete_protection": group.delete_protection,
        "sleeping": group.state == GroupState::Sleeping,
        "archived": group.state == GroupState::Archived,
    })
}
