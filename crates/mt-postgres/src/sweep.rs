//! What those left behind who died while they made a database.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use mt_core::DeploymentId;

use crate::{
    admin::{Admin, ident},
    error::{Error, Result},
    furnish,
    names::Identity,
    place::Place,
};

/// How old something is when nobody can be at it any more.
const AGE: Duration = Duration::from_secs(60 * 60);

/// When it was last looked for.
#[derive(Debug, Default)]
pub(crate) struct Sweeps(Mutex<Option<Instant>>);

impl Sweeps {
    /// Whether it is time to look again; then it is not for a while.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= AGE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Removes databases that became nobody's, and roles of databases that are gone.
pub(crate) async fn sweep(admin: &Admin, prefix: &str, deployment: DeploymentId) -> Result<()> {
    // A database has its name and its roles for its whole life, so whatever has neither is left.
    const SELECT: &str = "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1) \
        UNION ALL SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1)";
    let action = "look for what was left behind";
    let in_use = "SELECT rolname::text FROM pg_database JOIN pg_roles r ON r.oid = datdba \
        WHERE starts_with(datname::text, $1) AND NOT starts_with(datname::text, $1 || '--')";
    let names = async |sql: &'static str| -> Result<Vec<String>> {
        let rows = sqlx::query_scalar(sql).bind(prefix).fetch_all(admin.pool()).await;
        rows.map_err(Error::server(action))
    };
    let of = |names: Vec<String>| -> HashSet<Identity> {
        names.iter().filter_map(|name| Identity::of_any(prefix, name)).collect()
    };
    let (all, used) = (of(names(SELECT).await?), of(names(in_use).await?));
    for identity in all.difference(&used).filter(|identity| is_old(identity)) {
        let spare = identity.spare();
        let found = Place::find(admin, prefix, std::slice::from_ref(&spare)).await?;
        let is_theirs =
            |place: &Place| place.comment.as_ref().is_some_and(|c| !c.is_of(deployment));
        if found.iter().any(is_theirs) {
            continue;
        }
        tracing::info!(database = spare, "removing what a provisioning that died left behind");
        let drop_it = format!("DROP DATABASE IF EXISTS {}", ident(&spare));
        admin.run("remove what was left behind", drop_it).await?;
        furnish::drop_roles(admin, identity).await?;
    }
    Ok(())
}

fn is_old(identity: &Identity) -> bool {
    let age = identity.made_at().and_then(|made_at| made_at.elapsed().ok());
    age.is_some_and(|age| age >= AGE)
}
