//! The comment on a database: whose it is, kept by the server beside it.
//!
//! It takes part in transactions, goes along with a rename, is not copied with a template, can be
//! read for all databases over one connection, and only the owner of the database can change it. So
//! the comment is the stamp, and `_mt_tenant` inside the database is a view of it: nothing that is
//! cloned, dumped or restored has another's.

use chrono::{DateTime, Utc};
use mt_core::{DeploymentId, Generation, SchemaRecord, Stamp, TenantId};
use serde::{Deserialize, Serialize};

use crate::{
    admin::{ident, literal},
    error::{NO_DATABASE, Result},
    names::Identity,
};

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
    /// How far its schema is. Migrations write it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<SchemaRecord>,
    /// It is nobody's yet and finished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ready: bool,
    /// It is a template; whose role what is in it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

impl Comment {
    /// Of a database that is being made.
    pub(crate) const fn spare(deployment: DeploymentId) -> Self {
        Self {
            mt: FORMAT,
            deployment,
            tenant: None,
            generation: None,
            created_at: None,
            schema: None,
            ready: false,
            template: None,
        }
    }

    /// Of a database that is finished, and nobody's yet.
    pub(crate) fn ready_spare(deployment: DeploymentId, schema: SchemaRecord) -> Self {
        Self { schema: Some(schema), ready: true, ..Self::spare(deployment) }
    }

    /// Of a template in which everything is `identity`'s owner's.
    pub(crate) fn of_template(
        deployment: DeploymentId,
        identity: &Identity,
        schema: SchemaRecord,
    ) -> Self {
        let template = Some(identity.id().to_owned());
        Self { schema: Some(schema), template, ..Self::spare(deployment) }
    }

    /// Of a tenant's database.
    pub(crate) fn of(stamp: &Stamp, schema: SchemaRecord) -> Self {
        Self {
            tenant: Some(stamp.tenant.clone()),
            generation: Some(stamp.generation),
            created_at: Some(stamp.created_at),
            schema: Some(schema),
            ..Self::spare(stamp.deployment)
        }
    }

    /// Reads a comment; `None`: it is not one of ours.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|comment: &Self| comment.mt == FORMAT)
    }

    pub(crate) fn is_of(&self, deployment: DeploymentId) -> bool {
        self.deployment == deployment
    }

    fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// The statement that puts it on `database`.
    pub(crate) fn to_statement(&self, database: &str) -> Result<String> {
        let text = literal(&self.to_text()?);
        Ok(format!("COMMENT ON DATABASE {} IS {text}", ident(database)))
    }

    /// The statement that fails, as where there is no such database, unless this stands on it and it
    /// is not half dropped.
    pub(crate) fn to_guard(&self, database: &str) -> Result<String> {
        let (name, text) = (literal(database), literal(&self.to_text()?));
        let block = format!(
            "BEGIN IF NOT EXISTS (SELECT FROM pg_database WHERE datname = {name} \
             AND datconnlimit <> -2 AND shobj_description(oid, 'pg_database') = {text}) \
             THEN RAISE 'its comment is another' USING ERRCODE = '{NO_DATABASE}'; END IF; END"
        );
        Ok(format!("DO {}", literal(&block)))
    }

    pub(crate) fn is_ready_spare(&self, deployment: DeploymentId, schema: &SchemaRecord) -> bool {
        self.ready && self.is_of(deployment) && self.schema.as_ref() == Some(schema)
    }

    /// Whose role what is in it belongs to, if it is a template.
    pub(crate) fn template(&self, prefix: &str) -> Option<Identity> {
        Identity::of_id(prefix, self.template.as_deref()?)
    }

    /// How far its schema is, as it was recorded last.
    pub(crate) fn schema(&self) -> Option<&SchemaRecord> {
        self.schema.as_ref()
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
        let schema =
            SchemaRecord { version: Some("m1".to_owned()), fingerprint: Some("f".to_owned()) };
        let comment = Comment::of(&stamp, schema.clone());
        let text = comment.to_text().unwrap();
        assert!(text.starts_with("{\"mt\":1,"), "{text}");
        let read = Comment::read(&text).unwrap();
        assert_eq!((read.stamp(), read.schema()), (Some(stamp.clone()), Some(&schema)));
        let deployment = stamp.deployment;
        let identity = Identity::new("t_");
        for nobodys in [
            Comment::spare(deployment),
            Comment::ready_spare(deployment, schema.clone()),
            Comment::of_template(deployment, &identity, schema.clone()),
        ] {
            let text = nobodys.to_text().unwrap();
            assert!(text.starts_with("{\"mt\":1,"), "{text}");
            let read = Comment::read(&text).unwrap();
            assert_eq!((read.stamp(), read.template), (None, nobodys.template.clone()));
            assert_eq!(nobodys.is_ready_spare(deployment, &schema), nobodys.ready);
            let others = SchemaRecord::default();
            assert!(!nobodys.is_ready_spare(deployment, &others));
            assert!(!nobodys.is_ready_spare(DeploymentId::random(), &schema));
        }
        let template = Comment::of_template(deployment, &identity, schema);
        assert_eq!(template.template("t_"), Some(identity));
        for other in ["", "a note", "{}", &text.replace("\"mt\":1", "\"mt\":2")] {
            assert_eq!(Comment::read(other), None, "{other}");
        }
    }
}
