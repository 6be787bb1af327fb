//! Keys and tokens of databases and groups: Ed25519, as sqld checks them.

use std::fmt;

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde::{Deserialize, Serialize};

/// What precedes the 32 bytes of an Ed25519 public key in its DER form (RFC 8410, section 4).
const PUBLIC_KEY_HEADER: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a token says.
///
/// Tried with sqld 0.24.32: a token is taken when any key of the namespace signed it. `id` binds
/// it to one namespace (404 on every other); without it, it opens every namespace with that key.
/// `a` is `ro` or `rw`, by default `rw`. A token is still taken for a minute after `exp`. `gid`,
/// and any other claim, is ignored; `p` is not used here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) gid: Option<String>,
    #[serde(default)]
    pub(crate) a: Access,
    /// Seconds since 1970.
    pub(crate) iat: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) exp: Option<i64>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Access {
    #[default]
    #[serde(rename = "rw")]
    Full,
    #[serde(rename = "ro")]
    ReadOnly,
}

/// A key pair.
pub(crate) struct Key {
    private: Vec<u8>,
    public: Vec<u8>,
}

impl Key {
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|error| anyhow!("no Ed25519 key could be made: {error}"))?;
        let pair = Ed25519KeyPair::from_pkcs8(private.as_ref())
            .map_err(|error| anyhow!("an Ed25519 key could not be read back: {error}"))?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { private: private.as_ref().to_vec(), public })
    }

    /// The public key, as sqld wants to have it.
    pub(crate) fn public_pem(&self) -> String {
        let der = [&PUBLIC_KEY_HEADER[..], &self.public].concat();
        let text = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> anyhow::Result<String> {
        let key = EncodingKey::from_ed_der(&self.private);
        let header = Header::new(Algorithm::EdDSA);
        jsonwebtoken::encode(&header, claims, &key).context("a token could not be signed")
    }

    /// The claims of a token that this key signed and that has not expired.
    pub(crate) fn verify(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_ed_der(&self.public);
        Some(jsonwebtoken::decode(token, &key, &validation).ok()?.claims)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// What a token says, whoever signed it. `None`: it is no token.
pub(crate) fn claims(token: &str) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.insecure_disable_signature_validation();
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    Some(jsonwebtoken::decode(token, &DecodingKey::from_secret(&[]), &validation).ok()?.claims)
}

/// Reads what the service takes as an expiration: `never`, or numbers with the units `w`, `d`,
/// `h`, `m` and `s`, largest first or not. `None` is no expiration.
pub(crate) fn expiration(text: &str) -> Option<Option<i64>> {
    if text == "never" {
        return Some(None);
    }
    let mut seconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'w' => 7 * 24 * 3_600,
            b'd' => 24 * 3_600,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (seconds > 0).then_some(Some(seconds))
}

#[cfg(test)]
mod tests {
    use super::{claims as claims_of, *};

    fn claims(exp: Option<i64>) -> Claims {
        Claims { id: Some("a-org".into()), gid: None, a: Access::ReadOnly, iat: 1, exp }
    }

    #[test]
    fn a_token_is_verified_by_its_own_key_only() {
        let [own, other] = [(); 2].map(|()| Key::generate().unwrap());
        let token = own.sign(&claims(None)).unwrap();
        assert_eq!(own.verify(&token), Some(claims(None)));
        assert_eq!(other.verify(&token), None);
        assert_eq!(claims_of(&token), Some(claims(None)));
        assert_eq!(claims_of("a.b.c"), None);
        assert_eq!(own.verify(&own.sign(&claims(Some(1))).unwrap()), None);
    }

    #[test]
    fn expirations_are_read() {
        assert_eq!(expiration("never"), Some(None));
        assert_eq!(expiration("2w1d30m"), Some(Some(15 * 86_400 + 1_800)));
        assert_eq!(expiration("90s"), Some(Some(90)));
        for wrong in ["", "0s", "1", "d", "1x", "-1d", "1d ", "99999999999999999999d"] {
            assert_eq!(expiration(wrong), None, "{wrong:?}");
        }
    }
}
