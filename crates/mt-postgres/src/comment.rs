//! The comment on a database: whose it is, kept by the server beside it.
//!
//! It takes part in transactions, goes along with a rename, is not copied with a template, can be
//! read for all databases over one connection, and only the owner of the database can change it. So
//! the comment is the stamp, and `_mt_tenant` inside the database is a view of it: nothing that is
//! cloned, dumped or restored has another's.

use chrono::{DateTime, Utc};
use mt_core::{DeploymentId, ErrorKind, Generation, Result, Stamp, TenantId};
use serde::{Deserialize, Serialize};

/// The version of the form below. It comes first: the view tells ours from others' by it.
const FORMAT: u32 = 1;

/// What stands in the comment, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comment {
    mt: u32,
    deployment: DeploymentId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime<Utc>>,
}

impl Comment {
    /// Of a database that is nobody's yet.
    pub(crate) fn spare(deployment: DeploymentId) -> Self {
        Self { mt: FORMAT, deployment, tenant: None, generation: None, created_at: None }
    }

    pub(crate) fn of(stamp: &Stamp) -> Self {
        Self {
            mt: FORMAT,
            deployment: stamp.deployment,
            tenant: Some(stamp.tenant.clone()),
            generation: Some(stamp.generation),
            created_at: Some(stamp.created_at),
        }
    }

    /// Reads a comment; `None`: it is not one of ours.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|comment: &Self| comment.mt == FORMAT)
    }

    pub(crate) fn is_of(&self, deployment: DeploymentId) -> bool {
        self.deployment == deployment
    }

    pub(crate) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| {
            mt_core::Error::new(ErrorKind::Internal, "the comment cannot be written").with_source(e)
        })
    }

    /// The stamp, if it is a tenant's.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let Self { deployment, tenant, generation, created_at, .. } = self.clone();
        Some(Stamp {
            deployment,
            tenant: tenant?,
            generation: generation?,
            created_at: created_at?,
        })
    }
}

/// The view by which a handle reads the stamp, in the columns that [`Stamp::select`] asks for.
///
/// One of a comment that is not ours has no row.
pub(crate) const VIEW: &str = r#"CREATE OR REPLACE VIEW public._mt_tenant AS
SELECT stamp ->> 'tenant' AS tenant,
       stamp ->> 'deployment' AS deployment,
       stamp ->> 'created_at' AS created_at,
       (stamp ->> 'generation')::bigint AS generation
FROM (
    SELECT CASE WHEN text LIKE '{"mt":1,%' THEN text::jsonb END AS stamp
    FROM (
        SELECT pg_catalog.shobj_description(oid, 'pg_database') AS text
        FROM pg_catalog.pg_database
        WHERE datname = pg_catalog.current_database()
    ) AS comment
) AS read
WHERE stamp ->> 'tenant' IS NOT NULL"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let tenant = TenantId::new("acme").unwrap();
        let generation = Generation::new(7).unwrap();
        let stamp = Stamp::new(DeploymentId::random(), &tenant, generation);
        let text = Comment::of(&stamp).to_text().unwrap();
        assert!(text.starts_with("{\"mt\":1,"), "{text}");
        assert_eq!(Comment::read(&text).unwrap().stamp(), Some(stamp.clone()));
        let spare = Comment::spare(stamp.deployment).to_text().unwrap();
        assert!(spare.starts_with("{\"mt\":1,"), "{spare}");
        assert_eq!(Comment::read(&spare).unwrap().stamp(), None);
        for other in ["", "a note", "{}", &text.replace("\"mt\":1", "\"mt\":2")] {
            assert_eq!(Comment::read(other), None, "{other}");
        }
    }
}
