//! Names that stand for values: equal ones for equal values, and nobody without the key can tell for which.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a pseudonym or hash that are written: enough that two values do not meet.
const SHORT: usize = 16;

/// The key of the pseudonyms of one protected resource.
#[derive(Clone, Eq, PartialEq)]
pub struct Pseudonyms {
    key: [u8; 32],
    digest_key: [u8; 32],
}

impl Pseudonyms {
    /// Derives it from the secret of an audit key. Pseudonyms of two resources cannot be joined.
    pub fn new(secret: &[u8], resource: &str) -> Self {
        let key = keyed(secret, "toolgate pseudonyms v1", resource.as_bytes());
        Self { key, digest_key: keyed(&key, "digest v2", &[]) }
    }

    /// What stands for a value: `p_` and 22 characters of base64url. Those of two labels cannot be joined.
    pub fn of(&self, label: &str, value: &[u8]) -> String {
        named("p_", &keyed(&self.key, label, value), SHORT)
    }

    /// What stands for a value in one record: `h_` and 22 characters of base64url. With another salt it is another one, and
    /// without the key nobody can try values.
    pub fn hash(&self, salt: &str, value: &[u8]) -> String {
        let key = keyed(&self.key, "hash", salt.as_bytes());
        named("h_", &keyed(&key, "value", value), SHORT)
    }

    /// A digest of `bytes` in full length: `d_` and 43 characters of base64url.
    ///
    /// Keyed BLAKE3, because `bytes` may be a whole request: in WebAssembly that takes a fifth of the time of SHA-256.
    pub fn digest(&self, bytes: &[u8]) -> String {
        named("d_", blake3::keyed_hash(&self.digest_key, bytes).as_bytes(), usize::MAX)
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pseudonyms").finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 of the label, a zero byte, and the value. No label has a zero byte.
fn keyed(key: &[u8], label: &str, value: &[u8]) -> [u8; 32] {
    let mut mac = hmac_sha256::HMAC::new(key);
    for part in [label.as_bytes(), &[0], value] {
        mac.update(part);
    }
    mac.finalize()
}

fn named(prefix: &str, hash: &[u8; 32], length: usize) -> String {
    let mut name = prefix.to_owned();
    URL_SAFE_NO_PAD.encode_string(hash.get(..length).unwrap_or(hash), &mut name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_those_of_the_key_the_label_and_the_value() {
        let keys = Pseudonyms::new(b"secret", "https://mcp.test/mcp");
        // Computed with another implementation.
        assert_eq!(keys.of("subject", b"jo"), "p_0EIGsylm556-AsOxRiiDEQ");
        assert_eq!(keys.digest(b"{}"), "d_Wm5ml0gK4iu222Os94pRVa0_zKzHa_Met09sAVPBV7o");
        assert_eq!(keys.hash("salt", br#""jo""#), "h_ugfbJSKIeSrkihTAo32OpQ");
        for other in [
            Pseudonyms::new(b"secret2", "https://mcp.test/mcp").of("subject", b"jo"),
            Pseudonyms::new(b"secret", "https://mcp.test/mcp2").of("subject", b"jo"),
            keys.of("argument", b"jo"),
            keys.of("subject", b"jo2"),
        ] {
            assert_ne!(keys.of("subject", b"jo"), other);
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Pseudonyms::new(b"secret", "r")), "Pseudonyms { .. }");
    }
}
