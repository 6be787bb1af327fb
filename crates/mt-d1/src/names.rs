//! What databases are called.

use mt_core::NameRules;

/// The longest name, in bytes. The API's OpenAPI description (schema `d1_database-name`, read in
/// copies of 2026-11) allows letters, digits, `-` and `_`, a letter or a digit first, capitals only
/// in newer versions of it; and it names no length. 63 is the shortest limit that such services
/// have, of what becomes part of a host name: a longer name might be refused, a shorter one is less
/// readable.
const NAME_BYTES: usize = 63;

/// What is put into a name.
pub(crate) const RULES: NameRules = NameRules::new(NAME_BYTES);

#[cfg(test)]
mod tests {
    use mt_core::{Generation, TenantId};

    use super::*;

    #[test]
    fn a_name_is_readable_and_short() {
        RULES.check_prefix("tenant_").unwrap();
        let name = |id: &str, generation| {
            let (tenant, generation) =
                (TenantId::new(id).unwrap(), Generation::new(generation).unwrap());
            RULES.encode("tenant_", &tenant, generation).as_str().to_owned()
        };
        assert_eq!(name("acme", 1), "tenant_acme");
        assert_eq!(name("acme", 2), "tenant_acme--g2");
        assert!(name("Acme", 1).starts_with("tenant_acme--h"));
        for id in ["acme", "Acme", "a_b", &"x".repeat(64)] {
            let name = name(id, u32::MAX);
            assert!(name.len() <= NAME_BYTES, "{name}");
            let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            assert!(name.bytes().all(allowed), "{name}");
        }
    }
}
