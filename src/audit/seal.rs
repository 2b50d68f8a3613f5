//! The seals of records, and the chain that they make.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A key that seals records, and the name by which a record refers to it.
#[derive(Clone, Eq, PartialEq)]
pub struct AuditKey {
    id: Box<str>,
    secret: Box<[u8]>,
}

impl AuditKey {
    /// The key `secret` under the name `id`.
    pub fn new(id: &str, secret: &[u8]) -> Self {
        Self { id: id.into(), secret: secret.into() }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The seal of a record: base64url of the HMAC-SHA-256 of its canonical form.
    pub fn mac(&self, record: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(hmac_sha256::HMAC::mac(record, &*self.secret))
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuditKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a record says of its personal part: base64url of the SHA-256 of the canonical form of that.
pub fn personal_digest(personal: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(personal))
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
