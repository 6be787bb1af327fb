//! What databases are called.

use mt_core::{NameRules, Result};

use crate::config::config_error;

/// A host name's label is a database's name, a dash and the organization's slug: 63 bytes by
/// <https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4>.
const LABEL_BYTES: usize = 63;
/// The service's own limit
/// (<https://docs.turso.tech/api-reference/databases/create>, 2026-06-25).
const NAME_BYTES: usize = 64;

/// What the service allows in a name, for `organization`.
pub(crate) fn rules(organization: &str) -> Result<NameRules> {
    let room = LABEL_BYTES.checked_sub(1 + organization.len()).filter(|room| *room > 0);
    let room = room.ok_or_else(|| {
        config_error("`organization` is too long: no database's host name would be valid")
    })?;
    Ok(NameRules::new(room.min(NAME_BYTES)).without_underscore())
}

/// The name of the template with the schema of `fingerprint`. No tenant's is ever the same: none
/// begins with a dash.
pub(crate) fn template(rules: &NameRules, prefix: &str, fingerprint: &str) -> String {
    let room = rules.max_bytes.saturating_sub(prefix.len() + MARK.len()).min(FINGERPRINT_CHARS);
    let short: String = fingerprint.chars().take(room).collect();
    format!("{prefix}{MARK}{short}")
}

const MARK: &str = "-t";
/// 104 bits of a SHA-256 in hexadecimal.
const FINGERPRINT_CHARS: usize = 26;

#[cfg(test)]
mod tests {
    use mt_core::{ErrorKind, Generation, TenantId};

    use super::*;

    #[test]
    fn a_name_and_the_organization_fit_a_host_name() {
        let rules = rules("some-organization").unwrap();
        for id in ["acme", "Acme", "a_b", &"x".repeat(64)] {
            let tenant = TenantId::new(id).unwrap();
            let name = rules.encode("t-", &tenant, Generation::FIRST);
            assert!(name.as_str().len() + 1 + "some-organization".len() <= LABEL_BYTES);
            assert!(name.as_str().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
        }
        let too_long = super::rules(&"o".repeat(62)).unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::Config);
    }

    #[test]
    fn a_template_is_no_tenants() {
        let rules = rules("org").unwrap();
        let name = template(&rules, "tenant-", &"f".repeat(64));
        assert_eq!(name, format!("tenant--t{}", "f".repeat(26)));
        assert!(rules.decode("tenant-", &name).is_none());
    }
}
