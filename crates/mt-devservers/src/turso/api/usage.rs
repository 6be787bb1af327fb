//! `/instances`, `/usage` and `/stats`: what sqld counts.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::turso::{
    api::{ApiError, Name, Result, Shared},
    platform::Platform,
};

/// The one instance that there is.
pub(super) async fn instances(
    State(platform): Shared,
    Path((_, name)): Name,
) -> Result<Json<Value>> {
    let organization = platform.organization();
    let database = organization.database(&name).ok_or_else(|| ApiError::no_database(&name))?;
    let location = organization.groups.get(&database.group).map(|group| group.location.as_str());
    let instance = json!({
        "uuid": database.instance,
        "name": location,
        "type": "primary",
        "region": location,
        "hostname": platform.hostname(&name),
    });
    Ok(Json(json!({"instances": [instance]})))
}

#[derive(Debug, Deserialize)]
pub(super) struct Period {
    from: Option<String>,
    to: Option<String>,
}

/// sqld counts from the beginning, and this server does not remember more: a period is checked
/// and makes no difference.
pub(super) async fn usage(
    State(platform): Shared,
    Path((_, name)): Name,
    Query(period): Query<Period>,
) -> Result<Json<Value>> {
    for (field, time) in [("from", &period.from), ("to", &period.to)] {
        if let Some(error) = time.as_ref().and_then(|time| DateTime::parse_from_rfc3339(time).err())
        {
            return Err(ApiError::bad_request(format!("invalid {field} parameter: {error}")));
        }
    }
    let [id, instance] = ids(&platform, &name)?;
    let stats = platform.sqld.admin().stats(&platform.namespace(&name)).await?;
    let usage = json!({
        "rows_read": stats["rows_read_count"],
        "rows_written": stats["rows_written_count"],
        "storage_bytes": stats["storage_bytes_used"],
        "bytes_synced": 0,
    });
    let instances = json!([{"uuid": instance, "usage": usage}]);
    // The field is called `usage` on the wire and `total` in the description of the API.
    Ok(Json(json!({"database": {"uuid": id, "instances": instances, "usage": usage}})))
}

pub(super) async fn stats(State(platform): Shared, Path((_, name)): Name) -> Result<Json<Value>> {
    ids(&platform, &name)?;
    let stats = platform.sqld.admin().stats(&platform.namespace(&name)).await?;
    Ok(Json(json!({"top_queries": stats["top_queries"]})))
}

/// Of the database, and of its instance.
fn ids(platform: &Platform, name: &str) -> Result<[Uuid; 2]> {
    let organization = platform.organization();
    let database = organization.database(name).ok_or_else(|| ApiError::no_database(name))?;
    Ok([database.id, database.instance])
}
