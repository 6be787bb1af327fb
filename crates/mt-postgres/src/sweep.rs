//! What those left behind who died while they made a database.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    PostgresFactory,
    admin::ident,
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

impl PostgresFactory {
    /// Looks for what was left behind, if that was not done for long. That something stays there is
    /// not the caller's trouble.
    pub(crate) async fn sweep_if_due(&self) {
        if self.sweeps.is_due()
            && let Err(error) = self.sweep().await
        {
            let error = mt_core::Error::from(error);
            tracing::warn!(error = %error.to_chain(), "something left behind stays there");
        }
    }

    /// Removes databases that nobody will claim, templates of schemas that are not made any more,
    /// and roles of databases that are gone.
    async fn sweep(&self) -> Result<()> {
        let (admin, prefix) = (&self.admin, self.config.database_prefix.as_str());
        let schema = self.schema();
        let mut used = self.in_use().await?;
        let nobodys = Place::find_nobodys(admin, prefix).await?;
        for place in nobodys {
            let of_template = place.comment.as_ref().and_then(|comment| comment.template(prefix));
            let Some(identity) = of_template.clone().or(place.identity) else { continue };
            let comment = place.comment.as_ref();
            let is_theirs = comment.is_some_and(|c| !c.is_of(self.context.deployment));
            let is_wanted = comment.is_some_and(|comment| {
                let is_finished = of_template.is_some()
                    || comment.is_ready_spare(self.context.deployment, &schema);
                is_finished && comment.schema() == Some(&schema)
            });
            let is_wanted = (is_wanted && !place.is_half_dropped) || used.contains(&identity);
            if is_theirs || is_wanted || !is_old(&identity) {
                used.insert(identity);
                continue;
            }
            tracing::info!(database = place.name, "removing a database that nobody will claim");
            let sql = format!("DROP DATABASE IF EXISTS {}", ident(&place.name));
            let removed = admin.run("remove what was left behind", sql).await;
            if !self.is_done(&place.name, removed) {
                used.insert(identity);
            }
        }
        let roles = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1)";
        for role in self.names(roles).await? {
            let Some(identity) = Identity::of_role(prefix, &role) else { continue };
            if is_old(&identity) && used.insert(identity.clone()) {
                // The server refuses those whose database was claimed since.
                let removed = furnish::drop_roles(admin, &identity).await;
                self.is_done(&role, removed);
            }
        }
        Ok(())
    }

    /// One that cannot be removed keeps none of the others.
    fn is_done(&self, name: &str, removed: Result<()>) -> bool {
        removed.map_err(mt_core::Error::from).map_or_else(
            |error| {
                tracing::warn!(name, error = %error.to_chain(), "something left behind stays there");
                false
            },
            |()| true,
        )
    }

    /// Whose databases have a tenant's name, and whose roles have a session: a large copy may take
    /// longer than anything else.
    async fn in_use(&self) -> Result<HashSet<Identity>> {
        let prefix = self.config.database_prefix.as_str();
        let roles = "SELECT rolname::text FROM pg_database JOIN pg_roles r ON r.oid = datdba \
            WHERE starts_with(datname::text, $1) AND NOT starts_with(datname::text, $1 || '--') \
            UNION ALL \
            SELECT usename::text FROM pg_stat_activity WHERE starts_with(usename::text, $1)";
        let roles = self.names(roles).await?;
        Ok(roles.iter().filter_map(|role| Identity::of_role(prefix, role)).collect())
    }

    async fn names(&self, sql: &'static str) -> Result<Vec<String>> {
        let prefix = self.config.database_prefix.as_str();
        let names = sqlx::query_scalar(sql).bind(prefix).fetch_all(self.admin.pool()).await;
        names.map_err(Error::server("look for what was left behind"))
    }
}

fn is_old(identity: &Identity) -> bool {
    let age = identity.made_at().and_then(|made_at| made_at.elapsed().ok());
    age.is_some_and(|age| age >= AGE)
}
