use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Generation, TenantId};

/// The name of one tenant's database, as its engine knows it.
///
/// Made by [`NameRules::encode`], or taken from a catalog that stored what the service returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// A name that a service chose or a catalog stored.
    pub fn from_stored(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an engine allows in a database's name, and so how a tenant's id becomes one.
///
/// The mapping is injective: no two pairs of tenant and generation share a name under one prefix.
///
/// | id and generation | name | when |
/// |---|---|---|
/// | `acme`, 1 | `<prefix>acme` | the id is spelled in the engine's alphabet, fits and has no `--` |
/// | `acme`, 2 | `<prefix>acme--g2` | as above |
/// | `Acme`, 1 | `<prefix>acme--h<26 characters>` | otherwise; a 130-bit hash of the id |
/// | `Acme`, 2 | `<prefix>acme--h<26 characters>g2` | |
///
/// `--` marks what the codec added. An id that has one itself takes the hashed form, so a suffix
/// cannot be forged by choosing an id.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NameRules {
    /// The longest name, in bytes.
    pub max_bytes: usize,
    /// Whether `_` may stand in a name.
    pub underscore: bool,
    /// Names that mean something else, in lower case.
    pub reserved: &'static [&'static str],
}

const MARK: &str = "--";
/// 26 characters of 5 bits: 130 bits, so that nobody can look for two ids that meet.
const HASH_CHARS: usize = 26;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// `g` and the digits of the largest generation.
const GENERATION_MAX: usize = 11;

impl NameRules {
    /// Names of up to `max_bytes` bytes of `[a-z0-9_-]`, none reserved.
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, underscore: true, reserved: &[] }
    }

    /// Names without `_`, as host names require.
    #[must_use]
    pub const fn without_underscore(mut self) -> Self {
        self.underscore = false;
        self
    }

    /// Names other than `reserved`.
    #[must_use]
    pub const fn without(mut self, reserved: &'static [&'static str]) -> Self {
        self.reserved = reserved;
        self
    }

    /// Checks a `database_prefix`: its characters, and that every tenant's name fits behind it.
    ///
    /// # Errors
    /// `Config`.
    pub fn check_prefix(&self, prefix: &str) -> Result<(), Error> {
        let room = MARK.len() + 1 + HASH_CHARS + GENERATION_MAX;
        let fault = if prefix.contains(MARK) {
            format!("has `{MARK}`, which marks what the codec adds to a name")
        } else if prefix.starts_with(['-', '_']) || !prefix.chars().all(|c| self.allows(c)) {
            let underscore = if self.underscore { " _" } else { "" };
            format!("may have a-z 0-9{underscore} - only, and starts with a letter or a digit")
        } else if prefix.len() + room > self.max_bytes {
            format!(
                "is longer than {} bytes, what a name of {} leaves",
                self.max_bytes.saturating_sub(room),
                self.max_bytes
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, format!("database_prefix `{prefix}` {fault}")))
    }

    /// The name of `tenant`'s database of `generation` under `prefix`.
    pub fn encode(&self, prefix: &str, tenant: &TenantId, generation: Generation) -> DatabaseName {
        let generation = match generation {
            Generation::FIRST => String::new(),
            later => format!("g{later}"),
        };
        let plain = format!("{prefix}{tenant}");
        let mark = if generation.is_empty() { "" } else { MARK };
        if self.is_plain(tenant)
            && plain.len() + MARK.len() + GENERATION_MAX <= self.max_bytes
            && !self.reserved.contains(&plain.as_str())
        {
            return DatabaseName(format!("{plain}{mark}{generation}"));
        }
        let tail = format!("{MARK}h{}{generation}", hash(tenant));
        // What stands before the mark is for the reader; the hash alone tells tenants apart.
        let room = self.max_bytes.saturating_sub(prefix.len() + tail.len());
        let readable: String = tenant
            .to_folded()
            .chars()
            .map(|c| if self.allows(c) { c } else { '-' })
            .take(room)
            .collect();
        DatabaseName(format!("{prefix}{readable}{tail}"))
    }

    /// Reads back the tenant and the generation from a name under `prefix`.
    ///
    /// `None`: the name was not made by this codec. `tenant` in the answer is `None` where only
    /// the hash stands in the name; the database's stamp tells then.
    pub fn decode(&self, prefix: &str, name: &str) -> Option<(Option<TenantId>, Generation)> {
        let rest = name.strip_prefix(prefix)?;
        let (tenant, generation) = match rest.rsplit_once(MARK) {
            None => (Some(TenantId::new(rest).ok()?), Generation::FIRST),
            Some((plain, suffix)) => match suffix.strip_prefix('h') {
                None => (Some(TenantId::new(plain).ok()?), later_generation(suffix)?),
                Some(hashed) => match hashed.split_at_checked(HASH_CHARS)? {
                    (_, "") => (None, Generation::FIRST),
                    (_, suffix) => (None, later_generation(suffix)?),
                },
            },
        };
        match &tenant {
            Some(known) if self.encode(prefix, known, generation).as_str() != name => None,
            _ => Some((tenant, generation)),
        }
    }

    fn is_plain(&self, tenant: &TenantId) -> bool {
        let id = tenant.as_str();
        id.chars().all(|c| self.allows(c)) && !id.contains(MARK)
    }

    const fn allows(&self, c: char) -> bool {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '_' && self.underscore)
    }
}

