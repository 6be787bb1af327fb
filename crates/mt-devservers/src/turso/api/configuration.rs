//! `/configuration`, of databases and of groups.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::turso::{
    api::{ApiError, Name, Result, Shared, tokens},
    organization::{Configuration, Group},
};

pub(super) async fn of_database(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<Json<Configuration>> {
    let organization = platform.organization();
    let database = organization.database(&name).ok_or_else(|| ApiError::no_database(&name))?;
    Ok(Json(database.configuration.clone()))
}

/// Changes what is named and leaves the rest. sqld has the last word on a size.
pub(super) async fn change_database(
    State(platform): Shared,
    Path((_, name)): Name,
    Json(changes): Json<Map<String, Value>>,
) -> Result<Json<Configuration>> {
    let _alone = platform.settings.lock().await;
    let set = |configuration| -> Result<Configuration> {
        let mut organization = platform.organization();
        let database = organization.database_mut(&name);
        let database = database.ok_or_else(|| ApiError::no_database(&name))?;
        Ok(std::mem::replace(&mut database.configuration, configuration))
    };
    let before = platform.organization().database(&name).map(|found| found.configuration.clone());
    let before = before.ok_or_else(|| ApiError::no_database(&name))?;
    let after = changed(before, changes)?;
    let before = set(after.clone())?;
    if let Err(error) = tokens::configure(&platform, &name).await {
        set(before)?;
        return Err(error);
    }
    Ok(Json(after))
}

fn changed(mut configuration: Configuration, changes: Map<String, Value>) -> Result<Configuration> {
    for (name, value) in changes {
        match name.as_str() {
            "size_limit" => configuration.size_limit = read(&name, value)?,
            "allow_attach" => configuration.allow_attach = read(&name, value)?,
            "block_reads" => configuration.block_reads = read(&name, value)?,
            "block_writes" => configuration.block_writes = read(&name, value)?,
            "delete_protection" => configuration.delete_protection = read(&name, value)?,
            // An explicit null clears a list.
            "allowed_ips" => {
                configuration.allowed_ips = read::<Option<_>>(&name, value)?.unwrap_or_default();
            }
            "allowed_aws_vpc_ids" => {
                let ids = read::<Option<_>>(&name, value)?;
                configuration.allowed_aws_vpc_ids = ids.unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(configuration)
}

fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
}

pub(super) async fn of_group(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<Json<Value>> {
    let organization = platform.organization();
    let group = organization.groups.get(&name).ok_or_else(ApiError::no_group)?;
    Ok(shown(group))
}

pub(super) async fn change_group(
    State(platform): Shared,
    Path((_, name)): Name,
    Json(mut changes): Json<Map<String, Value>>,
) -> Result<Json<Value>> {
    let mut organization = platform.organization();
    let group = organization.groups.get_mut(&name).ok_or_else(ApiError::no_group)?;
    if let Some(value) = changes.remove("delete_protection") {
        group.delete_protection = read("delete_protection", value)?;
    }
    Ok(shown(group))
}

fn shown(group: &Group) -> Json<Value> {
    Json(json!({"delete_protection": group.delete_protection}))
}
