//! The envelopes around what [`types`](super::types) describe.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Number;

use super::types::{Database, Group, Instance, Usage};

#[derive(Deserialize)]
pub(super) struct OneDatabase {
    pub(super) database: Database,
}

#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) databases: Vec<Database>,
    #[serde(default)]
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    next: Option<String>,
}

impl Page {
    /// Where the next page begins; `None`: this was the last.
    pub(super) fn next(&mut self) -> Option<String> {
        self.pagination.take()?.next.filter(|next| !next.is_empty())
    }
}

#[derive(Deserialize)]
pub(super) struct OneGroup {
    pub(super) group: Group,
}

#[derive(Deserialize)]
pub(super) struct Groups {
    pub(super) groups: Vec<Group>,
}

#[derive(Deserialize)]
pub(super) struct Instances {
    pub(super) instances: Vec<Instance>,
}

/// A minted token. No `Debug`.
#[derive(Deserialize)]
pub(super) struct Jwt {
    pub(super) jwt: String,
}

/// The field is `usage` on the wire and `total` in the vendor's OpenAPI file.
#[derive(Deserialize)]
struct Totals {
    usage: Option<Usage>,
    total: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct DatabaseUsage {
    database: Option<Totals>,
    #[serde(flatten)]
    outside: Totals,
}

impl DatabaseUsage {
    pub(super) fn total(self) -> Option<Usage> {
        let inside = self.database.and_then(|totals| totals.usage.or(totals.total));
        inside.or(self.outside.usage).or(self.outside.total)
    }
}

/// For fields that are left out, `null` or a value.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// For a size that is `"256mb"`, a number, empty or `null`.
pub(super) fn text_or_number<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Text(String),
        Number(Number),
    }

    impl fmt::Display for Size {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Text(text) => f.write_str(text),
                Self::Number(number) => write!(f, "{number}"),
            }
        }
    }

    let size: Option<Size> = Option::deserialize(deserializer)?;
    Ok(size.map(|size| size.to_string()).filter(|size| !size.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::{
        super::{Configuration, Engine},
        *,
    };

    #[test]
    fn a_database_may_leave_out_nearly_everything() {
        let bare = json!({ "Name": "a", "DbId": "i", "Hostname": "h" });
        let database: Database = from_value(bare).unwrap();
        assert_eq!(database.engine(), Engine::LibSql);
        assert!(!database.block_reads && database.group.is_none() && database.parent.is_none());
        let full = json!({
            "Name": "a", "DbId": "i", "Hostname": "h", "group": "g", "primaryRegion": "r",
            "block_reads": true, "block_writes": null, "delete_protection": true,
            "parent": { "id": "p", "name": "t", "branched_at": "2026-01-01T00:00:00Z" },
            "sleeping": true, "archived": false, "database_type": "tursodb", "new": [1],
        });
        let database: Database = from_value(full).unwrap();
        assert_eq!(database.engine(), Engine::Turso);
        assert!(database.block_reads && database.delete_protection && database.sleeping);
        assert_eq!(database.parent.unwrap().name.as_deref(), Some("t"));
        assert!(from_value::<Database>(json!({ "name": "a" })).is_err());
    }

    #[test]
    fn usage_is_found_under_each_of_its_names() {
        let counters = json!({ "rows_read": 1, "rows_written": 2, "storage_bytes": 3 });
        for body in [
            json!({ "database": { "uuid": "u", "instances": [], "usage": counters } }),
            json!({ "database": { "total": counters } }),
            json!({ "total": counters }),
            json!({ "usage": counters, "database": { "uuid": "u" } }),
        ] {
            let usage: DatabaseUsage = from_value(body.clone()).unwrap();
            assert_eq!(usage.total().unwrap().storage_bytes, 3, "{body}");
        }
        let nothing: DatabaseUsage = from_value(json!({ "database": {} })).unwrap();
        assert_eq!(nothing.total(), None);
    }

    #[test]
    fn a_size_limit_is_text_or_a_number() {
        for (body, expected) in [
            (json!({ "size_limit": "256mb" }), Some("256mb")),
            (json!({ "size_limit": 1024 }), Some("1024")),
            (json!({ "size_limit": "", "block_reads": null }), None),
            (json!({}), None),
        ] {
            let configuration: Configuration = from_value(body).unwrap();
            assert_eq!(configuration.size_limit.as_deref(), expected);
        }
    }
}
