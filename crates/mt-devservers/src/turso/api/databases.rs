//! `/databases`.

use std::{ops::Bound, time::Instant};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::JsonRejection},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::turso::{
    api::{ApiError, Name, Result, Shared},
    organization::{Database, GroupState, Organization, Parent, Phase, RestorePoint},
    platform::Platform,
};

/// What the service documents: lower case, digits and dashes, at most 64.
const NAME_LENGTH: usize = 64;
/// A host name's label has no more (RFC 1035), and the organization's slug is in it too.
const LABEL_LENGTH: usize = 63;
/// How many databases one answer lists, when nobody asks for less.
const PAGE: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    name: String,
    group: String,
    seed: Option<Seed>,
    size_limit: Option<String>,
    remote_encryption: Option<Value>,
    #[serde(default)]
    use_tursodb: bool,
    schema: Option<Value>,
    #[serde(default)]
    is_schema: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Seed {
    Database { name: String, timestamp: Option<DateTime<Utc>> },
    DatabaseUpload,
}

pub(super) async fn create(
    State(platform): Shared,
    wish: std::result::Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Value>> {
    let Json(wish) = wish.map_err(|error| ApiError::bad_request(error.body_text()))?;
    check(&wish, &platform.slug)?;
    let _turn = platform.turn(&wish.name).await;
    reserve(&mut platform.organization(), &wish)?;
    let made = make(&platform, &wish).await;
    let mut organization = platform.organization();
    if let Err(error) = made {
        organization.databases.remove(&wish.name);
        return Err(error);
    }
    let database = organization.databases.get_mut(&wish.name);
    let database = database.ok_or_else(|| ApiError::no_database(&wish.name))?;
    database.phase = match wish.seed {
        Some(Seed::DatabaseUpload) => Phase::AwaitsUpload,
        Some(Seed::Database { .. }) | None => Phase::Ready,
    };
    database.created = Instant::now();
    let hostname = platform.hostname(&wish.name);
    Ok(Json(json!({
        "database": {"DbId": database.id, "Hostname": hostname, "Name": wish.name},
    })))
}

fn check(wish: &Wish, slug: &str) -> Result<()> {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_short =
        wish.name.len() <= NAME_LENGTH && wish.name.len() + 1 + slug.len() <= LABEL_LENGTH;
    if wish.name.is_empty() || !wish.name.chars().all(is_fine) || !is_short {
        return Err(ApiError::bad_request(
            "database name must contain only lowercase letters, numbers and dashes, and be short \
             enough for a host name",
        ));
    }
    // What sqld cannot do is refused, instead of done by halves.
    let refused = [
        (wish.use_tursodb, "use_tursodb: this server has the libsql engine only"),
        (wish.remote_encryption.is_some(), "remote_encryption: not supported by this server"),
        (wish.is_schema || wish.schema.is_some(), "schema databases are deprecated"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, message)) => Err(ApiError::bad_request(*message)),
        None => Ok(()),
    }
}

/// Takes the name, so that of two that ask for it at once one is told that it is taken.
fn reserve(organization: &mut Organization, wish: &Wish) -> Result<()> {
    let Some(group) = organization.groups.get(&wish.group) else {
        return Err(ApiError::bad_request("group not found"));
    };
    if organization.databases.contains_key(&wish.name) {
        return Err(ApiError::bad_request("database with same name already exists"));
    }
    let state = match group.state {
        GroupState::Awake => None,
        GroupState::Sleeping => Some("sleeping"),
        GroupState::Archived => Some("archived"),
    };
    if let Some(state) = state {
        let group = &wish.group;
        let message = format!("cannot create database on group {group} because it is {state}");
        return Err(ApiError::bad_request(message));
    }
    if organization.quota.is_some_and(|quota| organization.databases.len() >= quota) {
        return Err(ApiError::forbidden(
            "database limit reached: delete databases or upgrade the plan",
        ));
    }
    let mut database = Database::new(&wish.group, wish.size_limit.clone())?;
    if let Some(Seed::Database { name, timestamp }) = &wish.seed {
        let parent = organization.database(name);
        let parent = parent.ok_or_else(|| ApiError::bad_request("seed database not found"))?;
        let branched_at = timestamp.unwrap_or_else(Utc::now);
        database.parent = Some(Parent { id: parent.id, name: name.clone(), branched_at });
    }
    organization.databases.insert(wish.name.clone(), database);
    Ok(())
}

