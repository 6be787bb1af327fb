//! What databases and roles are called.

use std::time::{Duration, SystemTime};

use mt_core::NameRules;
use uuid::Uuid;

/// The longest name. The server cuts longer ones off in silence.
const NAME_BYTES: usize = 63;

/// What is put into a tenant's database's name: never the name of one of the server's own.
pub(crate) const RULES: NameRules = NameRules::new(NAME_BYTES).without(SYSTEM);

/// Databases of the server and of those who host it.
const SYSTEM: &[&str] = &[
    "postgres",
    "template0",
    "template1",
    "azure_maintenance",
    "azure_sys",
    "cloudsqladmin",
    "defaultdb",
    "rdsadmin",
];

/// Tells one database, and the roles that came with it, from all others under a prefix.
///
/// Behind the prefix stands `--`, which no tenant's name has there: an id starts with a letter or a
/// digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    prefix: String,
    id: String,
}

/// What a role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Owns the database and all that is in it; nobody logs in as it.
    Owner,
    /// Reads and writes rows, for a tenant's requests.
    Runtime,
    /// Reads rows.
    Reader,
    /// Acts as the owner, or as one of the others, for whoever administers: code that came into the
    /// database then acts as nobody who has rights elsewhere.
    Maintainer,
    /// Makes or fills a copy, by `pg_dump` or `pg_restore`, and is there no longer than that.
    Ddl,
}

impl Part {
    /// Those that are there as long as the database.
    pub(crate) const ALL: [Self; 4] = [Self::Owner, Self::Runtime, Self::Reader, Self::Maintainer];

    const fn letter(self) -> char {
        match self {
            Self::Owner => 'o',
            Self::Runtime => 'w',
            Self::Reader => 'r',
            Self::Maintainer => 'm',
            Self::Ddl => 'd',
        }
    }
}

impl Identity {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), id: Uuid::now_v7().simple().to_string() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn of_id(prefix: &str, id: &str) -> Option<Self> {
        Uuid::try_parse(id).ok()?;
        Some(Self { prefix: prefix.to_owned(), id: id.to_owned() })
    }

    /// Reads it from the name of the role that owns a database; `None`: it is not one of ours.
    pub(crate) fn of_owner(prefix: &str, role: &str) -> Option<Self> {
        Self::read(prefix, 'o', role)
    }

    /// Reads it from the name of any of its roles.
    pub(crate) fn of_role(prefix: &str, role: &str) -> Option<Self> {
        let mut all = Part::ALL.into_iter().chain([Part::Ddl]);
        all.find_map(|part| Self::read(prefix, part.letter(), role))
    }

    fn read(prefix: &str, letter: char, name: &str) -> Option<Self> {
        let id = name.strip_prefix(prefix)?.strip_prefix("--")?;
        Self::of_id(prefix, id.strip_prefix(letter)?.strip_prefix('-')?)
    }

    /// When it was made.
    pub(crate) fn made_at(&self) -> Option<SystemTime> {
        let timestamp = Uuid::try_parse(&self.id).ok()?.get_timestamp()?;
        let (seconds, nanoseconds) = timestamp.to_unix();
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
    }

    /// The database's name until it is a tenant's.
    pub(crate) fn spare(&self) -> String {
        format!("{}--s-{}", self.prefix, self.id)
    }

    /// The name of one of its roles.
    pub(crate) fn role(&self, part: Part) -> String {
        format!("{}--{}-{}", self.prefix, part.letter(), self.id)
    }
}

#[cfg(test)]
mod tests {
    use mt_core::{Generation, TenantId};

    use super::*;

    #[test]
    fn no_tenant_has_the_name_of_one_of_the_servers_own() {
        let name = |prefix: &str, id: &str| {
            let tenant = TenantId::new(id).unwrap();
            RULES.encode(prefix, &tenant, Generation::FIRST).as_str().to_owned()
        };
        for (prefix, id) in [("post", "gres"), ("template", "0"), ("t", "emplate1")] {
            let name = name(prefix, id);
            assert!(!SYSTEM.contains(&name.as_str()), "{name}");
            assert!(name.contains("--h"), "{name}");
        }
    }

    #[test]
    fn what_is_ours_is_told_from_tenants_and_fits() {
        let prefix = "a-prefix-of-23-bytes-00";
        RULES.check_prefix(prefix).unwrap();
        let identity = Identity::new(prefix);
        for name in [identity.spare(), identity.role(Part::Owner), identity.role(Part::Reader)] {
            assert!(name.len() <= NAME_BYTES, "{name}");
            assert_eq!(RULES.decode(prefix, &name), None, "{name}");
        }
        let owner = identity.role(Part::Owner);
        assert_eq!(Identity::of_owner(prefix, &owner), Some(identity.clone()));
        assert_eq!(Identity::of_owner(prefix, &identity.role(Part::Runtime)), None);
        assert_eq!(Identity::of_owner("other", &owner), None);
        assert_eq!(Identity::of_owner(prefix, &format!("{owner}x")), None);
        for role in Part::ALL.map(|part| identity.role(part)) {
            assert_eq!(Identity::of_role(prefix, &role), Some(identity.clone()), "{role}");
        }
        for other in [identity.spare(), format!("{prefix}acme")] {
            assert_eq!(Identity::of_role(prefix, &other), None, "{other}");
        }
        let age = identity.made_at().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
