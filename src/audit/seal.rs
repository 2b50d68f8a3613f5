//! The seals of records, and the chain that they make.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::keys::NamedKey;

/// Base64url of 32 bytes: a seal, or the digest of a personal part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seal([u8; Seal::LENGTH]);

impl Seal {
    /// Bytes of its text.
    pub const LENGTH: usize = 43;

    fn new(hash: [u8; 32]) -> Self {
        let mut text = [b'A'; Self::LENGTH];
        // 32 bytes are 43 digits.
        let _ = URL_SAFE_NO_PAD.encode_slice(hash, &mut text);
        Self(text)
    }

    /// The seal of a record: of the HMAC-SHA-256 of its canonical form.
    pub fn of_record(key: &NamedKey, record: &[u8]) -> Self {
        Self::new(key.mac(record))
    }

    /// What a record says of its personal part: of the SHA-256 of the canonical form of that.
    pub fn of_personal(personal: &[u8]) -> Self {
        Self::new(Sha256::digest(personal).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The seal of a record.
pub fn mac(key: &NamedKey, record: &[u8]) -> String {
    Seal::of_record(key, record).as_str().to_owned()
}

/// What a record says of its personal part.
pub fn personal_digest(personal: &[u8]) -> String {
    Seal::of_personal(personal).as_str().to_owned()
}

/// A whole record as one line, in canonical form (RFC 8785), without an end of line.
///
/// `record` and `personal` must be in that form themselves.
pub fn line(mac: &str, personal: Option<&str>, record: &str) -> String {
    match personal {
        Some(personal) => format!(r#"{{"mac":"{mac}","personal":{personal},"record":{record}}}"#),
        None => format!(r#"{{"mac":"{mac}","record":{record}}}"#),
    }
}
