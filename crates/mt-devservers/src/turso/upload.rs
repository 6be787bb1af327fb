//! `POST /v1/upload`: a database out of an SQLite file.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;

use crate::{
    sqld::dump,
    turso::{
        api::{ApiError, Result},
        gateway::Gateway,
        organization::{Organization, Phase},
        platform::Platform,
        token::Access,
    },
};

/// How old a namespace is when it is deleted to be made again. Of some hundred that were deleted
/// milliseconds after they were made, while the machine was busy, sqld never ended to delete one.
const SETTLED: Duration = Duration::from_millis(100);

/// What an SQLite file begins with: its header (<https://www.sqlite.org/fileformat.html>).
const HEADER_LENGTH: usize = 100;

pub(super) async fn receive(State(gateway): State<Gateway>, request: Request) -> Response {
    let name = match gateway.admit(request.headers()) {
        Ok(Some(name)) => name,
        Ok(None) => return ApiError::not_found("no database has this host").into_response(),
        Err(answer) => return *answer,
    };
    match accept(&gateway.platform, &name, request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn accept(platform: &Platform, name: &str, request: Request) -> Result<()> {
    let length = length(request.headers())?;
    let _turn = platform.turn(name).await;
    begin(&mut platform.organization(), name, request.headers())?;
    let replaced = replace(platform, name, request.into_body(), length).await;
    let mut organization = platform.organization();
    if let Some(database) = organization.databases.get_mut(name) {
        let is_done = replaced.is_ok();
        database.phase = if is_done { Phase::Ready } else { Phase::AwaitsUpload };
    }
    replaced
}

fn length(headers: &HeaderMap) -> Result<u64> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|value| value.parse().ok());
    length.ok_or_else(|| ApiError::bad_request("Content-Length is required"))
}

/// Checks that there is something to upload to, and that the token may.
fn begin(organization: &mut Organization, name: &str, headers: &HeaderMap) -> Result<()> {
    let database = organization.database(name).ok_or_else(|| ApiError::no_database(name))?;
    let token = headers.get(header::AUTHORIZATION);
    let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let group = organization.groups.get(&database.group).ok_or_else(ApiError::no_group)?;
    let claims = token.and_then(|token| {
        let own = database.key.verify(token);
        own.or_else(|| group.key.verify(token))
    });
    let claims = claims.ok_or_else(ApiError::unauthorized)?;
    if claims.a == Access::ReadOnly {
        return Err(ApiError::forbidden("the token is read-only"));
    }
    if database.phase != Phase::AwaitsUpload {
        return Err(ApiError::bad_request("the database was not created for an upload"));
    }
    let database = organization.database_mut(name).ok_or_else(|| ApiError::no_database(name))?;
    database.phase = Phase::Uploading;
    Ok(())
}

/// Makes the namespace again, from a script of what is in the file.
async fn replace(platform: &Platform, name: &str, body: Body, length: u64) -> Result<()> {
    let folder = tempfile::tempdir().context("no folder for the upload")?;
    let [file, script] = ["upload", "script"].map(|name| folder.path().join(name));
    if store(&file, body).await? != length {
        return Err(ApiError::bad_request("the file is not as long as Content-Length says"));
    }
    let header = read_header(&file)?;
    check(&header).map_err(ApiError::bad_request)?;
    let from = file.clone();
    let to = script.clone();
    let written = tokio::task::spawn_blocking(move || dump::write(&from, &to)).await;
    let written = written.map_err(anyhow::Error::from)?;
    written.map_err(|error| ApiError::bad_request(format!("{error:#}")))?;
    let settings = platform.organization().settings(name);
    let settings = settings.ok_or_else(|| ApiError::no_database(name))?;
    let namespace = platform.namespace(name);
    let admin = platform.sqld.admin();
    let age = platform.organization().database(name).map(|database| database.created.elapsed());
    if let Some(young) = age.and_then(|age| SETTLED.checked_sub(age)) {
        tokio::time::sleep(young).await;
    }
    admin.delete(&namespace).await?;
    if let Err(error) = admin.load(&namespace, &settings, &script).await {
        // A namespace that half a script made is of no use; it waits for the next upload.
        admin.delete(&namespace).await?;
        admin.create(&namespace, &settings).await?;
        return Err(error.into());
    }
    Ok(())
}

async fn store(path: &Path, body: Body) -> Result<u64> {
    let mut file = File::create(path).context("no file for the upload")?;
    let mut length = 0;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| ApiError::bad_request(error.to_string()))?;
        file.write_all(&part).context("the upload could not be stored")?;
        length += part.len() as u64;
    }
    Ok(length)
}

fn read_header(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).context("the upload could not be read")?;
    let mut header = Vec::new();
    file.take(HEADER_LENGTH as u64)
        .read_to_end(&mut header)
        .context("the upload could not be read")?;
    Ok(header)
}

/// What the service asks of a file.
fn check(header: &[u8]) -> Result<(), &'static str> {
    if header.len() < HEADER_LENGTH || !header.starts_with(b"SQLite format 3\0") {
        return Err("the file is no SQLite database");
    }
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if header[18..20] != [2, 2] {
        return Err("the database must be in WAL mode");
    }
    if header[16..18] != 4096_u16.to_be_bytes() {
        return Err("the page size must be 4096");
    }
    if number(52) != 0 {
        return Err("auto_vacuum must be off");
    }
    if number(56) != 1 {
        return Err("the encoding must be UTF-8");
    }
    Ok(())
}
