//! Backups, out and in.

use std::path::{Path, PathBuf};

use chrono::Utc;
use indicatif::HumanBytes;
use mt_control::RestoreAs;
use mt_core::{Error, ErrorKind, TenantId};
use serde_json::json;

use super::tenants::summary;
use crate::{
    answer::{Answer, Failure},
    application::{Open, Site},
};

pub(super) async fn backup(
    site: &Site,
    open: &Open,
    tenant: &TenantId,
    to: Option<PathBuf>,
) -> Result<Answer, Failure> {
    open.catalog.get(tenant).await?;
    let path = match to {
        Some(path) => path,
        None => default_path(site, tenant).await?,
    };
    let manifest = open.tenants.backup(tenant, &path).await?;
    let size = HumanBytes(manifest.size_bytes);
    let text = format!("backed up {tenant} to {} ({size})", path.display());
    Ok(Answer::done(text, json!({"file": path, "manifest": manifest})))
}

/// A file of its own for every backup, in the data folder.
async fn default_path(site: &Site, tenant: &TenantId) -> Result<PathBuf, Error> {
    let folder = site.settings.data_dir().join("backups");
    let mut private = tokio::fs::DirBuilder::new();
    #[cfg(unix)]
    private.mode(0o700);
    private.recursive(true).create(&folder).await.map_err(|e| {
        let message = format!("cannot make the folder {}", folder.display());
        Error::new(ErrorKind::Config, message).with_tenant(tenant).with_source(e)
    })?;
    let now = Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    Ok(folder.join(format!("{tenant}-{now}.tar")))
}

pub(super) async fn restore(
    open: &Open,
    tenant: &TenantId,
    from: &Path,
    restore_as: Option<TenantId>,
) -> Result<Answer, Failure> {
    let restore_as = restore_as.map_or(RestoreAs::Same, RestoreAs::New);
    let record = open.tenants.restore(tenant, from, restore_as).await?;
    let text = format!("restored {} from {}", summary(&record), from.display());
    Ok(Answer::done(text, json!({"tenant": record, "file": from})))
}
