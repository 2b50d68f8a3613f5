//! The seals of records, and the chain that they make.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keys::NamedKey;

/// The seal of a record: base64url of the HMAC-SHA-256 of its canonical form.
pub fn mac(key: &NamedKey, record: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(hmac_sha256::HMAC::mac(record, key.secret()))
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
