//! Whom an identifier is sealed for.

use hmac_sha256::Hash;

/// Everything that must be the same when a sealed identifier comes back.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// URI of the protected resource: two gateways with one key do not open each other's envelopes by accident.
    pub resource: &'a str,
    /// Issuer of the caller's token.
    pub issuer: &'a str,
    /// Subject of the caller's token.
    pub subject: &'a str,
    /// Client that the token was issued to. None is not the same as any.
    pub client_id: Option<&'a str>,
    /// Tenant of the caller. None is not the same as any.
    pub tenant: Option<&'a str>,
}

/// An [`Owner`] as a digest: small, and without personal data.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Binding([u8; 32]);

impl Binding {
    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Owner<'_>> for Binding {
    fn from(owner: Owner<'_>) -> Self {
        let Owner { resource, issuer, subject, client_id, tenant } = owner;
        let mut hash = Hash::new();
        for text in [resource, issuer, subject] {
            hash.update(length(text.as_bytes()));
            hash.update(text);
        }
        for optional in [client_id, tenant] {
            match optional {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update(length(text.as_bytes()));
                    hash.update(text);
                }
            }
        }
        Self(hash.finalize())
    }
}

/// The length in front of a part, without which two lists of parts could have the same bytes.
pub(crate) const fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}
