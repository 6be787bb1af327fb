//! Roles: what they are called is in `names`, their passwords are here.

use hmac::{Hmac, Mac as _};
use mt_core::Secret;
use sha2::Sha256;

/// Derives the passwords of all roles from one secret, so that none has to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Passwords(Secret);

impl Passwords {
    pub(crate) const fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The password of `role`.
    pub(crate) fn of(&self, role: &str) -> Secret {
        let key = Hmac::<Sha256>::new_from_slice(self.0.expose().as_bytes());
        let mut mac = key.unwrap_or_else(|_never| unreachable!("HMAC takes keys of any length"));
        mac.update(role.as_bytes());
        Secret::new(format!("{:x}", mac.finalize().into_bytes()))
    }

    /// What the server keeps of it. The password itself is never sent, and so never logged.
    pub(crate) fn verifier(&self, role: &str) -> String {
        postgres_protocol::password::scram_sha_256(self.of(role).expose().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_a_password_of_its_own() {
        let passwords = Passwords::new(Secret::new("a secret of this test"));
        let one = passwords.of("one");
        assert_eq!(one.expose(), passwords.of("one").expose());
        assert_ne!(one.expose(), passwords.of("two").expose());
        assert_ne!(one.expose(), Passwords::new(Secret::new("another")).of("one").expose());
        assert_eq!(one.expose().len(), 64);
        let verifier = passwords.verifier("one");
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
        assert!(!verifier.contains(one.expose()));
    }
}