/// Makes the namespace.
async fn make(platform: &Platform, wish: &Wish) -> Result<()> {
    let settings = platform.organization().settings(&wish.name);
    let settings = settings.ok_or_else(|| ApiError::no_database(&wish.name))?;
    let namespace = platform.namespace(&wish.name);
    let admin = platform.sqld.admin();
    let Some(Seed::Database { name, timestamp }) = &wish.seed else {
        return Ok(admin.create(&namespace, &settings).await?);
    };
    let source = source(platform, name, *timestamp)?;
    admin.fork(&source, &namespace).await?;
    // A fork has its parent's settings, the keys among them.
    if let Err(error) = admin.configure(&namespace, &settings).await {
        admin.delete(&namespace).await?;
        return Err(error.into());
    }
    Ok(())
}

/// The namespace to fork: the database as it is, or the newest restore point up to `timestamp`.
fn source(platform: &Platform, name: &str, timestamp: Option<DateTime<Utc>>) -> Result<String> {
    let organization = platform.organization();
    let database = organization.database(name).ok_or_else(|| ApiError::no_database(name))?;
    let Some(timestamp) = timestamp else { return Ok(platform.namespace(name)) };
    let points = database.restore_points.iter().filter(|point| point.at <= timestamp);
    match points.max_by_key(|point| point.at) {
        Some(point) => Ok(point.namespace.clone()),
        None => Err(ApiError::bad_request("no restore point at or before the given timestamp")),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    group: Option<String>,
    /// The id of the database that was branched.
    parent: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Lists by name. The cursor is the last name of the page before; clients must not know.
pub(super) async fn list(State(platform): Shared, Query(filter): Query<Filter>) -> Json<Value> {
    let organization = platform.organization();
    let is_in = |database: &Database| {
        let parent = database.parent.as_ref().map(|parent| parent.id.to_string());
        filter.group.as_ref().is_none_or(|group| *group == database.group)
            && (filter.parent.is_none() || filter.parent == parent)
    };
    let from = match &filter.cursor {
        Some(cursor) => Bound::Excluded(cursor.clone()),
        None => Bound::Unbounded,
    };
    let limit = filter.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let mut found = organization
        .databases
        .range((from, Bound::Unbounded))
        .filter(|(_, database)| database.is_there() && is_in(database));
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let next = found.next().and(page.last()).map(|(name, _)| name);
    let databases: Vec<_> = page
        .iter()
        .map(|(name, database)| shown(&platform, &organization, name, database))
        .collect();
    let mut answer = json!({"databases": databases});
    if let Some(next) = next {
        answer["pagination"] = json!({"next": next});
    }
    Json(answer)
}

pub(super) async fn get(State(platform): Shared, Path((_, name)): Name) -> Result<Json<Value>> {
    let organization = platform.organization();
    let database = organization.database(&name).ok_or_else(|| ApiError::no_database(&name))?;
    Ok(Json(json!({"database": shown(&platform, &organization, &name, database)})))
}

fn shown(
    platform: &Platform,
    organization: &Organization,
    name: &str,
    database: &Database,
) -> Value {
    let group = organization.groups.get(&database.group);
    let state = group.map_or(GroupState::Awake, |group| group.state);
    let location = group.map(|group| group.location.as_str());
    json!({
        "Name": name,
        "DbId": database.id,
        "Hostname": platform.hostname(name),
        "block_reads": database.configuration.block_reads,
        "block_writes": database.configuration.block_writes,
        "delete_protection": database.configuration.delete_protection,
        "regions": [location],
        "primaryRegion": location,
        "group": database.group,
        "parent": database.parent,
        "type": "logical",
        "sleeping": state == GroupState::Sleeping,
        "archived": state == GroupState::Archived,
        "database_type": "libsql",
    })
}

pub(super) async fn delete(State(platform): Shared, Path((_, name)): Name) -> Result<Json<Value>> {
    remove(&platform, &name).await?;
    Ok(Json(json!({"database": name})))
}

/// Deletes a database and its restore points.
pub(super) async fn remove(platform: &Platform, name: &str) -> Result<()> {
    let _turn = platform.turn(name).await;
    let points = take_away(&mut platform.organization(), name)?;
    let admin = platform.sqld.admin();
    let mut deleted = admin.delete(&platform.namespace(name)).await;
    for point in points {
        deleted = deleted.and(admin.delete(&point.namespace).await);
    }
    let mut organization = platform.organization();
    if let Err(error) = deleted {
        if let Some(database) = organization.databases.get_mut(name) {
            database.phase = Phase::Ready;
        }
        return Err(error.into());
    }
    organization.databases.remove(name);
    Ok(())
}

fn take_away(organization: &mut Organization, name: &str) -> Result<Vec<RestorePoint>> {
    let database = organization.database_mut(name).ok_or_else(|| ApiError::no_database(name))?;
    if database.configuration.delete_protection {
        return Err(ApiError::forbidden("database is protected from deletion"));
    }
    database.phase = Phase::Deleting;
    Ok(std::mem::take(&mut database.restore_points))
}