fn later_generation(suffix: &str) -> Option<Generation> {
    let digits = suffix.strip_prefix('g')?;
    let number = digits.parse().ok().filter(|n: &u32| n.to_string() == digits)?;
    Generation::new(number).filter(|generation| *generation != Generation::FIRST)
}

fn hash(tenant: &TenantId) -> String {
    let digest = Sha256::digest(tenant.as_str());
    let mut bits = digest.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1));
    let mut five = || bits.by_ref().take(5).fold(0_u8, |value, bit| value << 1 | bit);
    (0..HASH_CHARS).map(|_| char::from(BASE32[usize::from(five())])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const FILES: NameRules = NameRules::new(120).without(&["con", "nul"]);
    /// Turso with an organisation of 20 characters.
    const HOSTS: NameRules = NameRules::new(62 - 20).without_underscore();
    const POSTGRES: NameRules = NameRules::new(63);

    fn encode(rules: NameRules, id: &str, generation: u32) -> String {
        let tenant = TenantId::new(id).unwrap();
        let generation = Generation::new(generation).unwrap();
        rules.encode("t", &tenant, generation).as_str().to_owned()
    }

    #[test]
    fn readable_where_it_can_be() {
        assert_eq!(encode(FILES, "acme", 1), "tacme");
        assert_eq!(encode(FILES, "acme_eu-1", 12), "tacme_eu-1--g12");
        assert!(encode(FILES, "Acme", 1).starts_with("tacme--h"));
        assert!(encode(HOSTS, "a_b", 1).starts_with("ta-b--h"));
    }

    #[test]
    fn a_reserved_name_is_not_given_out() {
        let tenant = TenantId::new("con").unwrap();
        let name = FILES.encode("", &tenant, Generation::FIRST);
        assert!(name.as_str().starts_with("con--h"), "{name}");
    }

    #[test]
    fn prefixes_that_leave_no_room_are_refused() {
        for prefix in ["-x", "a--b", "A", "a.b", &"p".repeat(30)] {
            assert!(POSTGRES.check_prefix(prefix).is_err(), "{prefix}");
        }
        assert!(POSTGRES.check_prefix("tenant_").is_ok());
        assert!(HOSTS.check_prefix("t").is_ok());
        assert!(HOSTS.check_prefix("tenant_").is_err());
    }

    proptest! {
        #[test]
        fn no_two_tenants_meet(
            ids in prop::collection::hash_set("[A-Ca-c0-1g2h][ABab1g2h_-]{0,63}", 2..60),
            generations in prop::collection::vec(1_u32..40, 60),
        ) {
            for rules in [FILES, HOSTS, POSTGRES] {
                let mut seen = HashMap::new();
                for (id, generation) in ids.iter().zip(&generations) {
                    for generation in [1, 2, *generation] {
                        let name = encode(rules, id, generation);
                        prop_assert!(name.len() <= rules.max_bytes, "{name}");
                        prop_assert_eq!(name.to_ascii_lowercase(), name.clone());
                        let owner = seen.insert(name.clone(), (id, generation));
                        prop_assert!(owner.is_none_or(|o| o == (id, generation)), "{name}");
                        let (tenant, back) = rules.decode("t", &name).unwrap();
                        prop_assert_eq!(back.get(), generation);
                        prop_assert!(tenant.is_none_or(|tenant| tenant.as_str() == id));
                    }
                }
            }
        }

        #[test]
        fn decoding_any_text_is_safe(name in "t?[a-z0-9gh-]{0,40}") {
            if let Some((Some(tenant), generation)) = FILES.decode("t", &name) {
                prop_assert_eq!(encode(FILES, tenant.as_str(), generation.get()), name);
            }
        }
    }
}
