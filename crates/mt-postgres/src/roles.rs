//! Roles: what they are called is in `names`, their passwords are here.
//!
//! Nobody chooses a password: each is a key of 256 bits, which nobody guesses. What somebody may have
//! chosen badly is the secret that they are derived from, so it is the secret that is made slow to
//! guess, once in a process. SCRAM's rounds would be gone through by the server for each role that is
//! made, and by us for each connection, and add nothing.

use std::{fmt, num::NonZeroU32};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mt_core::{DeploymentId, Secret};
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    hmac, pbkdf2,
};
use uuid::Uuid;

/// How often the secret of the settings is hashed.
const STRETCH: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// SCRAM's rounds.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN;

/// Derives the passwords of all roles from one secret, so that none has to be kept.
#[derive(Clone)]
pub(crate) struct Passwords(hmac::Key);

impl Passwords {
    pub(crate) fn new(secret: &Secret, deployment: DeploymentId) -> Self {
        let key = stretch(secret.expose().as_bytes(), deployment.to_string().as_bytes(), STRETCH);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The password of `role`.
    pub(crate) fn of(&self, role: &str) -> Secret {
        let password = hmac::sign(&self.0, role.as_bytes());
        Secret::new(password.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// What the server keeps of it. The password itself is never sent, and so never logged.
    pub(crate) fn verifier(&self, role: &str) -> String {
        verifier(&self.of(role), Uuid::new_v4().as_bytes(), ROUNDS)
    }
}

fn stretch(secret: &[u8], salt: &[u8], rounds: NonZeroU32) -> [u8; SHA256_OUTPUT_LEN] {
    let mut key = [0; SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, secret, &mut key);
    key
}

/// What SCRAM-SHA-256 checks a password with (RFC 5802), in PostgreSQL's form.
fn verifier(password: &Secret, salt: &[u8], rounds: NonZeroU32) -> String {
    let salted = stretch(password.expose().as_bytes(), salt, rounds);
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest(&SHA256, hmac::sign(&salted, b"Client Key").as_ref());
    let server = hmac::sign(&salted, b"Server Key");
    let [salt, stored, server] =
        [salt, stored.as_ref(), server.as_ref()].map(|bytes| BASE64_STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${rounds}:{salt}${stored}:{server}")
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_a_password_of_its_own() {
        let deployment = DeploymentId::random();
        let passwords = |secret| Passwords::new(&Secret::new(secret), deployment);
        let ours = passwords("a secret of this test");
        let one = ours.of("one");
        assert_eq!(one.expose(), passwords("a secret of this test").of("one").expose());
        assert_ne!(one.expose(), ours.of("two").expose());
        assert_ne!(one.expose(), passwords("another secret").of("one").expose());
        let elsewhere =
            Passwords::new(&Secret::new("a secret of this test"), DeploymentId::random());
        assert_ne!(one.expose(), elsewhere.of("one").expose());
        assert_eq!(one.expose().len(), 64);
        assert!(!ours.verifier("one").contains(one.expose()));
        assert!(!format!("{ours:?}").contains("secret"));
    }

    #[test]
    fn it_is_what_postgresqls_own_driver_makes_of_a_password() {
        let password = Secret::new("0123456789abcdef");
        let theirs = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        let salt = theirs.split(['$', ':']).nth(2).unwrap();
        let salt = BASE64_STANDARD.decode(salt).unwrap();
        let rounds = NonZeroU32::new(4096).unwrap();
        assert_eq!(verifier(&password, &salt, rounds), theirs);
    }
}
